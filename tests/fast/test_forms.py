"""Quick forms: what installing them changes, and that nothing else does."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tinylm.config import ModelConfig
from tinylm.config.finetuning import LoraConfig, PrefixConfig, PromptConfig
from tinylm.fast import DECODING, PLAIN, WHOLE, Form, for_decoding, install, is_quick, loops, remove
from tinylm.fast.cache import StepCache
from tinylm.fast.loops.decoding import Layers
from tinylm.finetuning.adapters import attach
from tinylm.model.decoder import DecoderLM
from tinylm.registry import ACTIVATIONS, POSITIONS
from tinylm.training.precision import cpu_has_bf16

pytestmark = [
    pytest.mark.skipif(not loops.available(), reason="no numba, or not on Linux"),
    pytest.mark.usefixtures("keep_threads"),
]
FORMS = {"whole": WHOLE, **DECODING}
IDS = torch.randint(4, 61, (3, 13), generator=torch.Generator().manual_seed(1))
FORMATS = pytest.mark.parametrize(
    "low",
    [
        False,
        pytest.param(
            True,
            marks=pytest.mark.skipif(not cpu_has_bf16(), reason="the processor has no bfloat16"),
        ),
    ],
)


def build(**settings: Any) -> DecoderLM:
    values: dict[str, Any] = {
        "vocab_size": 61,
        "hidden_size": 20,
        "num_heads": 4,
        "head_dim": 6,
        "num_layers": 2,
        "context_length": 16,
        "dropout": 0.1,
    }
    torch.manual_seed(0)
    model = DecoderLM(ModelConfig(**{**values, **settings}))
    for parameter in model.parameters():
        if parameter.dim() == 1:  # biases and norms, which would hide a forgotten one
            nn.init.normal_(parameter, 0.5, 0.3)
    return model


def adapted(kind: str) -> nn.Module:
    settings = {
        "lora": LoraConfig(rank=2),
        "prefix": PrefixConfig(length=3, inner_size=0),
        "prompt": PromptConfig(length=3),
    }
    return attach(build().eval(), kind, settings[kind]).eval()


def contents(model: nn.Module) -> dict[str, Any]:
    """Return all that a model holds but the classes of its parts."""
    return {
        "modules": [(name, id(part)) for name, part in model.named_modules()],
        "parameters": [
            (name, id(p), p.data_ptr(), p.requires_grad, p._version)
            for name, p in model.named_parameters()
        ],
        "buffers": [(name, id(b)) for name, b in model.named_buffers()],
        "state": [(name, value.tolist()) for name, value in model.state_dict().items()],
        "modes": [part.training for part in model.modules()],
        "hooks": [dict(part._forward_hooks) for part in model.modules()],
        "attributes": [sorted(vars(part)) for part in model.modules()],
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["", "lora", "prefix", "prompt"])
def test_installing_changes_classes_and_nothing_else(form: str, kind: str) -> None:
    model = adapted(kind) if kind else build().eval()
    model.get_submodule("base.layers.0" if kind == "prompt" else "layers.0").register_forward_hook(
        lambda *_: None
    )
    before, classes = contents(model), [type(part) for part in model.modules()]
    printed = repr(model)
    install(model, FORMS[form])
    assert is_quick(model)
    assert contents(model) == before
    with torch.no_grad():
        model(IDS[:, :8])  # what quick parts keep for themselves is no part of the model
    assert [(n, v.tolist()) for n, v in model.state_dict().items()] == before["state"]
    assert [(n, id(p)) for n, p in model.named_modules()] == before["modules"]
    remove(model)
    assert not is_quick(model)
    assert [type(part) for part in model.modules()] == classes
    assert contents(model) == before
    assert repr(model) == printed


def test_one_form_takes_the_place_of_another() -> None:
    model = build().eval()
    with torch.no_grad():
        plain = model(IDS)
        for form in (*FORMS.values(), WHOLE, PLAIN):
            install(model, form)
            torch.testing.assert_close(model(IDS).float(), plain, rtol=0.1, atol=0.15)
    assert not is_quick(model)
    with torch.no_grad():
        assert torch.equal(model(IDS), plain)


def test_a_model_of_a_class_of_its_own_keeps_it() -> None:
    class Louder(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    model = build().eval()
    old = model.layers[0].feed_forward.expand  # type: ignore[union-attr]
    louder = Louder(20, old.out_features)  # type: ignore[union-attr, arg-type]
    model.layers[0].feed_forward.expand = louder  # type: ignore[union-attr]
    with torch.no_grad():
        plain = model(IDS)
        install(model)
        torch.testing.assert_close(model(IDS), plain, rtol=1e-4, atol=1e-4)
    assert type(louder) is Louder


def test_a_quick_model_is_copied_and_saved_as_a_plain_one(tmp_path: Any) -> None:
    model = build().eval()
    state = model.state_dict()
    install(model, DECODING["float32"])
    with torch.no_grad():
        logits = model(IDS)
        other = copy.deepcopy(model)
        assert torch.equal(other(IDS), logits)
    fresh = build()
    fresh.load_state_dict(model.state_dict())
    assert all(torch.equal(fresh.state_dict()[name], value) for name, value in state.items())


@pytest.mark.parametrize("norm_placement", ["pre", "post"])
@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_the_plain_ones_whatever_the_layer(
    norm_placement: str, positions: str, activation: str, bias: bool
) -> None:
    """In every combination of what a layer can be, with the same masks, and with padding."""
    model = build(
        norm_placement=norm_placement, positions=positions, activation=activation, bias=bias
    ).train()
    real = torch.arange(13) < torch.tensor([[13], [9], [4]])
    labels = IDS.roll(-1, 1).masked_fill(~real, -1)

    def results(form: Form) -> list[Tensor]:
        install(model, form)
        model.zero_grad()
        torch.manual_seed(5)
        loss = model.summed_loss(model.residual(IDS, real=real), labels, -1)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return [loss.detach(), *gradients]

    plain, quick = results(PLAIN), results(WHOLE)
    assert len(plain) == len(quick) == len(list(model.parameters())) + 1
    for expected, value in zip(plain, quick, strict=True):
        scale = max(float(expected.abs().max()), 0.01)
        assert float((value - expected).abs().max()) <= 2e-4 * scale


@FORMATS
@pytest.mark.parametrize("norm_placement", ["pre", "post"])
@pytest.mark.parametrize("training", [False, True])
def test_without_gradients_the_quick_parts_compute_the_same(
    low: bool, norm_placement: str, training: bool
) -> None:
    model = build(norm_placement=norm_placement).train(training)
    install(model, WHOLE)
    outputs = []
    for wanted in (True, False):
        torch.manual_seed(1)  # dropout's masks
        with (
            torch.set_grad_enabled(wanted),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=low),
        ):
            outputs.append(model(IDS))
    assert outputs[0].requires_grad
    assert not outputs[1].requires_grad
    # LayerNorm alone has another order of operations where no gradient is wanted.
    torch.testing.assert_close(*outputs, rtol=0, atol=0 if norm_placement == "post" else 1e-2)


@FORMATS
def test_two_models_in_two_threads_keep_their_own_way(
    low: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain one never takes a loop, the quick one does, while both train at once."""
    took: list[int] = []
    mix = loops.attention.attend

    def attend(*arguments: Any) -> Tensor:
        took.append(threading.get_ident())
        return mix(*arguments)

    monkeypatch.setattr(loops.attention, "attend", attend)
    torch.set_num_threads(1)
    quick, plain = build(dropout=0.0).train(), build(dropout=0.0).train()
    install(quick)

    def train(model: DecoderLM, steps: int) -> list[float]:
        model.load_state_dict(start)
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        losses = []
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                loss = model.summed_loss(model.residual(IDS), IDS.roll(-1, 1), -1)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        return losses

    start = copy.deepcopy(quick.state_dict())
    alone = {"quick": train(quick, 12), "plain": train(plain, 12)}
    took.clear()
    together: dict[str, list[float]] = {}
    both = threading.Barrier(2)

    def work(name: str, model: DecoderLM) -> None:
        both.wait()
        together[name] = train(model, 12)

    threads = {
        name: threading.Thread(target=work, args=(name, model))
        for name, model in (("quick", quick), ("plain", plain))
    }
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join()
    assert together == alone
    assert set(took) == {threads["quick"].ident}
    assert len(took) == 12 * 2  # a layer and a step


def edit(activation: Tensor) -> None:
    """Scale the numbers in place, each by another factor, which no norm takes back."""
    with torch.no_grad():
        activation.mul_(torch.linspace(-2, 1, activation.shape[-1]))


@FORMATS
@pytest.mark.parametrize("norm_placement", ["pre", "post"])
def test_a_hook_that_edits_in_place_does_the_same_to_both(low: bool, norm_placement: str) -> None:
    """At every name: what it leaves in the tensor is what is read of it."""
    model = build(norm_placement=norm_placement).eval()
    plain, quick = model, copy.deepcopy(model)
    install(quick)
    names = list(model.activation_shapes(1, 1))
    assert len(names) == 2 * 12 + 3
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        untouched = plain(IDS)
        for name in names:
            hooks = plain.hooks({name: lambda _, activation: edit(activation)})
            wanted, logits = plain(IDS, hooks=hooks), quick(IDS, hooks=hooks)
            change = float((wanted - untouched).abs().max())
            assert change > 1e-3, name
            assert float((logits - wanted).abs().max()) < (0.3 if low else 1e-3) * change, name


def before(module: nn.Module, edit: Callable[[Tensor], Any]) -> Any:
    return module.register_forward_pre_hook(lambda _, arguments: edit(arguments[0]))


def after(module: nn.Module, edit: Callable[[Tensor], Any]) -> Any:
    return module.register_forward_hook(lambda _module, _arguments, out: edit(out))


@FORMATS
@pytest.mark.parametrize("place", [before, after])
def test_a_modules_hook_that_edits_in_place_does_the_same_to_both(
    low: bool, place: Callable[..., Any]
) -> None:
    """A part that got a copy in bfloat16 beside its input would read what is no longer so."""
    plain = build().eval()
    quick = copy.deepcopy(plain)
    install(quick)

    def logits(model: DecoderLM, name: str) -> Tensor:
        handle = place(model.get_submodule(name), edit)
        try:
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                return model(IDS).float()  # type: ignore[no-any-return]
        finally:
            handle.remove()

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
        untouched = plain(IDS).float()
    for name, part in plain.layers.named_modules(prefix="layers"):
        if isinstance(part, nn.ModuleList):  # never called
            continue
        wanted = logits(plain, name)
        difference = float((logits(quick, name) - wanted).abs().max())
        change = float((wanted - untouched).abs().max())
        assert change > 1e-3, name
        assert difference < (0.5 if low else 1e-3) * change, name


@pytest.mark.parametrize("kind", ["prompt", "prefix"])
@pytest.mark.parametrize("rows", [1, 3])
def test_a_model_with_a_trained_beginning_decodes_by_quick_steps(
    kind: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of its decoding is one call, and gives what the plain model gives."""
    calls: list[int] = []
    step = Layers.step

    def counted(self: Layers, *arguments: Any) -> Tensor:
        calls.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(Layers, "step", counted)
    plain = adapted(kind)
    quick = for_decoding(plain)

    def decoded(model: Any) -> Tensor:
        with torch.inference_mode():
            state = model.decoding_state(rows)
            assert isinstance(state, StepCache) == (model is quick)
            streams = [model.residual(IDS[:rows, :4], cache=state)]
            streams += [model.residual(IDS[:rows, t : t + 1], cache=state) for t in range(4, 10)]
        return torch.cat(streams, 1)

    wanted = decoded(plain)
    assert not calls
    torch.testing.assert_close(decoded(quick), wanted, rtol=1e-4, atol=1e-4)
    assert len(calls) == 6 + (rows == 1)  # a short prompt is read by one, too
