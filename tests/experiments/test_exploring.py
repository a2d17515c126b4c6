"""What `tinylm explore` measures at each step, beside what the model itself says there."""

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import tiny_run
from tinylm import LanguageModel
from tinylm.errors import CheckpointError, DataError, GenerationError
from tinylm.experiments.context import Context, SilentConsole, open_run, run_experiment
from tinylm.experiments.exploring.measure import MOST_TOKENS, READINGS, SCORES, explored
from tinylm.experiments.exploring.page import explore_html
from tinylm.interpretability.circuits import composition
from tinylm.interpretability.head_scores import head_scores, repeated_tokens
from tinylm.tokenizers.base import SOS_ID

TEXTS = ["the dog saw the cat .", "once upon a time"]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A trained run of two layers with four snapshots; its best checkpoint is at another step."""
    folder = tmp_path_factory.mktemp("exploring")
    settings = ("model.num_layers=2", "training.snapshots=4", "training.validation_interval=5")
    trained = tiny_run(folder / "run", folder / "cache", *settings, "training.learning_rate=1e-2")
    run_experiment("training", trained)
    return open_run(folder / "run", SilentConsole())


@pytest.fixture(scope="module")
def result(context: Context) -> dict[str, Any]:
    return explored(context, TEXTS)


def model_at(context: Context, step: int) -> LanguageModel:
    path = context.folder / f"snapshots/step-{step}"
    return LanguageModel.load(path if path.exists() else context.folder)


def test_moments_are_the_snapshots_and_the_best(context: Context, result: dict[str, Any]) -> None:
    steps = [moment["step"] for moment in result["moments"]]
    best = int((context.folder / "checkpoints/best").readlink().name.removeprefix("step-"))
    assert steps == sorted({0, 1, 3, 12, best})
    assert result["best_step"] == best
    assert [sentence["text"] for sentence in result["sentences"]][:2] == TEXTS
    assert len(result["sentences"]) >= 4
    json.dumps(result, allow_nan=False)


def test_sentences_are_what_each_model_says(context: Context, result: dict[str, Any]) -> None:
    for moment in result["moments"]:
        lm = model_at(context, moment["step"])
        for sentence, measured in zip(result["sentences"], moment["sentences"], strict=True):
            ids = torch.tensor([SOS_ID, *lm.tokenizer.encode(sentence["text"])])
            trace = lm.trace(sentence["text"])
            assert trace.ids[0].tolist() == ids.tolist()
            assert sentence["words"] == list(trace.words[0])
            check_attention(measured["attention"], trace)
            logits = trace.logits[0].double()
            check_lens(measured["lens"][-1], logits.softmax(-1), ids, result["words"], lm)
            answers = [*ids[1:].tolist(), int(logits[-1].argmax())]
            spelled = [lm.tokenizer.token(token) for token in answers]
            assert [result["words"][i] for i in measured["answers"]] == spelled
            # All parts together are the logit less the mean logit, each rounded to 0.005.
            wanted = logits[range(len(ids)), answers] - logits.mean(-1)
            parts = torch.tensor(measured["attribution"], dtype=torch.float64)
            assert len(parts) == len(result["parts"])
            assert (parts.sum(0) - wanted).abs().max() <= 0.005 * len(parts) + 1e-4


def check_attention(kept: str, trace: Any) -> None:
    levels = torch.frombuffer(bytearray(base64.b64decode(kept)), dtype=torch.uint8).double() / 255
    seq = trace.ids.shape[1]
    below = torch.ones(seq, seq, dtype=torch.bool).tril()
    wanted = torch.stack([trace.pattern(layer)[0] for layer in range(2)])[..., below]
    assert levels.numel() == wanted.numel()
    assert (levels - wanted.flatten()).abs().max() <= 0.5 / 255 + 1e-6


def check_lens(
    kept: list[Any],
    probabilities: torch.Tensor,
    ids: torch.Tensor,
    words: list[str],
    lm: LanguageModel,
) -> None:
    """The last place is the model's own distribution."""
    tops, shares, ranks = kept
    for position, top in enumerate(tops):
        values, tokens = probabilities[position].topk(3)
        assert [share for _, share in top] == pytest.approx(values.tolist(), abs=6e-5)
        assert words[top[0][0]] == lm.tokenizer.token(int(tokens[0]))
    following = probabilities[range(len(ids) - 1), ids[1:]]
    assert shares == pytest.approx(following.tolist(), abs=6e-5)
    larger = (probabilities[:-1] > following[:, None]).sum(-1) + 1
    assert ranks == larger.tolist()


def test_scores_are_those_of_each_model(context: Context, result: dict[str, Any]) -> None:
    for moment in result["moments"]:
        lm = model_at(context, moment["step"])
        types = range(4, lm.tokenizer.vocab_size)
        scores = head_scores(lm.model, repeated_tokens(types, result["repeated"], 16, SOS_ID))
        for kept, name in zip(moment["scores"], SCORES, strict=True):
            assert (torch.tensor(kept) - getattr(scores, name)).abs().max() <= 5.1e-4
        for kept, reading in zip(moment["composition"], READINGS, strict=True):
            made = composition(lm.model, reading)
            assert (torch.tensor(kept["scores"]) - made.scores).abs().max() <= 5.1e-4
            assert kept["baseline"] == pytest.approx(made.baseline, abs=5e-5)


def test_parts_are_named_in_order(result: dict[str, Any]) -> None:
    assert result["parts"] == [
        "embedding", "positions",
        *("head 1.1", "head 1.2", "1 attention bias", "1 feed-forward", "1 feed-forward bias"),
        *("head 2.1", "head 2.2", "2 attention bias", "2 feed-forward", "2 feed-forward bias"),
        *("norms' biases", "unembedding bias"),
    ]  # fmt: skip


def test_samples_come_from_their_step(context: Context, result: dict[str, Any]) -> None:
    settings = context.config.generation
    for moment in result["moments"]:
        lm = model_at(context, moment["step"])
        for prompt, sample in zip(result["prompts"], moment["samples"], strict=True):
            assert sample["begun"].startswith(prompt)
        text = lm.generate(list(result["prompts"]), settings, max_new_tokens=40)[0].text
        first = moment["samples"][0]
        assert first["begun"] + "\n".join(first["lines"]) == text


def test_the_example_of_the_documents(
    context: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = Path(__file__).parents[2] / "docs/interpretability.md"
    section = document.read_text("utf-8").partition("## Snapshots")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/try").symlink_to(context.folder)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    printed = [line.partition(" ") for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _, _ in printed] == ["step-0", "step-1", "step-3", "step-12"]
    for name, _, word in printed:
        lm = LanguageModel.load(context.folder / "snapshots" / name)
        logits = lm.trace("The dog saw the").logits[0, -1]
        assert word == lm.tokenizer.token(int(logits.argmax()))


# --- what is said of bad input ---


def test_a_damaged_snapshot_is_left_out_and_told(context: Context) -> None:
    path = context.folder / "snapshots/step-3/manifest.json"
    before = path.read_bytes()
    path.write_bytes(before[:-2])
    console = SilentConsole()
    try:
        result = explored(open_run(context.folder, console), TEXTS)
    finally:
        path.write_bytes(before)
    assert 3 not in [moment["step"] for moment in result["moments"]]
    (warning,) = console.warnings
    assert warning.startswith(f"snapshot {path.parent} is damaged (")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' has no word: give a sentence of one at least"),
        (" \n", "has no word"),
        ("the dog " * 30, "has 61 tokens, <sos> included: give a sentence of at most 16"),
    ],
)
def test_sentences_that_cannot_be_shown(context: Context, text: str, said: str) -> None:
    with pytest.raises(GenerationError) as caught:
        explored(context, ["the dog", text])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert MOST_TOKENS > 16


def test_a_corpus_that_is_gone(context: Context, tmp_path: Path) -> None:
    data = replace(context.config.data, corpus="files", path=str(tmp_path / "gone"))
    console = SilentConsole()
    without = Context(context.folder, replace(context.config, data=data), console)
    with pytest.raises(DataError, match="or give a sentence of your own"):
        explored(without)
    result = explored(without, TEXTS)
    assert [sentence["text"] for sentence in result["sentences"]] == TEXTS
    (warning,) = console.warnings
    assert warning.endswith("only the sentences given are shown")


def test_a_run_without_a_checkpoint(tmp_path: Path) -> None:
    context = tiny_run(tmp_path / "run", tmp_path / "cache")
    with pytest.raises(CheckpointError, match="does not exist"):
        explored(context)


def test_a_page_holds_no_text_as_markup(result: dict[str, Any]) -> None:
    hostile = "</script><img src=x onerror=alert(1)>&\u202e"
    changed = {**result, "sentences": [{"text": hostile, "words": [hostile]}]}
    page = explore_html(changed, hostile, hostile)
    assert "<img" not in page and "\u202e" not in page
    assert page.count("</script>") == 2
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
