"""What `tinylm explore` measures at each step, beside what the model itself says there."""

import base64
import json
from dataclasses import replace
from itertools import permutations
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


PAIR = {
    "clean": "the boy saw the",
    "corrupted": "the girl saw the",
    "answer": "girl",
    "wrong": "boy",
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    other = {**PAIR, "answer": "boy", "wrong": "girl"}
    path.write_text("".join(json.dumps(pair) + "\n" for pair in (PAIR, other)), "utf-8")
    return path


@pytest.fixture(scope="module")
def result(context: Context, pairs: Path) -> dict[str, Any]:
    return explored(context, TEXTS, pairs)


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


def test_what_carries_an_answer_is_what_each_model_computes(
    context: Context, result: dict[str, Any]
) -> None:
    checked = [
        check_answers(model_at(context, moment["step"]), moment["answers"][0], result["nodes"])
        for moment in result["moments"]
    ]
    assert sum(checked) >= 2


def check_answers(lm: LanguageModel, answers: dict[str, Any] | None, nodes: list[str]) -> bool:
    """Patches and values of heads by hooks; return whether there is an answer to be carried."""
    ids = {
        key: torch.tensor([[SOS_ID, *lm.tokenizer.encode(PAIR[key])]])
        for key in ("clean", "corrupted")
    }
    right, wrong = (lm.tokenizer.encode(PAIR[key])[0] for key in ("answer", "wrong"))

    @torch.no_grad()
    def reached(text: torch.Tensor, hooks: dict[str, Any]) -> float:
        logits = lm.model(text, hooks=lm.model.hooks(hooks))[0, -1]
        return float(logits[right] - logits[wrong])

    clean, corrupted = (reached(ids[key], {}) for key in ("clean", "corrupted"))
    if answers is None:
        assert abs(clean - corrupted) < 2e-3
        return False
    assert [answers["clean"], answers["corrupted"]] == pytest.approx([clean, corrupted], abs=6e-3)
    trace = {key: lm.trace(PAIR[key]) for key in ids}

    def share(difference: float, low: float = corrupted, high: float = clean) -> float:
        return 100 * (difference - low) / (high - low)

    off = max(1.0, 100 * 1e-5 / abs(clean - corrupted))
    places, _ = trace["clean"].residual_stream()
    for name, row in zip(places, answers["stream"], strict=True):
        for position, kept in enumerate(row, 2):  # after <sos> the

            def put(_: str, x: torch.Tensor, name: str = name, p: int = position) -> Any:
                return torch.cat([x[:, :p], trace["clean"][name][:, p : p + 1], x[:, p + 1 :]], 1)

            assert kept == pytest.approx(share(reached(ids["corrupted"], {name: put})), abs=off)
    patched, _, values = answers["heads"]
    assert len(patched) == len(values) == 4
    subsets = []
    for subset in range(16):

        def leave(name: str, mixed: torch.Tensor, subset: int = subset) -> torch.Tensor:
            layer = int(name.split(".")[1])
            here = [subset >> (2 * layer + head) & 1 for head in range(2)]
            kept = torch.tensor(here, dtype=torch.bool)[None, :, None, None]
            return torch.where(kept, mixed, trace["corrupted"][name])

        subsets.append(share(reached(ids["clean"], {"layers.*.attention.mixed": leave})))
    for head, value in enumerate(values):
        assert value == pytest.approx(shapley(subsets, head), abs=2 * off)
    circuit = answers["circuit"]
    assert len(circuit["edges"]) == (circuit["count"] or 0)
    assert all(0 <= a < b < len(nodes) for a, b, _, _ in circuit["edges"])
    return True


def shapley(values: list[float], player: int) -> float:
    """The mean over all orders of four players."""
    gains = []
    for order in permutations(range(4)):
        before = sum(1 << other for other in order[: order.index(player)])
        gains.append(values[before | 1 << player] - values[before])
    return sum(gains) / len(gains)


def test_questions_are_the_pairs_given(result: dict[str, Any]) -> None:
    first, second = result["questions"]
    assert first["asks"] == "girl or boy"
    assert first["clean"] == ["<sos>", "the", "boy", "saw", "the"]
    assert first["corrupted"] == ["<sos>", "the", "girl", "saw", "the"]
    assert (second["answer"], second["wrong"]) == ("boy", "girl")
    assert result["nodes"] == [
        "embedding",
        *("layers.0.head.0", "layers.0.head.1", "layers.0.feed_forward"),
        *("layers.1.head.0", "layers.1.head.1", "layers.1.feed_forward"),
        "logits",
    ]


def test_a_model_that_cannot_read_the_grammar_is_asked_nothing(context: Context) -> None:
    result = explored(context, TEXTS)
    assert result["questions"] == []
    assert all(moment["answers"] == [] for moment in result["moments"])


def test_the_settings_pairs_are_asked(context: Context, pairs: Path) -> None:
    patching = replace(context.config.experiments.patching, pairs_path=str(pairs))
    experiments = replace(context.config.experiments, patching=patching)
    config = replace(context.config, experiments=experiments)
    result = explored(Context(context.folder, config, SilentConsole()), TEXTS)
    assert [question["asks"] for question in result["questions"]] == ["girl or boy", "boy or girl"]


def test_pairs_that_cannot_be_used(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({**PAIR, "clean": "the zebra saw the"}), "utf-8")
    with pytest.raises(DataError, match=r"pairs\.jsonl, line 1: .*zebra"):
        explored(context, TEXTS, path)
    long = {key: " ".join([PAIR[key]] * 5) for key in ("clean", "corrupted")}
    path.write_text(json.dumps({**PAIR, **long}), "utf-8")
    with pytest.raises(DataError, match=r"pairs\.jsonl, line 1: .* the model reads 16"):
        explored(context, TEXTS, path)


def test_unknown_words_are_told(context: Context) -> None:
    console = SilentConsole()
    with pytest.raises(DataError, match="cannot be read"):
        explored(replace(context, console=console), ["the zyzzy dog"], Path("gone.jsonl"))
    assert console.notes == ["not in the vocabulary, read as <unk>: zyzzy"]


def test_steps_are_left_out_of_a_page_that_grows_too_large(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [moment["step"] for moment in explored(context, TEXTS)["moments"]]
    monkeypatch.setattr("tinylm.experiments.exploring.measure._MOST_BYTES", 1)
    console = SilentConsole()
    result = explored(Context(context.folder, context.config, console), TEXTS)
    assert [moment["step"] for moment in result["moments"]] == [whole[0], whole[-1]]
    (warning,) = console.warnings
    assert warning.endswith("2 of them are shown")


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
