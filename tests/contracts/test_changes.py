"""What every change of a model must hold: written down, saved, and made again when it is loaded."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.contracts.test_methods import SETTINGS
from tests.training.tiny import tiny_tokenizer
from tinylm.alignment.reward_model import RewardModel
from tinylm.checkpoint import TrainingState, load_checkpoint
from tinylm.checkpoint.writing import save_checkpoint
from tinylm.compression.quantizing import quantize, written
from tinylm.config import ModelConfig, finetuning
from tinylm.config.finetuning import ClassificationConfig
from tinylm.config.quantization import RoundingConfig
from tinylm.errors import AdapterError, CheckpointError
from tinylm.finetuning.adapters import (
    activate,
    active_adapters,
    adapters,
    attach,
    detach,
    fingerprint,
    fold,
    is_merged,
    merge,
    unmerge,
)
from tinylm.finetuning.classification import Classifier
from tinylm.finetuning.dylora import set_rank
from tinylm.finetuning.longlora import extended
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel, Model
from tinylm.model.changes import change
from tinylm.model.decoder import DecoderLM
from tinylm.model.masks import hold
from tinylm.model.weights import load_weights, model_weights
from tinylm.numbers.integers import IntegerFormat
from tinylm.numbers.quantized import format_settings
from tinylm.registry import CHANGES, METHODS, QUANTIZERS

Models = Callable[..., DecoderLM]
IDS = torch.randint(4, 23, (3, 8), generator=torch.Generator().manual_seed(3))


def randomised(model: Model) -> Any:
    """Return a model whose trained parameters are no longer those of a start."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.1 * noise.to(parameter))
    return model.eval()


def with_adapter(model: GenerativeModel, method: str, name: str = "default") -> GenerativeModel:
    attached: GenerativeModel = randomised(attach(model, method, SETTINGS[method], name))
    return attached


def a_longer_context(model: DecoderLM) -> Model:
    return extended(model, 24)


def an_adapter(model: DecoderLM) -> Model:
    return with_adapter(model, "lora")


def another_rank(model: DecoderLM) -> Model:
    nested = with_adapter(model, "dylora")
    set_rank(nested, 2)
    return nested


def two_that_act_together(model: DecoderLM) -> Model:
    both = with_adapter(with_adapter(model, "longlora", "a"), "dylora", "b")
    activate(both, ["b", "a"])
    return both


def what_was_removed_left_a_trace(model: DecoderLM) -> Model:
    return detach(with_adapter(model, "qlora"), "default")


def merged(model: DecoderLM) -> Model:
    adapted = with_adapter(model, "lora")
    merge(adapted)
    return adapted


def folded(model: DecoderLM) -> Model:
    nested = with_adapter(extended(model, 24), "dylora")
    set_rank(nested, 3)
    return fold(nested)


def a_classifier(model: DecoderLM) -> Model:
    chosen = ClassificationConfig(body="lora", rank=2, bidirectional=True, pooler=True)
    return randomised(Classifier(model, 3, chosen, start_id=2))


def a_reward_model(model: DecoderLM) -> Model:
    """Over an adapter, with the mean of its rewards moved."""
    rewarding = randomised(RewardModel(attach(model, "lora", SETTINGS["lora"])))
    rewarding.offset += 0.3
    return rewarding


def masked(model: DecoderLM) -> Model:
    generator = torch.Generator().manual_seed(3)
    paths = ("layers.1.attention.output", "unembedding")
    shapes = {path: model.get_parameter(f"{path}.weight").shape for path in paths}
    hold(model, {p: torch.rand(shape, generator=generator) > 0.5 for p, shape in shapes.items()})
    return model


def quantized(model: DecoderLM) -> Model:
    """After a mask, in several formats, with inputs that are scaled and rounded."""
    masked(model)
    settings = RoundingConfig(bits=3, activations="static")
    quantize(model, QUANTIZERS.load("rtn"), settings, IDS)
    scaled = model.layers[0].attention.output
    scaled.input_scale = torch.linspace(0.5, 2, scaled.in_features)
    model.layers[0].feed_forward.expand.rounding = "dynamic"
    model.layers[0].feed_forward.expand.input_range = None
    model.write_changes([*model.changes[:-1], change("quantize", modules=written(model))])
    return model


MADE: dict[str, Callable[[DecoderLM], Model]] = {
    "extend": a_longer_context,
    "attach": an_adapter,
    "rank": another_rank,
    "activate": two_that_act_together,
    "detach": what_was_removed_left_a_trace,
    "merge": merged,
    "fold": folded,
    "classify": a_classifier,
    "reward": a_reward_model,
    "mask": masked,
    "quantize": quantized,
}
"""Change -> a model that was changed so, and last so."""


def save(folder: Path, model: Model) -> Path:
    return save_checkpoint(folder, model, tiny_tokenizer(), TrainingState(0))


def state_of(model: nn.Module) -> dict[str, Any]:
    """Return all that must be the same, in a form that can be compared."""
    state = {name: (t.dtype, t.tolist()) for name, t in model.state_dict().items()}
    return {**state, "modules": [(name, type(module)) for name, module in model.named_modules()]}


@torch.no_grad()
def outputs(model: Model) -> Tensor:
    result: Tensor = model(IDS)
    return result


def assert_the_same(loaded: Model, model: Model) -> None:
    assert type(loaded) is type(model)
    assert not loaded.training
    assert state_of(loaded) == state_of(model)
    assert torch.equal(outputs(loaded), outputs(model))
    assert (loaded.built, loaded.config) == (model.built, model.config)
    assert json.loads(json.dumps(list(loaded.changes))) == json.loads(
        json.dumps(list(model.changes))
    )


def test_every_change_is_tested_and_documented() -> None:
    assert MADE.keys() == CHANGES.keys()
    assert all(CHANGES.load(name).__doc__ for name in CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_it_is_made_again(name: str, small_model: Models, tmp_path: Path) -> None:
    base = small_model(context_length=16)
    model = MADE[name](copy.deepcopy(base))
    assert model.changes[-1]["change"] == name
    loaded = load_checkpoint(save(tmp_path, model)).build_model()
    assert_the_same(loaded, model)
    first, again = tmp_path / "step-0", save(tmp_path / "again", loaded)
    for file in ("config.json", "model.safetensors"):
        assert (again / file).read_bytes() == (first / file).read_bytes()


@pytest.mark.parametrize("method", METHODS)
def test_an_adapted_model_is_whole(method: str, small_model: Models, tmp_path: Path) -> None:
    """With the adapter and without it, also where the adapter has copies of the base's."""
    base = small_model(context_length=16)
    known = fingerprint(base)
    model = with_adapter(with_adapter(base, method, "first"), method, "second")
    loaded = load_checkpoint(save(tmp_path, model)).build_language_model()
    assert_the_same(loaded, model)
    assert fingerprint(loaded) == known
    for names in (["first"], ["second"], []):
        for each in (model, loaded):
            activate(each, names)
        assert torch.equal(outputs(loaded), outputs(model))
    for name in ("second", "first"):
        model, loaded = detach(model, name), detach(loaded, name)
    assert_the_same(loaded, model)


def test_a_merged_model_is_unmerged_to_the_same_bits(small_model: Models, tmp_path: Path) -> None:
    model = with_adapter(small_model(context_length=16), "lora")
    before = outputs(model)
    merge(model)
    loaded = load_checkpoint(save(tmp_path, model)).build_model()
    assert is_merged(loaded)
    unmerge(loaded)
    assert torch.equal(outputs(loaded), before)
    assert not any(change["change"] == "merge" for change in loaded.changes)


def test_tied_embeddings_stay_tied(small_model: Models, tmp_path: Path) -> None:
    model = with_adapter(small_model(context_length=16, tie_embeddings=True), "longlora")
    loaded = load_checkpoint(save(tmp_path, model)).build_language_model()
    assert loaded.unembedding.weight is loaded.embedding.weight
    assert_the_same(loaded, model)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_whatever_was_done_is_made_again(data: st.DataObject) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 23, "context_length": 16, "num_layers": 1, "num_heads": 2}
    model: GenerativeModel = DecoderLM(ModelConfig(**sizes, hidden_size=12, ffn_size=20)).eval()
    for _ in range(data.draw(st.integers(1, 7))):
        names = adapters(model)
        kind = data.draw(st.sampled_from(["attach", "activate", "detach", "merge", "fold", "rank"]))
        try:
            if kind == "attach":
                method = data.draw(st.sampled_from([m for m in METHODS if m != "intrinsic"]))
                model = with_adapter(model, method, data.draw(st.sampled_from("abc")))
            elif kind == "activate":
                activate(model, data.draw(st.lists(st.sampled_from(names or ["a"]), unique=True)))
            elif kind == "detach":
                model = detach(model, data.draw(st.sampled_from(names or ["a"])))
            elif kind == "merge":
                (unmerge if names and is_merged(model) else merge)(model)
            elif kind == "fold":
                model = fold(model)
            else:
                set_rank(model, data.draw(st.integers(1, 3)), names[0] if names else "a")
        except AdapterError:
            continue  # it cannot be done to this model, and nothing has changed
    with TemporaryDirectory() as folder:
        loaded = load_checkpoint(save(Path(folder), model)).build_language_model()
    assert_the_same(loaded, model)
    assert (adapters(loaded), active_adapters(loaded)) == (adapters(model), active_adapters(model))


def test_a_model_of_another_class_is_saved_with_its_configuration(tmp_path: Path) -> None:
    """A task may bring a model of its own, which is built by its own code."""

    class Bare(Model):
        config = ModelConfig(vocab_size=23)

        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Linear(2, 2)

    model, other = Bare(), Bare()
    kept = load_checkpoint(save(tmp_path, model))
    assert (kept.config, list(kept.changes)) == (model.config, [])
    load_weights(other, kept.weights, kept.path)
    assert torch.equal(other.map.weight, model.map.weight)


def test_adapters_that_came_and_went_leave_no_trace(small_model: Models) -> None:
    model: GenerativeModel = small_model(context_length=16)
    for method in METHODS:
        if method != "qlora":
            model = detach(with_adapter(model, method), "default")
    assert model.changes == ()
    assert model.aside == {}


def test_a_training_that_was_stopped_leaves_a_model(small_model: Models, tmp_path: Path) -> None:
    """Its checkpoint is loaded as any other, into a model that is there already as before."""
    model = with_adapter(small_model(context_length=16), "longlora")
    wanted = outputs(model)
    path = save(tmp_path, model)
    assert torch.equal(outputs(LanguageModel.load(tmp_path).model), wanted)
    other = attach(small_model(context_length=16), "longlora", SETTINGS["longlora"]).eval()
    # Earlier versions did not write what an adapter's own copies stand in for.
    weights = {k: w for k, w in load_checkpoint(path).weights.items() if not k.startswith("aside")}
    assert weights.keys() < model_weights(model).keys()
    load_weights(other, weights, path)
    assert torch.equal(outputs(other), wanted)


# --- files that cannot be what was written ---


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change config.json and let the manifest vouch for it."""
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))
    manifest = json.loads((path / "manifest.json").read_text())
    digest = hashlib.sha256((path / "config.json").read_bytes()).hexdigest()
    manifest["sha256"]["config.json"] = digest
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_checkpoint_of_an_earlier_version_is_a_decoder(
    small_model: Models, tmp_path: Path
) -> None:
    model = small_model()
    path = save(tmp_path, model)

    def older(config: dict[str, Any]) -> None:
        del config["changes"], config["model"]["kind"]

    rewrite(path, older)
    assert_the_same(load_checkpoint(path).build_model(), model)


def attached(**changed: Any) -> dict[str, Any]:
    about = {
        "change": "attach",
        "name": "default",
        "method": "lora",
        "settings": {"rank": 3},
        "base": "0" * 64,
    }
    return about | changed


INT4 = {
    "format": format_settings(IntegerFormat(4)),
    "input_scale": False,
    "rounding": None,
}


def in_groups(size: int) -> dict[str, Any]:
    form = IntegerFormat(4, granularity="group", group_size=size)
    return {**INT4, "format": format_settings(form)}


HEAD = {"num_labels": 3, "settings": {}, "start_id": 2, "base": "0" * 64}
REFUSED: list[tuple[list[Mapping[str, Any]], str]] = [
    ([{"change": "attch"}], r"changes\.0: unknown change of a model 'attch'; did you mean attach"),
    ([{"change": "os:system"}], r"changes\.0: unknown change of a model 'os:system'; allowed: "),
    ([{"change": 3}], r"changes\.0\.change = 3: expected the name of a change"),
    ([{}], r"changes\.0\.change = None: expected the name of a change"),
    ([{"change": "merge"}], r"changes\.0: the model has no adapter"),
    ([{"change": "fold"}], r"changes\.0: the model has no adapter"),
    ([{"change": "merge", "twice": 1}], r"changes\.0: settings: unknown key twice"),
    ([attached(), attached()], r"changes\.1: an adapter 'default' is attached already"),
    ([attached(method="lore")], r"unknown fine-tuning method 'lore'; did you mean lora"),
    ([attached(settings={"rank": 300})], "rank 300: .* set a rank of 1 to 12"),
    ([attached(settings={"rnk": 3})], "unknown key rnk; did you mean rank"),
    (
        [attached(method="intrinsic", settings={"seed": 2**43})],
        "seed = 8796093022208: must be",
    ),
    (
        [attached(method="bottleneck", settings={"targets": [".layers"]})],
        "target layers is a list of modules",
    ),
    ([attached(base="x")], "settings: base = 'x'"),
    ([attached(name="a.b")], r"adapter name 'a\.b' cannot be used"),
    ([attached(), {"change": "rank", "name": "default", "rank": 1}], "has one rank only"),
    ([attached(), {"change": "activate", "names": ["a"]}], "no adapter is named 'a'"),
    ([attached(), {"change": "detach", "name": "a"}], "no adapter is named 'a'"),
    ([{"change": "extend", "context_length": 1}], "context_length = 1: must be at least 2"),
    ([{"change": "extend", "context_length": 3}], "3 is shorter than the model's 10"),
    ([{"change": "extend", "context_length": 10**30}], "more than any memory holds"),
    ([{"change": "extend", "context_length": 10**15}], "of memory"),
    ([attached(), {"change": "extend", "context_length": 20}], "without adapters"),
    ([{"change": "classify", **HEAD, "num_labels": 1}], "1 labels"),
    ([{"change": "classify", **HEAD, "num_labels": 10**15}], "of memory"),
    ([{"change": "classify", **HEAD, "start_id": 23}], "start_id = 23, the model has 22"),
    ([{"change": "classify", **HEAD}] * 2, r"changes\.1: a Classifier comes last"),
    ([{"change": "classify", **HEAD}, attached()], r"changes\.1: a Classifier comes last"),
    ([{"change": "mask", "modules": []}], "settings: modules = \\[\\]"),
    ([{"change": "mask", "modules": ["layers.7"]}], "'layers.7' is no module with a weight"),
    ([{"change": "mask", "modules": ["dropout"]}], "'dropout' is no module with a weight"),
    ([{"change": "quantize", "modules": {}}], "expected at least 1 entry"),
    ([{"change": "quantize", "modules": {"layers.9": INT4}}], "'layers.9' is no linear map"),
    ([{"change": "quantize", "modules": {"*": INT4}}], r"'\*' is no linear map"),
    (
        [{"change": "quantize", "modules": {"unembedding": {**INT4, "format": {"kind": "int"}}}}],
        "unknown number format 'int'; did you mean integer",
    ),
    (
        [{"change": "quantize", "modules": {"embedding": {**INT4, "rounding": "dynamic"}}}],
        "'embedding' has no inputs to scale or round",
    ),
    (
        [{"change": "quantize", "modules": {"embedding": {**INT4, "rounding": "odd"}}}],
        "rounding = 'odd': expected dynamic or static",
    ),
    ([{"change": "quantize", "modules": {"unembedding": INT4}}] * 2, "is quantized already"),
    (
        [{"change": "quantize", "modules": {"unembedding": in_groups(5)}}],
        "group_size = 5 does not divide a row of 12",
    ),
    (
        [{"change": "classify", **HEAD}, {"change": "quantize", "modules": {"x": INT4}}],
        "comes last",
    ),
    ([{"change": "merge"}] * 1001, "lists 1,001 changes, 1,000 can be made at most"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_changes_that_cannot_be_are_refused_in_one_line(
    changes: list[Mapping[str, Any]], message: str, small_model: Models, tmp_path: Path
) -> None:
    path = save(tmp_path, small_model())
    rewrite(path, lambda config: config.update(changes=changes))
    with pytest.raises(CheckpointError, match=message) as raised:
        load_checkpoint(path).build_model()
    assert str(raised.value).startswith(f"{path}/config.json: ")
    assert "\n" not in str(raised.value)


def test_weights_of_other_changes_are_refused(small_model: Models, tmp_path: Path) -> None:
    path = save(tmp_path, with_adapter(small_model(), "lora"))
    rewrite(
        path,
        lambda config: config.update(changes=[attached(settings={"rank": 2, "bias": "adapted"})]),
    )
    with pytest.raises(CheckpointError, match=r"lora_A has shape \(3, 12\), .* \(2, 12\)"):
        load_checkpoint(path).build_model()
    rewrite(path, lambda config: config.update(changes=[]))
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_checkpoint(path).build_model()


def test_a_list_that_is_none_is_refused(small_model: Models, tmp_path: Path) -> None:
    path = save(tmp_path, small_model())
    rewrite(path, lambda config: config.update(changes={"change": "merge"}))
    with pytest.raises(CheckpointError, match=r"changes = .*: expected a list"):
        load_checkpoint(path)


def test_a_classifier_makes_no_text(small_model: Models, tmp_path: Path) -> None:
    save(tmp_path, a_classifier(small_model()))
    with pytest.raises(CheckpointError, match="holds a Classifier, which makes no text"):
        LanguageModel.load(tmp_path)
    classifier = load_checkpoint(tmp_path / "last").build_model()
    with pytest.raises(AdapterError, match=r"attached to its body: give model\.body"):
        attach(classifier, "lora", finetuning.LoraConfig(rank=2))
