"""``tinylm finetune --method sequence-classification`` and ``tinylm classify``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]
METHOD = ("--method", "sequence-classification")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)
    return Path("run")  # the command line runs in tmp_path


def labelled(path: Path, count: int = 60) -> Path:
    rows = [
        {"text": f"once upon a time there was a {('girl', 'dog')[i % 2]} .", "label": i % 2}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_a_classifier_is_trained_asked_and_measured(
    tinylm: Command, run: Path, tmp_path: Path
) -> None:
    labelled(tmp_path / "rows.jsonl")
    options = ("--steps", 40, "--name", "who", "-o", "bidirectional=true", "-o", "body=full")
    options += ("--learning-rate", 0.01)
    status, out, err = tinylm("finetune", run, *METHOD, "--data", "rows.jsonl", *options)
    assert status == 0, err
    assert "6 texts: accuracy 1.0000, macro F1 1.0000" in out
    assert "answered 0" in out
    assert out.endswith("run/adapters/who\n")
    assert "54 training texts (0 27, 1 27), 6 validation texts" in err
    assert "validation loss" in err

    texts = ("Once upon a time there was a girl.", "once upon a time there was a dog .")
    status, out, err = tinylm("classify", run, "who", *texts)
    assert (status, err) == (0, "")
    assert all(text in out for text in ("p(0)", "p(1)", *texts))
    status, out, _ = tinylm("classify", run, "who", *texts, "--json")
    answers = json.loads(out)
    assert [answer["label"] for answer in answers] == ["0", "1"]
    assert [answer["text"] for answer in answers] == list(texts)
    assert all(sum(answer["probabilities"].values()) == pytest.approx(1) for answer in answers)

    (tmp_path / "more.csv").write_text("text,label\na dog,1\nthere was a girl,1\n", "utf-8")
    status, out, _ = tinylm("classify", run, "who", "--data", "more.csv")
    assert status == 0
    assert "2 texts: accuracy 0.5000" in out
    status, out, _ = tinylm("classify", run, "run/adapters/who", "--data", "more.csv", "--json")
    assert json.loads(out)["confusion"] == [[0, 0], [1, 1]]

    long = "the dog " * 40
    status, _, err = tinylm("classify", run, "who", long)
    assert status == 0
    assert "1 of the texts are cut to 24 tokens" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "sequence-classification needs labelled texts: --data FILE (.jsonl or .csv)"),
        (["--data", "no.csv"], "no.csv does not exist: give a .jsonl or .csv file, or a folder"),
        (["--data", "bad.jsonl"], "bad.jsonl, row 2: the label is null"),
        (["-o", "body=lara"], "body = 'lara': expected frozen, lora or full"),
        (["-o", "bidirectionl=true"], "did you mean bidirectional"),
        (["--data", "rows.jsonl", "-o", "rank=1000"], "rank 1000: "),
        (["--data", "rows.jsonl", "-o", "text_field=txt"], "row 1: no field 'txt'; did you mean"),
        (["--data", "rows.jsonl", "--context-length", "99"], "reads 2 to the model's 24"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    tinylm: Command, run: Path, tmp_path: Path, args: list[str], message: str
) -> None:
    labelled(tmp_path / "rows.jsonl")
    (tmp_path / "bad.jsonl").write_text('{"text":"a","label":1}\n{"text":"a","label":null}\n')
    status, out, err = tinylm("finetune", run, *METHOD, *args)
    assert (status, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("tinylm: ")
    assert message in last
    assert not (tmp_path / "run/adapters").exists() or "rank" in message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["who"], "give either texts to classify or --data FILE"),
        (["who", "a text", "--data", "rows.jsonl"], "give either texts to classify or --data"),
        (
            ["who", "a text"],
            "no classifier 'who' in run/adapters and no such folder; there are: no",
        ),
        (["run", "a text"], "run holds no classifier: classifier.safetensors is missing"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    tinylm: Command, run: Path, args: list[str], message: str
) -> None:
    status, out, err = tinylm("classify", run, *args)
    assert (status, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1
