"""DyLoRA: one rank a pass for all maps, cut as defined, and the same when computed again."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tinylm.config import TrainingConfig
from tinylm.config.finetuning import DyLoraConfig, LoraConfig
from tinylm.data.windows import Batch
from tinylm.errors import AdapterError
from tinylm.finetuning.adapters import attach, fold, merge, trained_parameters, unmerge
from tinylm.finetuning.dylora import NestedLowRank, Ranks, set_rank
from tinylm.finetuning.sites import wrappers
from tinylm.model.decoder import DecoderLM
from tinylm.tasks.language_modelling import next_token_loss
from tinylm.training.recompute import recomputing
from tinylm.training.step import TrainingStep

Models = Callable[..., DecoderLM]
IDS = torch.randint(0, 23, (3, 9), generator=torch.Generator().manual_seed(3))
TARGETS = ("attention.output", "feed_forward.expand")


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 5)).double()


def adapted(rank: int = 4, frozen: bool = False, alpha: float = 3.0) -> nn.Sequential:
    model = network()
    settings = DyLoraConfig(rank=rank, alpha=alpha, frozen=frozen, targets=("0", "2"))
    attach(model, "dylora", settings)
    randomise(model)
    return model


def randomise(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in trained_parameters(model, "default").values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 3)


def parts(model: nn.Module) -> dict[str, NestedLowRank]:
    return {path: wrapper.parts["default"] for path, wrapper in wrappers(model)}  # type: ignore[misc]


def cut_by_hand(model: nn.Module, rank: int, alpha: float = 3.0) -> nn.Module:
    """Return the plain network with W + alpha / b B[:, :b] A[:b], sums written out."""
    plain = network()
    with torch.no_grad():
        for path, part in parts(model).items():
            weight = plain.get_submodule(path).weight
            for i in range(rank):
                weight += alpha / rank * torch.outer(part.lora_B[:, i], part.lora_A[i])
    return plain


def drawn_rank(model: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return the rank with which the cut networks give an output; there must be just one."""
    fits = [b for b in range(1, 5) if torch.allclose(cut_by_hand(model, b)(x), y)]
    assert len(fits) == 1
    return fits[0]


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_it_is_usable_at_every_rank(rank: int) -> None:
    model, x = adapted().eval(), torch.randn(7, 6, dtype=torch.float64)
    largest = model(x)
    torch.testing.assert_close(largest, cut_by_hand(model, 4)(x))
    set_rank(model, rank)
    wanted = cut_by_hand(model, rank)(x)
    torch.testing.assert_close(model(x), wanted)
    merge(model)
    torch.testing.assert_close(model(x), wanted)
    with pytest.raises(AdapterError, match="unmerge before the rank changes"):
        set_rank(model, 2)
    torch.testing.assert_close(model(x), wanted)
    unmerge(model)
    set_rank(model, 4)
    assert torch.equal(model(x), largest)
    set_rank(model, rank)
    torch.testing.assert_close(fold(model)(x), wanted)


def test_a_model_in_training_mode_is_merged_at_the_rank_chosen() -> None:
    model, x = adapted().train(), torch.randn(7, 6, dtype=torch.float64)
    set_rank(model, 2)
    for _ in range(10):
        with torch.no_grad():
            model(x)  # draws a rank, which must not be the one that is merged
        merge(model)
        torch.testing.assert_close(model.eval()(x), cut_by_hand(model, 2)(x))
        unmerge(model.train())


def test_cut_to_a_rank_it_is_a_lora_of_that_rank() -> None:
    model, x = adapted().eval(), torch.randn(7, 6, dtype=torch.float64)
    other = attach(network().eval(), "lora", LoraConfig(rank=2, alpha=3, targets=("0", "2")))
    with torch.no_grad():
        for path, wrapper in wrappers(other):
            wrapper.parts["default"].lora_A.copy_(parts(model)[path].lora_A[:2])
            wrapper.parts["default"].lora_B.copy_(parts(model)[path].lora_B[:, :2])
    set_rank(model, 2)
    assert torch.equal(model(x), other(x))


def test_one_rank_is_drawn_a_pass_for_all_maps_and_all_are_drawn() -> None:
    model, x = adapted().train(), torch.randn(7, 6, dtype=torch.float64)
    counts = Counter(drawn_rank(model, x, model(x)) for _ in range(400))
    assert set(counts) == {1, 2, 3, 4}
    assert min(counts.values()) > 70  # 100 expected, deviation 8.7


def test_ranks_are_drawn_from_the_seed() -> None:
    model, x = adapted().train(), torch.randn(7, 6, dtype=torch.float64)
    torch.manual_seed(4)
    first = [model(x) for _ in range(10)]
    torch.manual_seed(4)
    again = [model(x) for _ in range(10)]
    assert all(torch.equal(output, other) for output, other in zip(first, again, strict=True))
    fresh = adapted().train()
    torch.manual_seed(4)
    assert all(torch.equal(output, fresh(x)) for output in first)


def test_a_pass_that_was_cut_short_does_not_bind_the_next() -> None:
    model, x = adapted().train(), torch.randn(7, 6, dtype=torch.float64)
    for _ in range(20):
        model[0](x)
        drawn_rank(model, x, model(x))


def test_evaluation_draws_nothing() -> None:
    model, x = adapted().eval(), torch.randn(7, 6, dtype=torch.float64)
    before = torch.get_rng_state()
    assert torch.equal(model(x), model(x))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_reach_the_rows_that_were_used_or_the_last_of_them(frozen: bool) -> None:
    model, x = adapted(frozen=frozen).train(), torch.randn(7, 6, dtype=torch.float64)
    seen = set()
    for _ in range(40):
        model.zero_grad()
        y = model(x)
        rank = drawn_rank(model, x, y)
        seen.add(rank)
        y.square().sum().backward()
        cut = cut_by_hand(model, rank).requires_grad_()
        cut(x).square().sum().backward()
        for path, part in parts(model).items():
            # d W / d A[i] = alpha / b B[:, i], and the like for B.
            slope = 3.0 / rank * cut.get_submodule(path).weight.grad
            low, high = part.lora_B.T @ slope, slope @ part.lora_A.T
            learns = torch.zeros(4, dtype=torch.bool)
            learns[rank - 1 if frozen else 0 : rank] = True
            torch.testing.assert_close(part.lora_A.grad, low * learns[:, None])
            torch.testing.assert_close(part.lora_B.grad, high * learns)
    assert seen == {1, 2, 3, 4}


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("segment", [1, 2])
def test_recomputed_layers_use_the_rank_of_then(
    small_model: Models, dropout: float, segment: int
) -> None:
    """Two forward passes before their backward passes, in either order."""
    settings = DyLoraConfig(rank=4, dropout=dropout, targets=TARGETS)
    model = small_model(num_layers=4, dropout=dropout).double()
    attach(model, "dylora", settings)
    randomise(model)
    model.train()

    def gradients(recompute: bool, order: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
        fresh = copy.deepcopy(model)
        torch.manual_seed(11)
        fresh.layer_runner = recomputing(segment) if recompute else None
        outputs = [fresh(IDS) for _ in range(len(order))]
        for i in order:
            (outputs[i] * (i + 1)).square().sum().backward()
        outputs.append(fresh(IDS))  # what is drawn afterwards is the same, too
        computed = [
            p.grad for p in trained_parameters(fresh, "default").values() if p.grad is not None
        ]
        return outputs, computed

    for order in ((0,), (0, 1, 2), (2, 1, 0), (1, 2, 0)):
        outputs, wanted = gradients(False, order)
        again, computed = gradients(True, order)
        assert len(computed) == len(wanted) == 16
        assert all(torch.equal(first, second) for first, second in zip(outputs, again, strict=True))
        for first, second in zip(wanted, computed, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)
    assert len({round(output.sum().item(), 6) for output in gradients(False, (0, 1, 2))[0]}) > 1


def test_the_output_projection_uses_the_rank_of_its_pass(small_model: Models) -> None:
    settings = DyLoraConfig(rank=4, targets=("attention.output", "unembedding"))
    model = small_model(dropout=0.0).double()
    attach(model, "dylora", settings)
    randomise(model)
    step = TrainingStep(
        model.train(), next_token_loss, TrainingConfig(device="cpu", precision="fp32")
    )
    for seed in range(8):
        torch.manual_seed(seed)
        logits = model(IDS[:, :-1])
        wanted = nn.functional.cross_entropy(logits.mT, IDS[:, 1:], reduction="sum")
        torch.manual_seed(seed)
        loss = step.loss(Batch(IDS[:, :-1], IDS[:, 1:], None))[0]
        torch.testing.assert_close(loss, wanted)


def test_memory_of_passes_is_bounded() -> None:
    ranks = Ranks(5)
    for _ in range(3000):
        assert ranks.draw(0) == ranks.draw(1)
    assert len(ranks._calls) <= 4096


@pytest.mark.parametrize("rank", [0, 5])
def test_a_rank_that_it_does_not_have_is_refused(rank: int) -> None:
    model = adapted()
    with pytest.raises(AdapterError, match=f"rank {rank}: the adapter has ranks 1 to 4"):
        set_rank(model, rank)
    attach(model, "lora", LoraConfig(rank=2, targets=("0",)), "other")
    with pytest.raises(AdapterError, match="'other' has one rank only"):
        set_rank(model, 1, "other")
    with pytest.raises(AdapterError, match="rank 7: 0 is 9 x 6; set a rank of 1 to 6"):
        attach(network(), "dylora", DyLoraConfig(rank=7, targets=("0",)))


def test_after_training_it_loses_less_than_a_lora_that_is_cut_off() -> None:
    """What the method is for: a random map learned by both, then used at ranks 1 to 4 of 6."""
    torch.manual_seed(0)
    x = torch.randn(64, 8)
    wanted = x @ (torch.randn(8, 8) / 3).T
    losses: dict[str, list[float]] = {}
    for settings in (LoraConfig(rank=6, alpha=6), DyLoraConfig(rank=6, alpha=6)):
        method = "dylora" if isinstance(settings, DyLoraConfig) else "lora"
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(8, 8, bias=False))
        nn.init.zeros_(model[0].weight)
        attach(model, method, dataclasses.replace(settings, targets=("0",)))
        trained = list(trained_parameters(model, "default").values())
        optimizer = torch.optim.Adam(trained, lr=0.02)
        for _ in range(400):
            optimizer.zero_grad()
            (model(x) - wanted).square().mean().backward()
            optimizer.step()
        part = model[0].parts["default"]
        losses[method] = []
        for rank in (1, 2, 3, 4):
            scale = 6 / rank if method == "dylora" else 1.0
            cut = scale * part.lora_B[:, :rank] @ part.lora_A[:rank]
            losses[method].append((x @ cut.T - wanted).square().mean().item())
    assert sum(losses["dylora"]) < 0.95 * sum(losses["lora"])
    assert losses["dylora"] == sorted(losses["dylora"], reverse=True)
