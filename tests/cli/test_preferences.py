"""`tinylm preferences`: rankings of own samples in a file that `tinylm align` reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tinylm.data.preferences import read_rankings
from tinylm.tokenizers.word import WordTokenizer

SMALL = ("--prompts", 20, "--max-new-tokens", 30, "--prompt-tokens", 4)


def test_a_rule_ranks_own_samples(tinylm: Command, tiny_run: Path) -> None:
    short = ("preferences", tiny_run, "--rule", "short", "-o", "most_words=5", *SMALL)
    status, out, err = tinylm(*short, "--responses", 5, "--out", "a/right.jsonl")
    assert (status, out) == (0, "a/right.jsonl\n"), err
    rankings = read_rankings(Path("a/right.jsonl"))
    assert f"20 prompts were answered: {20 - len(rankings)} gave no preference" in err
    assert "0 rankings are turned round" in err
    tokenizer = WordTokenizer.load(tiny_run / "checkpoints/best/tokenizer.json")
    for ranking in rankings:
        assert len(tokenizer.encode(ranking.prompt)) == 4
        for better, done in zip(ranking.ranks, ranking.finished, strict=True):
            assert done or better == max(ranking.ranks)  # what was cut off earns nothing
    tinylm(*short, "--responses", 5, "--out", "again.jsonl")
    assert Path("again.jsonl").read_bytes() == Path("a/right.jsonl").read_bytes()
    status, _, err = tinylm(*short, "--responses", 5, "--wrong", 1, "--out", "wrong.jsonl")
    assert f"{len(rankings)} rankings are turned round" in err
    for right, wrong in zip(rankings, read_rankings(Path("wrong.jsonl")), strict=True):
        assert right.responses == wrong.responses
        assert [max(right.ranks) - rank for rank in right.ranks] == list(wrong.ranks)
    status, _, err = tinylm(
        "align", tiny_run, "--method", "dpo", "--preferences", "a/right.jsonl", "--steps", 1,
        "--out", "done", "-o", "held_out_prompts=2",
    )  # fmt: skip
    assert status == 0, err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--rule", "shrt", "--out", "a.jsonl"), "--rule 'shrt': unknown rule; did you mean short"),
        (("--rule", "short", "--out", "a.json"), "rankings are JSON lines: call the file NAME.js"),
        (("--rule", "short", "--out", "old.jsonl"), "old.jsonl is there already: delete it, or"),
        (("--rule", "short", "--out", "a.jsonl", "-o", "most=3"), "unknown key most; did you mean"),
        (
            ("--rule", "words", "--out", "a.jsonl", "-o", "words=[xylophone]"),
            "are all as good as each other by given words: there is nothing to prefer",
        ),
        (
            ("--rule", "short", "--out", "a.jsonl", "--temperature", "inf"),
            "--temperature inf: give a finite number",
        ),
        (
            ("--rule", "short", "--out", "a.jsonl", "-o", "words=[dog]"),
            "words is a setting of words, not of short: leave it out, or give --rule words",
        ),
        (
            ("--rule", "short", "--out", "a.jsonl", "--prompt-tokens", 99),
            "--prompt-tokens 99 leaves no room in the context of 24: give 23 at most",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    tinylm: Command, tiny_run: Path, options: tuple[object, ...], message: str
) -> None:
    Path("old.jsonl").write_text("kept", "utf-8")
    status, out, err = tinylm("preferences", tiny_run, *SMALL, *options)
    assert (status, out) == (1, "")
    assert message in err.splitlines()[-1]
    assert [path.name for path in Path().glob("*.json*")] == ["old.jsonl"]
    assert Path("old.jsonl").read_text("utf-8") == "kept"
