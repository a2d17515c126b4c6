"""Adapters on disk: what is written, what peft makes of it, what is read back, what is refused."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from torch import nn

from tinylm.config.finetuning import DyLoraConfig, LoraConfig
from tinylm.errors import AdapterError, TinylmError
from tinylm.finetuning.adapters import (
    activate,
    active_adapters,
    adapter_of,
    adapters,
    attach,
    fingerprint,
    merge,
    trained_parameters,
)
from tinylm.finetuning.dylora import set_rank
from tinylm.finetuning.storage import load_adapter, read_adapter, save_adapter
from tinylm.model.decoder import DecoderLM
from tinylm.reading import signed
from tinylm.registry import METHODS

Models = Callable[..., DecoderLM]
IDS = torch.randint(0, 23, (3, 8), generator=torch.Generator().manual_seed(3))
WEIGHTS = torch.randn(3, 8, 23, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
SETTINGS = LoraConfig(
    rank=3, alpha=5, dropout=0.1, bias="adapted", targets=("attention.output", "1.*.expand")
)
TENSORS = "adapter_model.safetensors"
PEFT = "adapter_config.json"
OURS = "tinylm.json"


def randomise(model: nn.Module, name: str = "default", seed: int = 5) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trained_parameters(model, name).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)


@pytest.fixture
def base(small_model: Models) -> DecoderLM:
    return small_model(dropout=0.0).double()


@pytest.fixture
def saved(base: DecoderLM, tmp_path: Path) -> Path:
    """The folder of an adapter of ``base``."""
    model = attach(copy.deepcopy(base), "lora", SETTINGS, "mine")
    randomise(model, "mine")
    save_adapter(model, "mine", tmp_path / "mine")
    return tmp_path / "mine"


def change(path: Path, **values: Any) -> None:
    content = {**json.loads(path.read_text("utf-8")), **values}
    if content.pop("checksum", None):
        content = signed(content)
    path.write_text(json.dumps(content), "utf-8")


def state(model: nn.Module) -> tuple[Any, ...]:
    return (
        {name: value.clone() for name, value in model.state_dict().items()},
        [(name, type(module)) for name, module in model.named_modules()],
        [(name, p.requires_grad) for name, p in model.named_parameters()],
        adapters(model),
        active_adapters(model),
        torch.get_rng_state().tolist(),
    )


def assert_refused(model: nn.Module, folder: Path, message: str) -> None:
    """Loading must fail with one line that says so, and leave the model and the seed alone."""
    before = state(model)
    with pytest.raises(TinylmError, match=message) as raised:
        load_adapter(model, folder)
    assert "\n" not in str(raised.value)
    after = state(model)
    assert before[1:] == after[1:]
    assert all(torch.equal(before[0][name], value) for name, value in after[0].items())


def test_what_is_saved_is_what_was_trained(base: DecoderLM, tmp_path: Path) -> None:
    model = attach(base, "lora", SETTINGS)
    randomise(model)
    size = save_adapter(model, "default", tmp_path / "a" / "b")
    folder = tmp_path / "a" / "b"
    assert sorted(path.name for path in folder.iterdir()) == [PEFT, TENSORS, OURS]
    assert size == (folder / TENSORS).stat().st_size
    stored = safetensors.torch.load_file(folder / TENSORS)
    trained = trained_parameters(model, "default")
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in trained.values())
    assert size < 8 * sum(p.numel() for p in trained.values()) + 2000
    prefix = "base_model.model.layers.0.attention.output"
    assert set(stored) >= {
        f"{prefix}.lora_A.weight",
        f"{prefix}.lora_B.weight",
        f"{prefix}.base_layer.bias",
    }
    assert torch.equal(
        stored[f"{prefix}.lora_A.weight"], trained["layers.0.attention.output.lora_A"]
    )
    fields = json.loads((folder / PEFT).read_text("utf-8"))
    assert {key: fields[key] for key in ("peft_type", "r", "lora_alpha", "lora_dropout")} == {
        "peft_type": "LORA",
        "r": 3,
        "lora_alpha": 5,
        "lora_dropout": 0.1,
    }
    assert (fields["use_rslora"], fields["bias"]) == (False, "lora_only")
    assert fields["target_modules"] == [
        *("layers.0.attention.output", "layers.1.attention.output", "layers.1.feed_forward.expand")
    ]


@pytest.mark.parametrize("how", ["active", "inactive", "merged"])
def test_a_fresh_base_with_it_gives_the_same_bits(
    base: DecoderLM, tmp_path: Path, how: str
) -> None:
    model = attach(copy.deepcopy(base), "lora", SETTINGS, "mine")
    randomise(model, "mine")
    wanted = model(IDS)
    if how == "inactive":
        activate(model, [])
    if how == "merged":
        merge(model)
    save_adapter(model, "mine", tmp_path)
    seed = torch.get_rng_state()
    loaded = load_adapter(copy.deepcopy(base), tmp_path)
    assert torch.equal(torch.get_rng_state(), seed)
    assert torch.equal(loaded(IDS), wanted)
    assert adapters(loaded) == ["mine"]
    assert adapter_of(loaded, "mine").settings == SETTINGS
    other = load_adapter(copy.deepcopy(base), tmp_path, "yours")
    assert adapters(other) == ["yours"]
    assert torch.equal(other(IDS), wanted)


def test_several_adapters_of_one_base_are_loaded(base: DecoderLM, tmp_path: Path) -> None:
    wanted = {}
    for seed, name in enumerate("ab"):
        model = attach(copy.deepcopy(base), "lora", SETTINGS, name)
        randomise(model, name, seed)
        wanted[name] = model(IDS)
        save_adapter(model, name, tmp_path / name)
    model = copy.deepcopy(base)
    for name in "ab":
        load_adapter(model, tmp_path / name)
    for name in "ab":
        activate(model, [name])
        assert torch.equal(model(IDS), wanted[name])


def test_an_adapter_is_replaced_whole(base: DecoderLM, saved: Path) -> None:
    model = attach(copy.deepcopy(base), "lora", LoraConfig(rank=1), "next")
    randomise(model, "next")
    save_adapter(model, "next", saved)
    assert torch.equal(load_adapter(copy.deepcopy(base), saved)(IDS), model(IDS))
    assert sorted(path.name for path in saved.iterdir()) == [PEFT, TENSORS, OURS]


def peft_gradients(model: Any) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("base_model.model.")
        .replace(".base_layer", "")
        .removesuffix(".default.weight"): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


@pytest.mark.parametrize("bias", ["none", "adapted", "all"])
@pytest.mark.parametrize("scaling", ["standard", "rank-stabilised"])
def test_peft_reads_ours(
    base: DecoderLM, tmp_path: Path, recwarn: pytest.WarningsRecorder, scaling: Any, bias: Any
) -> None:
    settings = LoraConfig(
        rank=3, alpha=5, scaling=scaling, bias=bias, targets=("attention.output", "unembedding")
    )
    model = attach(copy.deepcopy(base), "lora", settings)
    randomise(model)
    save_adapter(model, "default", tmp_path)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path), is_trainable=True)
    theirs.eval()
    assert not [str(w.message) for w in recwarn if "missing" in str(w.message).lower()]
    ours = model(IDS)
    torch.testing.assert_close(theirs(IDS), ours)
    (ours * WEIGHTS).sum().backward()
    (theirs(IDS) * WEIGHTS).sum().backward()
    gradients = peft_gradients(theirs)
    trained = trained_parameters(model, "default")
    assert gradients.keys() == trained.keys()
    for name, parameter in trained.items():
        assert parameter.grad is not None
        assert parameter.grad.any(), name
        torch.testing.assert_close(gradients[name], parameter.grad)


@pytest.mark.parametrize("bias", ["none", "lora_only", "all"])
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize(
    "targets", [["output", "unembedding"], r"layers\.\d\.attention\.(output|query_key_value)"]
)
def test_ours_reads_peft(
    base: DecoderLM, tmp_path: Path, targets: Any, rslora: bool, bias: Any
) -> None:
    config = peft.LoraConfig(
        r=3, lora_alpha=5, use_rslora=rslora, bias=bias, target_modules=targets
    )
    theirs: Any = peft.get_peft_model(copy.deepcopy(base), config).eval()
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)
    theirs.save_pretrained(str(tmp_path))
    assert not (tmp_path / OURS).exists()
    model = load_adapter(copy.deepcopy(base), tmp_path)
    ours = model(IDS)
    torch.testing.assert_close(ours, theirs(IDS))
    (ours * WEIGHTS).sum().backward()
    (theirs(IDS) * WEIGHTS).sum().backward()
    gradients = peft_gradients(theirs)
    trained = trained_parameters(model, "default")
    assert gradients.keys() == trained.keys()
    for name, parameter in trained.items():
        torch.testing.assert_close(gradients[name], parameter.grad)
    # And once around: what is saved here again is what peft had saved.
    save_adapter(model, "default", tmp_path / "again")
    first = safetensors.torch.load_file(tmp_path / TENSORS)
    again = safetensors.torch.load_file(tmp_path / "again" / TENSORS)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


@pytest.mark.filterwarnings("error:Found missing adapter keys")
def test_a_plain_network_goes_to_peft_and_back(tmp_path: Path) -> None:
    """Its paths are numbers, each of which is the end of another."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6)), nn.Linear(6, 6)).eval()
    x = torch.randn(4, 6)
    model = attach(copy.deepcopy(plain), "lora", LoraConfig(rank=2, targets=(".0", "2")))
    assert len(trained_parameters(model, "default")) == 4
    randomise(model)
    save_adapter(model, "default", tmp_path / "ours")
    theirs: Any = peft.PeftModel.from_pretrained(copy.deepcopy(plain), str(tmp_path / "ours"))
    torch.testing.assert_close(theirs.eval()(x), model(x))
    config = peft.LoraConfig(r=2, target_modules=r"0|2", init_lora_weights=False)
    other: Any = peft.get_peft_model(copy.deepcopy(plain), config).eval()
    other.save_pretrained(str(tmp_path / "theirs"))
    loaded = load_adapter(copy.deepcopy(plain), tmp_path / "theirs")
    assert len(trained_parameters(loaded, "default")) == 4
    torch.testing.assert_close(loaded(x), other(x))


def test_dylora_is_a_lora_of_its_largest_rank_to_peft(base: DecoderLM, tmp_path: Path) -> None:
    settings = DyLoraConfig(rank=4, targets=("attention.output",))
    model = attach(copy.deepcopy(base), "dylora", settings)
    randomise(model)
    save_adapter(model, "default", tmp_path)
    theirs: Any = peft.PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path))
    torch.testing.assert_close(theirs.eval()(IDS), model(IDS))
    loaded = load_adapter(copy.deepcopy(base), tmp_path)
    set_rank(loaded, 2)
    set_rank(model, 2)
    assert torch.equal(loaded(IDS), model(IDS))


def test_an_adapter_of_another_base_is_refused(
    base: DecoderLM, saved: Path, small_model: Models
) -> None:
    other = small_model(seed=1).double()
    message = (
        f"was trained on the base {fingerprint(base)[:12]} and this model is "
        f"{fingerprint(other)[:12]}: load it on its own base"
    )
    assert_refused(other, saved, message)
    with torch.no_grad():
        base.layers[0].attention.output.weight[0, 0] += 1e-9
    assert_refused(base, saved, "was trained on the base")


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("ours", [False, True])
def test_tensors_that_do_not_fit_are_named(
    base: DecoderLM, saved: Path, ours: bool, earlier: bool
) -> None:
    if earlier:
        attach(base, "lora", LoraConfig(rank=1, bias="all", targets=("unembedding",)), "first")
        randomise(base, "first")
    about = json.loads((saved / OURS).read_text("utf-8"))
    whole = safetensors.torch.load_file(saved / TENSORS)
    name = "base_model.model.layers.0.attention.output.lora_B.weight"
    short = "layers.0.attention.output.lora_B"
    cases = {
        f"{short} is missing": {k: v for k, v in whole.items() if k != name},
        f"{short}.more is not of this adapter": {
            **whole,
            name.replace("lora_B.weight", "lora_B.more"): torch.zeros(1),
        },
        rf"{short} has shape \(12, 2\), .* ask for \(12, 3\)": {
            **whole,
            name: whole[name][:, :2].contiguous(),
        },
    }
    for message, tensors in cases.items():
        content = safetensors.torch.save(tensors)
        (saved / TENSORS).write_bytes(content)
        if ours:
            change(saved / OURS, **{**about, "sha256": hashlib.sha256(content).hexdigest()})
        else:
            (saved / OURS).unlink(missing_ok=True)
        assert_refused(base, saved, message)


def test_damage_is_seen(base: DecoderLM, saved: Path) -> None:
    content = bytearray((saved / TENSORS).read_bytes())
    content[-1] ^= 1
    (saved / TENSORS).write_bytes(content)
    assert_refused(base, saved, f"is damaged: {TENSORS} has changed since it was written")
    (saved / TENSORS).write_bytes(b"nonsense")
    assert_refused(base, saved, f"{TENSORS}: is cut short or damaged")
    (saved / TENSORS).unlink()
    assert_refused(base, saved, f"holds no adapter: {TENSORS} is missing")
    assert_refused(base, saved / "nowhere", "holds no adapter")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "tinylm adapter 9"}, "has format 'tinylm adapter 9'"),
        ({"method": "lorra"}, "did you mean lora"),
        ({"settings": {"rank": 0}}, f"{OURS}: .*rank"),
        ({"settings": {"ranks": 3}}, f"{OURS}: .*ranks"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    base: DecoderLM, saved: Path, values: dict[str, Any], message: str
) -> None:
    change(saved / OURS, **values)
    assert_refused(base, saved, message)


def test_an_incomplete_description_is_refused(base: DecoderLM, saved: Path) -> None:
    content = json.loads((saved / OURS).read_text("utf-8"))
    for key in ("method", "settings", "base", "sha256", "name"):
        kept = {k: v for k, v in content.items() if k != key}
        (saved / OURS).write_text(json.dumps(kept), "utf-8")
        assert_refused(base, saved, f"{OURS}: has changed since it was written")
        del kept["checksum"]
        for again in (kept, signed(kept)):
            (saved / OURS).write_text(json.dumps(again), "utf-8")
            assert_refused(base, saved, f"{OURS}: {key} is missing")
    for text, problem in (
        ("{", "not JSON"),
        ("[]", r"holds \[\]: expected keys with values"),
        ("[" * 200_000, "is nested more than 32 deep"),
        (json.dumps(signed({**content, "base": 1.5})), "has changed"),
    ):
        (saved / OURS).write_text(text, "utf-8")
        assert_refused(base, saved, f"{OURS}: {problem}")
    change(saved / OURS, **(content | {"base": 1.5}))
    assert_refused(base, saved, f"{OURS}: base = 1.5: expected text")


def test_a_description_without_a_checksum_is_read(base: DecoderLM, saved: Path) -> None:
    content = json.loads((saved / OURS).read_text("utf-8"))
    checksum = content.pop("checksum")
    (saved / OURS).write_text(json.dumps(content), "utf-8")
    load_adapter(copy.deepcopy(base), saved)
    (saved / OURS).write_text(json.dumps(content | {"checksun": checksum}), "utf-8")
    assert_refused(base, saved, "unknown key checksun")
    content["settings"]["alpha"] *= 2
    (saved / OURS).write_text(json.dumps(content | {"checksum": checksum}), "utf-8")
    assert_refused(base, saved, "has changed since it was written")


def test_without_its_description_the_base_is_still_known(
    small_model: Models, base: DecoderLM, saved: Path
) -> None:
    expected = load_adapter(copy.deepcopy(base), saved).state_dict()
    (saved / OURS).unlink()
    loaded = load_adapter(copy.deepcopy(base), saved, "mine").state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in loaded)
    assert_refused(small_model(seed=3, dropout=0.0).double(), saved, "was trained on the base")


@pytest.mark.parametrize("method", ["qlora", "dylora"])
def test_without_its_description_another_method_does_not_pass_for_lora(
    base: DecoderLM, tmp_path: Path, method: str
) -> None:
    base = base.float()
    model = attach(copy.deepcopy(base), method, METHODS.load(method).Settings(rank=2))
    save_adapter(model, "default", tmp_path)
    (tmp_path / OURS).unlink()
    assert_refused(
        base, tmp_path, f"{OURS} is missing, without which an adapter of method {method}"
    )


def test_numbers_that_are_not_finite_are_refused(base: DecoderLM, saved: Path) -> None:
    tensors = safetensors.torch.load_file(saved / TENSORS)
    name = min(tensors)
    tensors[name].view(-1)[0] = math.inf
    content = safetensors.torch.save(tensors)
    (saved / TENSORS).write_bytes(content)
    change(saved / OURS, sha256=hashlib.sha256(content).hexdigest())
    assert_refused(base, saved, f"{name} is not finite")


@pytest.mark.parametrize(
    "values",
    [
        {"use_dora": True},
        {"rank_pattern": {"output": 2}},
        {"alpha_pattern": {"output": 2}},
        {"modules_to_save": ["unembedding"]},
        {"lora_bias": True},
        {"fan_in_fan_out": True},
        {"init_lora_weights": "pissa"},
        {"layer_replication": [[0, 2]]},
        {"something_new": "yes"},
    ],
)
def test_variants_that_are_not_built_here_are_refused(
    base: DecoderLM, saved: Path, values: dict[str, Any]
) -> None:
    (saved / OURS).unlink()
    load_adapter(copy.deepcopy(base), saved)
    change(saved / PEFT, **values)
    key = next(iter(values))
    assert_refused(base, saved, f"{PEFT}: {key} = .*: plain LoRA and rsLoRA can be read")


def test_another_kind_of_peft_adapter_is_refused(base: DecoderLM, saved: Path) -> None:
    (saved / OURS).unlink()
    change(saved / PEFT, peft_type="VERA")
    assert_refused(base, saved, "peft_type 'VERA' cannot be read; those that can: LORA")
    change(saved / PEFT, peft_type="LORA", bias="some")
    assert_refused(base, saved, "bias")
    safetensors.torch.save_file({"x": torch.zeros(1)}, saved / TENSORS)
    change(saved / PEFT, bias="none")
    assert_refused(base, saved, "there is no lora_A.weight beside it")


def test_a_folder_that_cannot_be_written_is_told(base: DecoderLM, tmp_path: Path) -> None:
    attach(base, "lora", SETTINGS)
    (tmp_path / "file").write_text("in the way", "utf-8")
    with pytest.raises(AdapterError, match="cannot be written"):
        save_adapter(base, "default", tmp_path / "file" / "folder")
    with pytest.raises(AdapterError, match="no adapter is named 'other'"):
        save_adapter(base, "other", tmp_path)


def test_a_write_that_breaks_off_leaves_nothing_that_passes_for_an_adapter(
    base: DecoderLM, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills up after the first file: the old description is not of the new tensors."""
    from tinylm.finetuning import storage

    real, written = storage.write_bytes, []

    def full(path: Path, content: bytes) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        real(path, content)

    monkeypatch.setattr(storage, "write_bytes", full)
    model = attach(copy.deepcopy(base), "lora", LoraConfig(rank=1), "next")
    with pytest.raises(AdapterError, match="cannot be written: No space left on device"):
        save_adapter(model, "next", saved)
    assert_refused(base, saved, "is damaged")


def test_an_adapter_in_another_format_is_read_in_the_model_s(
    small_model: Models, tmp_path: Path
) -> None:
    base = small_model()
    model = attach(copy.deepcopy(base), "lora", LoraConfig(rank=2))
    randomise(model)
    save_adapter(model.double(), "default", tmp_path)
    assert {t.dtype for t in read_adapter(tmp_path).tensors.values()} == {torch.float64}
    loaded = load_adapter(base, tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded(IDS).double(), model(IDS), rtol=1e-3, atol=1e-3)
