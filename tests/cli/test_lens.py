"""``tinylm lens``: what it prints and writes, and texts that it refuses."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tinylm.experiments.lens import tuning
from tinylm.experiments.lens.reading import share
from tinylm.experiments.lens.tuning import FILE
from tinylm.interpretability.lens import READ, lens
from tinylm.interpretability.tuned_lens import read_tuned_lens
from tinylm.language_model import LanguageModel
from tinylm.locks import LockedError
from tinylm.printable import in_line

TEXT = "The dog saw the cat."


def cells(printed: str) -> list[list[str]]:
    """Return the rows of tables, without their frames."""
    rows = [line for line in printed.splitlines() if line.startswith(("│", "┃"))]
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in rows]


def test_it_prints_what_each_place_says(tinylm: Command, tiny_run: Path) -> None:
    status, out, err = tinylm("lens", tiny_run, TEXT)
    assert (status, err) == (0, "")
    assert " ".join(out.split()).startswith(READ["post"])
    lm = LanguageModel.load(tiny_run)
    traced = lm.trace(TEXT)
    read = lens(traced)
    rows = cells(out)
    # <sos> and six tokens, two lines each but for the last; three places.
    words = rows[2:15]
    assert [row[0] for row in words[::2]] == list(traced.words[0])
    assert [row[0] for row in words[1::2]] == [f"→ {word}" for word in traced.words[0][1:]]
    for position in range(7):
        for place in range(3):
            word = in_line(lm.tokenizer.token(int(read.top_ids[place, 0, position, 0])))
            probability = float(read.top_probabilities[place, 0, position, 0])
            cell = words[2 * position][place + 1]
            assert cell.startswith(f"{word[:9]}"), cell
            assert f" {share(probability)}" in cell
            assert cell.endswith(" =") == bool(read.agrees[place, 0, position])
            if position < 6:
                assert words[2 * position + 1][place + 1].startswith(
                    f"#{int(read.ranks[place, 0, position]):,} "
                )
    by_place = [row for row in rows if row[0] in ("embedding", "1 attention", "1 feed-forward")]
    assert [row[1] for row in by_place] == [
        f"{value:.3f}" for value in read.divergences[:, 0].mean(-1)
    ]
    assert by_place[-1][1:3] == ["0.000", "100%"]


def test_a_narrow_terminal_gets_the_places_in_several_tables(
    tinylm: Command, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    status, out, _ = tinylm("lens", tiny_run, TEXT)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 40
    assert out.count("→ next") == 3


def test_the_page_escapes_what_it_is_given(tinylm: Command, tiny_run: Path) -> None:
    text = 'the dog <script src="1"> @@ROWS@@ \x1b[31m &'
    status, out, err = tinylm("lens", tiny_run, text, "--html", "sub/page.html")
    assert status == 0, err
    assert out.splitlines()[-1] == "sub/page.html"
    assert "\x1b[31m" not in out + err
    page = Path("sub/page.html").read_text("utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    title = "Logit lens: the dog &lt;script src=&quot;1&quot;&gt; @@ROWS@@ \ufffd[31m &amp;"
    assert page.count(title) == 2  # of the window and on the page
    assert page.count("<td") == 3 * page.count('scope="row"')
    assert "http" not in page.replace("http-equiv", "")


def test_a_tuned_lens_is_trained_once_and_again_for_other_weights(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, symlinks=True)
    status, first, err = tinylm("lens", run, TEXT, "--tuned")
    assert status == 0, err
    assert "Training the tuned lens: done" in err
    assert " ".join(first.split()).startswith("A tuned lens: an affine map at each place but the")
    kept = (run / FILE).read_bytes()
    status, again, err = tinylm("lens", run, TEXT, "--tuned")
    assert (status, err, again) == (0, "", first)
    ours = read_tuned_lens(run / FILE)
    replace(ours, model="0" * 64).save(run / FILE)
    status, _, err = tinylm("lens", run, TEXT, "--tuned")
    assert status == 0, err
    assert f"{run / FILE} was trained for other weights than these: it is trained again" in err
    assert (run / FILE).read_bytes() == kept  # by the same seed
    (run / FILE).write_bytes(kept[:-1])
    status, out, err = tinylm("lens", run, TEXT, "--tuned")
    assert (status, out) == (1, "")
    assert err.startswith(f"tinylm: {run / FILE}")
    assert err.count("\n") == 1


def test_while_another_writes_the_tuned_lens_is_used_and_not_kept(
    tinylm: Command, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run, symlinks=True)

    def held(*_: object) -> object:
        raise LockedError("run is written to by process 1", "wait")

    monkeypatch.setattr(tuning, "writing", held)
    status, _, err = tinylm("lens", run, TEXT, "--tuned")
    assert status == 0, err
    assert "run is written to by process 1: the tuned lens is used and not kept" in err
    assert not (run / FILE).exists()


def test_a_checkpoint_alone_says_where_the_texts_come_from(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    LanguageModel.load(tiny_run).save(tmp_path / "alone")
    assert tinylm("lens", "alone", TEXT)[0] == 0
    status, _, err = tinylm("lens", "alone", TEXT, "--tuned")
    assert (status, err) == (
        1,
        "tinylm: alone belongs to no run: say with --data on which stories the tuned lens is "
        "trained\n",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dog", "the text has one word, so that no word of it follows another: give two at least"),
        ("", "the text has no word, so that no word of it follows another: give two at least"),
        ("zyzzy quux", "no word of the text is in the vocabulary: give one in the words of the"),
        ("dog " * 40, "a text of 41 tokens does not fit into model.context_length = 24"),
    ],
)
def test_texts_with_nothing_to_show_are_refused(
    tinylm: Command, tiny_run: Path, text: str, message: str
) -> None:
    status, out, err = tinylm("lens", tiny_run, text)
    assert (status, out) == (1, "")
    assert err.startswith(f"tinylm: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("page", [".", "", "config/page.html"])
def test_a_page_that_cannot_be_written_is_told_before_anything_is_read(
    tinylm: Command, tiny_run: Path, tmp_path: Path, page: str
) -> None:
    (tmp_path / "config").write_text("a file")
    status, out, err = tinylm("lens", tiny_run, TEXT, "--html", page)
    assert (status, out) == (1, "")
    assert err.startswith("tinylm: --html ")
    assert err.count("\n") == 1


def test_unknown_words_are_told(tinylm: Command, tiny_run: Path) -> None:
    status, _, err = tinylm("lens", tiny_run, "The zyzzy dog.")
    assert (status, err) == (0, "not in the vocabulary, read as <unk>: zyzzy\n")


def test_shares_never_round_to_what_they_are_not() -> None:
    values = (0.0, 1e-9, 0.004, 0.006, 0.5, 0.994, 0.996, 1.0)
    expected = ["0%", "<1%", "<1%", "1%", "50%", "99%", ">99%", "100%"]
    assert [share(value) for value in values] == expected
