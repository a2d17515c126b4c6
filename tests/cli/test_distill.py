"""`tinylm distill`: the student's folder is a run, goes on bit for bit, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Command
from tests.training.tiny import metrics_without_clock, state_without_clock, step_names
from tinylm.checkpoint import load_training_state
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.config import load_config
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import TokenWindows
from tinylm.evaluation.perplexity import split_loss
from tinylm.experiments.context import SilentConsole, open_run
from tinylm.experiments.distilling import lessons_of
from tinylm.experiments.preparation import prepare_data
from tinylm.experiments.records import read_compression, read_distillation
from tinylm.fingerprints import file_sha256
from tinylm.language_model import LanguageModel
from tinylm.model.masks import masks_of
from tinylm.planning import limits
from tinylm.planning.memory import step_peak
from tinylm.reading import signed
from tinylm.registry import DISTILLATIONS
from tinylm.tokenizers.base import EOS_ID

SMALLER = ("-o", "model.hidden_size=8", "-o", "model.dropout=0.2")
TRAINED = (
    *("--steps", 12, "-o", "training.checkpoint_interval=5", "-o", "training.keep_checkpoints=9"),
    *("-o", "training.validation_interval=6", "-o", "training.log_interval=2"),
)
OWN = {
    "sequence": ("-o", "texts=9", "-o", "num_beams=2", "-o", "max_new_tokens=60"),
    "both": ("-o", "texts=9", "-o", "num_beams=2", "-o", "max_new_tokens=60"),
    "on-policy": ("-o", "prompt_tokens=4"),
}


@pytest.fixture
def run(tmp_path: Path, tiny_run: Path) -> Path:
    """A copy of the tiny run, as the teacher, that ends its texts."""
    folder = Path(shutil.copytree(tiny_run, tmp_path / "run", symlinks=True))
    lm = LanguageModel.load(folder)
    assert lm.source is not None
    with torch.no_grad():
        lm.model.unembedding.bias[EOS_ID] += 2.8
    state = load_training_state(lm.source)
    save_checkpoint(folder / "checkpoints", lm.model, lm.tokenizer, state, last=False)
    return folder


def distilled(tinylm: Command, run: Path, method: str, *more: object, out: str = "out") -> str:
    status, printed, err = tinylm(
        *("distill", run, "--out", out, "--method", method, *SMALLER, *TRAINED),
        *(*OWN.get(method, ()), *more),
    )
    assert status == 0, err
    assert printed == f"{out}\n"
    return err


@pytest.mark.parametrize("method", DISTILLATIONS)
def test_a_student_is_a_run_and_goes_on_bit_for_bit(
    method: str, tinylm: Command, run: Path, tmp_path: Path
) -> None:
    err = distilled(tinylm, run, method)
    assert re.search(r"^out: [\d,]+ numbers, the teacher has [\d,]+; 12 steps, best val", err, re.M)
    whole = tmp_path / "out"
    names = {"config.yaml", "checkpoints", "metrics.jsonl", "results", "distillation.json"}
    assert {path.name for path in whole.iterdir()} - {"corpus"} == names
    assert step_names(whole / "checkpoints") == [f"step-{i}" for i in (5, 6, 10, 12)]
    student = LanguageModel.load(whole).model
    assert student.config.hidden_size == 8
    assert student.config.resolved_head_dim == 4  # half of the teacher's, and
    assert student.config.resolved_ffn_size == 32
    assert not student.changes
    written = read_distillation(whole)
    assert written is not None
    assert written["student_weights"] == sum(p.numel() for p in student.parameters())
    for arguments in (("generate", "out", "The dog"), ("evaluate", "out")):
        status, printed, err = tinylm(*arguments)
        assert (status, bool(printed)) == (0, True), err
        assert "other text" not in err

    killed = Path(shutil.copytree(whole, tmp_path / "killed", symlinks=True))
    shutil.rmtree(killed / "results")
    for step in (6, 10, 12):
        shutil.rmtree(killed / f"checkpoints/step-{step}")
    for link in ("best", "last"):
        (killed / "checkpoints" / link).unlink()
    status, _, err = tinylm("train", "--resume", "killed")
    assert status == 0, err
    assert step_names(killed / "checkpoints") == step_names(whole / "checkpoints")
    for step in (6, 10, 12):
        left, right = (folder / f"checkpoints/step-{step}" for folder in (whole, killed))
        for file in ("model.safetensors", "training.safetensors", "config.json"):
            assert (left / file).read_bytes() == (right / file).read_bytes(), (step, file)
        assert state_without_clock(left) == state_without_clock(right)
    assert metrics_without_clock(whole) == metrics_without_clock(killed)


def test_the_corpus_holds_what_generate_with_beams_gives(
    tinylm: Command, run: Path, tmp_path: Path
) -> None:
    err = distilled(tinylm, run, "sequence")
    corpus = tmp_path / "out/corpus"
    assert {path.name for path in corpus.iterdir()} == {"train.jsonl", "validation.jsonl"}
    rows = [json.loads(line) for line in (corpus / "train.jsonl").read_text("utf-8").splitlines()]
    written = read_distillation(tmp_path / "out")
    assert written is not None and written["texts"] is not None
    assert len(rows) + written["texts"]["left_out"] == written["texts"]["beginnings"] == 9
    assert f"the teacher wrote {len(rows)} texts" in err
    assert rows
    teacher = LanguageModel.load(run)
    settings = {"strategy": "beam", "num_beams": 2, "max_new_tokens": 60}
    for row in rows:
        text = teacher.generate(row["prompt"], **settings)  # type: ignore[arg-type]
        assert text.finished
        assert row["text"] == text.text
    # Its next student, of other sizes, gets the same ones without another search.
    again = distilled(tinylm, run, "both", "-o", "model.num_layers=2", out="second")
    assert "The teacher writes" not in again
    assert (tmp_path / "second/corpus/train.jsonl").read_bytes() == (
        corpus / "train.jsonl"
    ).read_bytes()
    # What is trained on is these texts in the teacher's ids, each with its end.
    context = open_run(tmp_path / "out", SilentConsole())
    data = prepare_data(context.config, SilentConsole())
    lessons = lessons_of(context, data)
    assert lessons is not None
    assert isinstance(lessons.train, TokenFile)
    stories = [story.tolist() for story in lessons.train.stories()]
    assert stories == [[2, *teacher.tokenizer.encode(row["text"]), 3] for row in rows]
    assert written["texts"]["tokens"] == sum(map(len, stories))
    # And the folder is a corpus that a plain training takes, held out texts included.
    held = (corpus / "validation.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in held] == list(data.corpus.validation())
    status, _, err = tinylm("data", "--data", corpus)
    assert status == 0, err


def test_settings_of_the_run_and_of_the_method_are_told_apart(
    tinylm: Command, run: Path, tmp_path: Path
) -> None:
    distilled(tinylm, run, "word", "-o", "temperature=3", "-o", "alpha=0.25", "-o",
              "model.num_heads=4", "-o", "model.head_dim=3", "-o", "training.learning_rate=0.005",
              "-o", "model.num_layers=2")  # fmt: skip
    written = read_distillation(tmp_path / "out")
    assert written is not None
    assert written["settings"] == {"alpha": 0.25, "temperature": 3.0}
    config = load_config(tmp_path / "out/config.yaml")
    assert (config.model.num_heads, config.model.head_dim, config.model.ffn_size) == (4, 3, 32)
    assert (config.training.learning_rate, config.training.max_steps) == (0.005, 12)
    teacher = load_config(run / "config.yaml")
    assert config.data == teacher.data and config.model.vocab_size == teacher.model.vocab_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "model.hidden_size=64"), "the student has [\\d,]+ numbers and its teacher [\\d,]+"),
        (("-o", "model.vocab_size=50"), "a student has its teacher's text and vocabulary"),
        (("-o", "tokenizer.kind=bytes"), "a student has its teacher's text and vocabulary"),
        (("-o", "data.train_stories=9"), "a student has its teacher's text and vocabulary"),
        (("-o", "model.context_length=48"), "the teacher reads 24 tokens at most"),
        (("-o", "temperature=0"), "temperature = 0: must be greater than 0"),
        (("-o", "alpha=1.5"), "alpha = 1.5: must be at most 1"),
        (("-o", "alpha=-0.1"), "alpha = -0.1: must be at least 0"),
        (("-o", "beta=0.5"), "beta is a setting of on-policy, not of word"),
        (("-o", "num_layers=1"), "unknown key num_layers; did you mean model.num_layers"),
        (("-o", "modl.num_layers=1"), "unknown key modl.num_layers; did you mean model.num_layers"),
        (
            ("-o", "alpha=0", "-o", "temperature=2"),
            "temperature has no effect with alpha = 0: give",
        ),
        (("--method", "seqence"), "unknown distillation method 'seqence'; did you mean sequence"),
        (("--method", "both", "-o", "prompt_tokens=900"), "no text goes on after 900 known words"),
        (("--method", "on-policy", "-o", "prompt_tokens=24"), "leaves no room in the student's"),
        (
            ("--method", "hidden", "-o", "training.gradient_checkpointing=1"),
            "training.gradient_checkpointing = 1: matching hidden states",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], message: str, tinylm: Command, run: Path, tmp_path: Path
) -> None:
    status, printed, err = tinylm("distill", run, "--out", "out", "--steps", 2, *arguments)
    assert (status, printed) == (1, "")
    last = err.splitlines()[-1]
    assert re.search(message, last), err
    assert last.startswith("tinylm: ")
    assert not (tmp_path / "out").exists()
    # The same command, right, then does.
    status, _, err = tinylm("distill", run, "--out", "out", *SMALLER, "--steps", 2)
    assert status == 0, err


def test_a_folder_with_something_in_it_is_refused(
    tinylm: Command, run: Path, tmp_path: Path
) -> None:
    for name in ("corpus", "notes.txt"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        status, _, err = tinylm("distill", run, "--out", "mine", *SMALLER)
        assert (status, err) == (1, "tinylm: mine is not empty: give --out a new folder\n")
    distilled(tinylm, run, "both")
    status, _, err = tinylm("distill", run, "--out", "out", *SMALLER)
    assert status == 1
    assert "out is not empty: give --out a new folder, or go on: tinylm train --resume out" in err
    # What a command left that was killed before training began.
    for path in (tmp_path / "out").iterdir():
        if path.name not in ("corpus", "distillation.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    distilled(tinylm, run, "both")


def test_what_is_learned_from_must_be_as_it_was(tinylm: Command, run: Path, tmp_path: Path) -> None:
    distilled(tinylm, run, "both")
    shutil.rmtree(tmp_path / "out/results")

    def refused() -> str:
        status, _, err = tinylm("train", "--resume", "out", "-o", "training.max_steps=14")
        assert status == 1
        return err.splitlines()[-1]

    record, corpus = tmp_path / "out/distillation.json", tmp_path / "out/corpus/train.jsonl"
    before, texts = record.read_bytes(), corpus.read_bytes()
    record.write_bytes(before.replace(b'"alpha": 0.5', b'"alpha": 0.7'))
    assert "distillation.json" in refused() and "distill again" in refused()
    values = json.loads(before)
    del values["checksum"]
    values["teacher"]["sha256"] = "0" * 64
    record.write_text(json.dumps(signed(values)))
    assert "has other weights now: distill again" in refused()
    record.write_bytes(before)
    corpus.write_bytes(texts + b'{"text": "One more."}\n')
    assert "holds other texts than the teacher wrote" in refused()
    corpus.write_bytes(texts)
    run.rename(tmp_path / "elsewhere")
    assert "is gone: put it back, or distill again" in refused()
    (tmp_path / "elsewhere").rename(run)
    status, _, err = tinylm("train", "--resume", "out", "-o", "training.max_steps=14")
    assert status == 0, err


STARTED = ("--steps", 12, "-o", "training.checkpoint_interval=5",
           "-o", "training.keep_checkpoints=9", "-o", "training.validations=2",
           "-o", "training.validation_interval=0", "-o", "training.log_interval=2")  # fmt: skip


@pytest.mark.parametrize(
    "pruning",
    [("magnitude", 0.5), ("neurons", 0.5, "-o", "windows=4")],
    ids=["masked", "removed"],
)
def test_a_student_begins_with_the_weights_of_a_pruned_run(
    pruning: tuple[object, ...], tinylm: Command, run: Path, tmp_path: Path
) -> None:
    method, share, *more = pruning
    status, _, err = tinylm(
        "prune", run, "--method", method, "--share", share, "--out", "pruned", *more
    )
    assert status == 0, err
    status, _, err = tinylm("distill", run, "--out", "out", "--start", "pruned", *STARTED)
    assert status == 0, err
    whole, pruned = tmp_path / "out", LanguageModel.load("pruned")
    assert pruned.source is not None
    begun = whole / "start/step-0"
    for file in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (begun / file).read_bytes() == (pruned.source / file).read_bytes()
    student = LanguageModel.load(whole).model
    assert load_config(whole / "config.yaml").model == pruned.model.config == student.config
    masks = masks_of(pruned.model)
    assert bool(masks) == (method == "magnitude")
    assert step_names(whole / "checkpoints") == [f"step-{i}" for i in (0, 5, 6, 10, 12)]
    for step in (5, 6, 10, 12):
        trained = LanguageModel.load(whole / f"checkpoints/step-{step}").model
        assert masks_of(trained).keys() == masks.keys()
        for path, mask in masks.items():
            assert torch.equal(masks_of(trained)[path], mask)
            assert not trained.get_parameter(f"{path}.weight")[~mask].count_nonzero()
        name = "layers.0.feed_forward.expand.weight"
        assert not torch.equal(trained.get_parameter(name), pruned.model.get_parameter(name))
    # Before the first step it is worth what the pruned run is.
    first = metrics_without_clock(whole)[0]
    context = open_run(tmp_path / "pruned", SilentConsole())
    windows = TokenWindows(prepare_data(context.config, SilentConsole()).validation, 24)
    subset = windows.fixed_subset(context.config.training.validation_windows)
    loss = split_loss(pruned.model, windows, context.config.evaluation.batch_size, subset)
    assert (first["kind"], first["step"]) == ("validation", 0)
    assert first["loss"] == pytest.approx(loss.mean, rel=1e-6)
    written = read_distillation(whole)
    assert written is not None and written["start"] is not None
    assert written["start"] == {
        "run": str(tmp_path / "pruned"),
        "checkpoint": pruned.source.name,
        "sha256": file_sha256(pruned.source / "model.safetensors"),
    }

    shutil.rmtree(tmp_path / "pruned")  # nothing of it is needed any more
    for left in ((0, 5), ()):
        killed = Path(shutil.copytree(whole, tmp_path / f"killed{len(left)}", symlinks=True))
        shutil.rmtree(killed / "results")
        for step in {0, 5, 6, 10, 12} - {*left}:
            shutil.rmtree(killed / f"checkpoints/step-{step}")
        for link in ("best", "last"):
            (killed / "checkpoints" / link).unlink()
        status, _, err = tinylm("train", "--resume", killed)
        assert status == 0, err
        for step in (0, 5, 6, 10, 12):
            paths = (folder / f"checkpoints/step-{step}" for folder in (whole, killed))
            left_path, right_path = paths
            for file in ("model.safetensors", "training.safetensors", "config.json"):
                assert (left_path / file).read_bytes() == (right_path / file).read_bytes()
        assert metrics_without_clock(whole) == metrics_without_clock(killed)


def test_a_start_that_cannot_be_is_one_line(tinylm: Command, run: Path, tmp_path: Path) -> None:
    for arguments in (
        ("prune", run, "--share", 0.5, "--out", "pruned"),
        ("quantize", run, "--out", "quantized"),
        ("quantize", "pruned", "--bits", 4, "-o", "group_size=16", "--out", "both"),
        ("train", "--config", run / "config.yaml", "--name", "bytes", "-o", "tokenizer.kind=bytes",
         "-o", "model.vocab_size=null", "-o", "training.max_steps=2",
         "-o", "model.hidden_size=8", "-o", "model.head_dim=4", "-o", "model.ffn_size=8"),
    ):  # fmt: skip
        status, _, err = tinylm(*arguments)
        assert status == 0, err
    for start, options, message in (
        ("pruned", ("-o", "model.num_layers=2"), "-o model.num_layers=2: the student is the model"),
        ("quantized", (), "--start quantized: its model was changed (quantize)"),
        ("both", (), "--start both: its model was changed (quantize)"),
        ("runs/bytes", (), "--start runs/bytes: its tokenizer is another than that of"),
        ("nothing", (), "nothing does not exist"),
        ("pruned/checkpoints/last", (), "give the run"),
    ):
        status, out, err = tinylm(
            "distill", run, "--out", "out", "--start", start, "--steps", 2, *options
        )
        assert (status, out) == (1, ""), start
        assert message in err.splitlines()[-1]
        assert not (tmp_path / "out").exists()
    status, _, err = tinylm("distill", run, "--out", "out", "--start", "pruned", "--steps", 2)
    assert status == 0, err
    for name in ("checkpoints", "results", "start"):
        shutil.rmtree(tmp_path / "out" / name)
    status, _, err = tinylm("train", "--resume", "out")
    assert status == 1
    last = err.splitlines()[-1]
    assert "out/start/step-0 is gone, the weights that training begins with" in last


def test_a_step_counts_the_teacher(
    tinylm: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What holds the student alone does not hold both."""
    distilled(tinylm, run, "word")
    config = load_config(tmp_path / "out/config.yaml")
    alone = step_peak(config.model, config.training).total
    weights = sum(p.nbytes for p in LanguageModel.load(run).model.parameters())
    monkeypatch.setattr(limits, "machine_memory", lambda: alone + weights)
    second = ("distill", run, "--out", "second", *SMALLER, "--steps", 2)
    second += ("-o", "evaluation.batch_size=1")
    status, _, err = tinylm(*second)
    assert status == 1
    assert re.search(r"^tinylm: a training step with .*the teacher [\d.]+ KiB", err, re.M)
    texts = config.training.batch_size * config.model.context_length
    more = texts * 4 * (config.model.hidden_size + load_config(run / "config.yaml").model.ffn_size)  # type: ignore[operator]
    monkeypatch.setattr(limits, "machine_memory", lambda: alone + weights + 4 * more)
    status, _, err = tinylm(*second)
    assert status == 0, err


def test_what_is_made_of_a_student_tells_of_its_teacher(
    tinylm: Command, run: Path, tmp_path: Path
) -> None:
    for arguments in (
        ("prune", run, "--share", 0.3, "--out", "pruned"),
        ("distill", run, "--start", "pruned", "--out", "out", "--steps", 2),
        ("prune", "out", "--share", 0.5, "--out", "again"),
        ("quantize", "again", "--out", "small"),
    ):
        status, _, err = tinylm(*arguments)
        assert status == 0, err
    small, again = (read_compression(tmp_path / name) for name in ("small", "again"))
    pruned, student = read_compression(tmp_path / "pruned"), read_distillation(tmp_path / "out")
    assert small is not None and again is not None and pruned is not None and student is not None
    made = [{**again}, {"command": "distill", **student}, {**pruned}]
    for record in made:
        del record["earlier"]
    assert small["earlier"] == made
    assert [each["command"] for each in made] == ["prune", "distill", "prune"]
