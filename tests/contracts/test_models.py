"""What every kind of model holds; a new one comes under these by its registry line."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.contracts.test_changes import rewrite, save
from tests.training.tiny import tiny_tokenizer, tiny_trainer
from tinylm.checkpoint import load_checkpoint, load_training_state
from tinylm.config import GenerationConfig, ModelConfig, load_config
from tinylm.config.finetuning import LoraConfig
from tinylm.data.windows import pad_rows
from tinylm.errors import CheckpointError, ConfigError
from tinylm.experiments.context import threads
from tinylm.finetuning.adapters import attach, merge
from tinylm.generation.engine import SpecialIds, generate
from tinylm.model.base import GenerativeModel, Model, build
from tinylm.model.decoder import layers_run_by, record
from tinylm.model.weights import load_weights
from tinylm.planning.flops import forward_flops, step_flops
from tinylm.planning.parameters import parameter_counts
from tinylm.registry import MODELS, STRATEGIES
from tinylm.training.loop import Trainer
from tinylm.training.recompute import recomputing

OTHERS: dict[str, Any] = {
    "vocab_size": 30,
    "context_length": 9,
    "num_layers": 1,
    "num_heads": 3,
    "hidden_size": 18,
    "head_dim": 4,
    "ffn_size": 20,
    "dropout": 0.0,
    "norm_placement": "pre",
    "norm_eps": 0.1,
    "activation": "gelu",
    "positions": "alibi",
    "scale_embeddings": False,
    "tie_embeddings": True,
    "bias": False,
}
"""Of every setting another value than the default."""
HALF = torch.tensor([2, 2])
"""Of two rows of four tokens, for kinds that read a source."""
EVERY = pytest.mark.parametrize("name", MODELS)


def built(name: str) -> GenerativeModel:
    torch.manual_seed(0)
    size = tiny_tokenizer().vocab_size
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_size": 12, "context_length": 10}
    return build(ModelConfig(kind=name, vocab_size=size, **sizes)).eval()


@EVERY
def test_it_is_built_from_its_configuration_alone(name: str) -> None:
    model = built(name)
    assert isinstance(model, Model)
    assert type(model) is MODELS.load(name)
    assert model.config == model.built
    assert model.config.kind == name
    assert (model.changes, model.aside) == ((), {})
    again = built(name).state_dict()
    assert all(torch.equal(again[key], tensor) for key, tensor in model.state_dict().items())


@EVERY
def test_a_checkpoint_names_its_kind_and_is_loaded_by_it(name: str, tmp_path: Path) -> None:
    model = built(name)
    path = save(tmp_path, model)
    assert json.loads((path / "config.json").read_text())["model"]["kind"] == name
    loaded = load_checkpoint(path).build_model()
    assert type(loaded) is type(model)
    ids = torch.tensor([[4, 5, 6, 7]])
    assert torch.equal(loaded(ids), model(ids))


@EVERY
def test_it_gives_logits_by_its_residual_stream_and_its_last_map(name: str) -> None:
    model = built(name)
    ids = torch.tensor([[4, 5, 6, 7], [7, 6, 5, 4]])
    x = model.residual(ids)
    logits = model.unembed(x)
    assert logits.shape == (2, 4, model.config.resolved_vocab_size)
    assert torch.equal(model(ids), logits)
    labels = torch.tensor([[5, 6, 7, -100], [6, 5, 4, 3]])
    wanted = torch.nn.functional.cross_entropy(logits.mT, labels, reduction="sum")
    torch.testing.assert_close(model.summed_loss(x, labels, -100), wanted)
    state = model.decoding_state(2)
    steps = [model.residual(ids[:, [i]], cache=state) for i in range(4)]
    torch.testing.assert_close(torch.cat(steps, 1), x)
    assert model.parameter_counts()["total"] == sum(p.numel() for p in model.parameters())


@EVERY
def test_padding_on_either_side_leaves_a_text_as_it_is_alone(name: str) -> None:
    model = built(name).double()
    texts = [[4, 5, 6, 7, 8, 9], [7, 5], [6]]
    for left in (True, False):
        ids, real = pad_rows(texts, left=left)
        x = model.residual(ids, real=real)
        for row, text in enumerate(texts):
            alone = model.residual(torch.tensor([text]))[0]
            torch.testing.assert_close(x[row][real[row]], alone, rtol=0, atol=1e-12)
        # Padding has no gradient, whatever it is.
        x.square().masked_fill(~real[..., None], 0).sum().backward()
        grad = model.embedding.weight.grad
        assert grad is not None
        assert not grad[0].any()


@EVERY
def test_its_settings_have_an_effect_and_others_have_none(name: str) -> None:
    size = tiny_tokenizer().vocab_size
    sizes: dict[str, Any] = {"num_layers": 2, "num_heads": 2, "hidden_size": 12, "dropout": 0.5}
    config = ModelConfig(kind=name, vocab_size=size, context_length=10, **sizes)
    own = MODELS.load(name).settings
    assert set(own) <= set(OTHERS) == {field.name for field in fields(ModelConfig)} - {"kind"}

    def seen(config: ModelConfig) -> list[Tensor]:
        torch.manual_seed(0)
        model = build(config).train()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        x = model(torch.tensor([[4, 5, 6, 7], [7, 6, 5, 4]]))
        capacity = torch.tensor(model.decoding_state(1).capacity)
        return [*model.state_dict().values(), x.detach(), capacity]

    def same(first: list[Tensor], second: list[Tensor]) -> bool:
        return len(first) == len(second) and all(map(torch.equal, first, second))

    before = seen(config)
    assert same(before, seen(config))
    for setting, value in OTHERS.items():
        changed = seen(replace(config, **{setting: value}))
        assert same(before, changed) is (setting not in own), setting
        option = f"model.{setting}={json.dumps(value)}"
        if setting in own:
            load_config(overrides=[option, f"model.kind={name}"])
            continue
        message = rf"model\.{setting} has no effect with model\.kind = {name}: leave it out, or"
        with pytest.raises(ConfigError, match=message):
            load_config(overrides=[option, f"model.kind={name}"])


@EVERY
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_texts_are_the_same_with_and_without_its_state(name: str, strategy: str) -> None:
    model = built(name)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    prompts = [[2], [2, 9, 4, 13], [2, 5, 6, 7, 8, 9, 10, 11, 12, 13]]  # beyond the context of 10
    settings = GenerationConfig(strategy=strategy, max_new_tokens=9, linear="plain", num_beams=3)
    special = SpecialIds(pad=0, sos=2, eos=3, unk=1)
    cached, plain = (generate(model, prompts, settings, special, use) for use in (True, False))
    packed = generate(model, prompts, replace(settings, linear="packed"), special)
    alone = [generate(model, [prompt], settings, special)[0] for prompt in prompts]
    for other in (plain, packed, alone):
        assert [each.ids for each in cached] == [each.ids for each in other]
        assert [each.log_probability for each in cached] == pytest.approx(
            [each.log_probability for each in other], abs=1e-4, rel=1e-4
        )
    assert any(each.slid for each in cached)


@EVERY
def test_it_is_planned_as_it_is_built(name: str) -> None:
    model = built(name)
    assert parameter_counts(model.config) == model.parameter_counts()
    ids = torch.tensor([[4, 5, 6, 7], [7, 6, 5, 4]])
    # As windows are trained on: half of them given to a kind that has a source, a token hidden from
    # one that must find it.
    shown = {"given": torch.tensor([2, 2]), "hidden": ids == 6}
    with FlopCounterMode(display=False) as counter:
        logits = model(ids, **shown)
    assert counter.get_total_flops() == 2 * forward_flops(model.config, 4).total
    with FlopCounterMode(display=False) as counter:
        logits.sum().backward()
    forward = forward_flops(model.config, 4).total
    assert counter.get_total_flops() == 2 * (step_flops(model.config, 4) - forward)
    shapes = model.activation_shapes(2, 4)
    _, kept = record(model, "*", ids, **shown)
    assert {key: tuple(value.shape) for key, value in kept.items()} == shapes


@EVERY
def test_it_learns_and_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    def trainer(folder: str) -> Trainer:
        config = replace(built(name).config, context_length=8, dropout=0.2)
        torch.manual_seed(0)
        (tmp_path / folder).mkdir(exist_ok=True)
        return tiny_trainer(
            tmp_path / folder, build(config), accumulation_steps=2, max_steps=8, batch_size=2
        )

    with threads(1):
        whole = trainer("whole")
        losses = whole.listener.steps
        whole.run()
        assert losses[-1][1] < losses[0][1]
        first = trainer("halves")
        first.total_steps = 4
        first.run()
        path = tmp_path / "halves/checkpoints/step-4"
        second = trainer("halves")
        load_weights(second.model, load_checkpoint(path).weights, path)
        second.restore(load_training_state(path))
        second.run()
    ends = [tmp_path / folder / "checkpoints/step-8" for folder in ("whole", "halves")]
    for file in ("model.safetensors", "training.safetensors"):
        assert (ends[0] / file).read_bytes() == (ends[1] / file).read_bytes()


@EVERY
@pytest.mark.parametrize("segment", [1, 2])
def test_gradient_checkpointing_gives_the_same_gradients(name: str, segment: int) -> None:
    model = build(replace(built(name).config, dropout=0.3)).train()
    ids = torch.tensor([[4, 5, 6, 7], [7, 6, 5, 4]])
    made = []
    for runner in (None, recomputing(segment)):
        model.zero_grad()
        torch.manual_seed(4)
        with layers_run_by(model, runner):
            model(ids, given=HALF).square().sum().backward()
        made.append([p.grad for p in model.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*made, strict=True))


@EVERY
def test_an_adapter_acts_on_all_of_its_maps(name: str) -> None:
    model = built(name).double()
    ids = torch.tensor([[4, 5, 6, 7], [7, 6, 5, 4]])
    before = model(ids, given=HALF)
    attach(model, "lora", LoraConfig(rank=2, targets=("layers.*",), dropout=0.0))
    torch.testing.assert_close(model(ids, given=HALF), before, rtol=0, atol=1e-12)
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        for parameter in trained:
            torch.nn.init.normal_(parameter, std=0.3)
    apart = model(ids, given=HALF)
    apart.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in trained)
    assert (apart - before).abs().max() > 1e-3
    merge(model)
    with torch.no_grad():
        torch.testing.assert_close(model(ids, given=HALF), apart, rtol=0, atol=1e-10)


def test_an_unknown_kind_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.kind = 'decodr': unknown model kind "):
        load_config(overrides=["model.kind=decodr"])
    path = save(tmp_path, built("decoder"))
    rewrite(path, lambda config: config["model"].update(kind="decodr"))
    with pytest.raises(CheckpointError, match="unknown model kind 'decodr'; did you mean") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
