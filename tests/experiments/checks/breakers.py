"""Plausible mistakes, by the check that must see them: most are historic (shared/TRAPS.md).

Each breaks the code itself, not the check, with a monkeypatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tinylm import checkpoint
from tinylm.checkpoint import writing
from tinylm.compression import activations, calibration, norms, removal
from tinylm.data.windows import IGNORED, Batch, ShuffledOrder, TokenWindows
from tinylm.fast import codes, loops
from tinylm.fast import layers as fast_layers
from tinylm.fast.cache import StepCache
from tinylm.fast.dropout import FastDropout
from tinylm.fast.loss import output_loss
from tinylm.generation.stepper import Stepper
from tinylm.generation.strategies import beam
from tinylm.model import decoder, loss
from tinylm.model.cache import KVCache
from tinylm.model.decoder import DecoderLM
from tinylm.model.positions import Positions
from tinylm.model.positions.rotary import RotaryPositions
from tinylm.model.positions.sinusoidal import SinusoidalPositions
from tinylm.model.weights import model_weights
from tinylm.numbers import nf4
from tinylm.numbers.integers import IntegerFormat
from tinylm.tokenizers.base import EOS_ID
from tinylm.tokenizers.word import WordTokenizer
from tinylm.tokenizers.word_case import Case
from tinylm.training import recompute
from tinylm.training.loop import Trainer
from tinylm.training.step import TrainingStep

Breaker = Callable[[pytest.MonkeyPatch], None]


# --- model ---


def attention_sees_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    blocked_keys = decoder._blocked_keys

    def open_keys(*arguments: Any) -> Tensor:
        return torch.zeros_like(blocked_keys(*arguments))

    monkeypatch.setattr(decoder, "_blocked_keys", open_keys)


def padded_keys_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def causal_only(
        seq: int, real: Tensor | None, cache: KVCache | None, device: torch.device
    ) -> Tensor:
        keys = seq if cache is None else cache.length
        query_place = torch.arange(keys - seq, keys, device=device)[:, None]
        return (torch.arange(keys, device=device)[None, :] > query_place)[None, None]

    monkeypatch.setattr(decoder, "_blocked_keys", causal_only)


def the_whole_text_is_read_causally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder, "_blocked_padding", decoder._blocked_keys)


def positions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SinusoidalPositions, "add", Positions.add)
    monkeypatch.setattr(RotaryPositions, "rotate", Positions.rotate)


def padding_is_counted_as_position(monkeypatch: pytest.MonkeyPatch) -> None:
    def places(
        self: DecoderLM, embeddings: Tensor, real: Tensor | None, cache: KVCache | None
    ) -> Tensor:
        start = 0 if cache is None else cache.length
        return torch.arange(start, start + embeddings.shape[1])[None]

    monkeypatch.setattr(DecoderLM, "_running_positions", places)


def scores_are_scaled_by_hidden_over_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden_size, num_heads = 20, 3  # of the other run
    wrong = SimpleNamespace(sqrt=lambda head_dim: math.sqrt(hidden_size / num_heads))
    monkeypatch.setattr("tinylm.model.attention.math", wrong)


def loss_counts_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    def counting(logits: Tensor, labels: Tensor, ignored: int) -> Tensor:
        return loss.token_losses(logits, labels.clamp(min=0), ignored)

    monkeypatch.setattr("tinylm.experiments.checks.loss.token_losses", counting)


def loss_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "at_least_float32", lambda logits: logits)


def chunks_lose_the_last_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(
        x: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, ignored: int
    ) -> Tensor:
        return output_loss(x[:-1], weight, bias, labels[:-1], ignored)

    monkeypatch.setattr("tinylm.experiments.checks.loss.output_loss", short)


# --- data ---


def labels_are_shifted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    original = TokenWindows.batch

    def shifted(self: TokenWindows, indices: Sequence[int]) -> Batch:
        batch = original(self, indices)
        labels = torch.full_like(batch.labels, IGNORED)
        labels[:, :-1] = batch.labels[:, 1:]
        return replace(batch, labels=labels)

    monkeypatch.setattr(TokenWindows, "batch", shifted)


def labels_are_not_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = TokenWindows.batch

    def unshifted(self: TokenWindows, indices: Sequence[int]) -> Batch:
        batch = original(self, indices)
        return replace(batch, labels=batch.ids.masked_fill(batch.labels == IGNORED, IGNORED))

    monkeypatch.setattr(TokenWindows, "batch", unshifted)


def decoding_drops_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    original = WordTokenizer.decode

    def joined(self: WordTokenizer, ids: Sequence[int]) -> str:
        return original(self, ids).replace(" ", "", 1)

    monkeypatch.setattr(WordTokenizer, "decode", joined)


def the_flat_path_drops_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    original = WordTokenizer.encode_flat

    def short(self: WordTokenizer, texts: Sequence[str]) -> Any:
        ids, bounds = original(self, texts)
        return ids[:-1], bounds

    monkeypatch.setattr(WordTokenizer, "encode_flat", short)


# --- generation ---


def the_oldest_key_is_evicted(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Stepper.logits

    @torch.no_grad()
    def evicting(self: Stepper) -> Tensor:
        cache = self._cache
        if cache is None or cache.length < cache.capacity:
            return original(self)
        for buffer, dimension in ((cache._keys, 3), (cache._values, 3), (cache._real, 1)):
            buffer.copy_(buffer.roll(-1, dimension))
        cache.length -= 1
        ids = torch.tensor([row[-1:] for row in self.rows])
        places = torch.full((1, 1), cache.capacity - 1)
        return self.model.unembed(self.model.residual(ids, positions=places, cache=cache)[:, -1])

    monkeypatch.setattr(Stepper, "logits", evicting)


def the_cache_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Stepper.logits

    def forgetful(self: Stepper) -> Tensor:
        self._cache = None
        return original(self)

    monkeypatch.setattr(Stepper, "logits", forgetful)


def every_place_is_unembedded(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Stepper._read_windows

    def unembedding(self: Stepper) -> Tensor:
        windows = [row[-self.model.config.context_length :] for row in self.rows]
        self.model.unembed(self.model.residual(torch.tensor(windows))[:, :-1])
        return read(self)

    monkeypatch.setattr(Stepper, "_read_windows", unembedding)


def the_cache_is_not_reordered(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (KVCache, StepCache):
        monkeypatch.setattr(kind, "reorder", lambda self, rows, shared=0: None)


def beam_takes_the_second_best(monkeypatch: pytest.MonkeyPatch) -> None:
    original = beam.forbid

    def without_best(*arguments: Any) -> Tensor:
        ranked = original(*arguments)
        return ranked.scatter(-1, ranked.argmax(-1, keepdim=True), -math.inf)

    monkeypatch.setattr(beam, "forbid", without_best)


def beam_forgets_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    original = beam._Beams.candidates

    def without_end(self: beam._Beams, length: int) -> list[list[beam._Candidate]]:
        return [
            [
                entry._replace(log_probability=own[entry.row]) if entry.token == EOS_ID else entry
                for entry in row
            ]
            for own, row in zip(self._log_probabilities, original(self, length), strict=True)
        ]

    monkeypatch.setattr(beam._Beams, "candidates", without_end)


def beam_counts_a_token_of_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    original = beam.BeamSearch._score
    monkeypatch.setattr(
        beam.BeamSearch, "_score", lambda self, total, length: original(self, total, length + 1)
    )


# --- training ---


def mean_of_means(monkeypatch: pytest.MonkeyPatch) -> None:
    def accumulate(
        loss: Callable[[Batch], tuple[Tensor, int]], batches: Sequence[Batch], *_: Any
    ) -> tuple[float, int]:
        total = 0.0
        for batch in batches:
            summed, _ = loss(batch)
            (summed / batch.num_targets / len(batches)).backward()
            total += summed.item()
        return total, sum(batch.num_targets for batch in batches)

    monkeypatch.setattr("tinylm.training.step.accumulate_gradients", accumulate)


def the_last_micro_batch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinylm.training.step import accumulate_gradients

    monkeypatch.setattr(
        "tinylm.training.step.accumulate_gradients",
        lambda loss, batches, *_: accumulate_gradients(loss, batches[-1:]),
    )


def recomputation_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recompute._Surroundings, "_set_random_state", lambda self: None)


def recomputation_keeps_the_old_random_state(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def entered_only(self: recompute._Surroundings) -> Iterator[None]:
        self._set_random_state()
        yield

    monkeypatch.setattr(recompute._Surroundings, "random_state", entered_only)


def resuming_forgets_the_random_state(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Trainer.restore

    def forgetful(self: Trainer, state: checkpoint.TrainingState) -> None:
        before = torch.get_rng_state()
        original(self, state)
        torch.set_rng_state(before)

    monkeypatch.setattr(Trainer, "restore", forgetful)


def resuming_forgets_the_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylm.training.state.restore_optimizer", lambda *arguments: None)


def resuming_replays_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ShuffledOrder, "restore", lambda self, state: None)


def the_loss_scale_is_left_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scaling against the underflow of half precision, never undone."""
    original = TrainingStep.loss

    def scaled(self: TrainingStep[Any], batch: Batch) -> tuple[Tensor, int]:
        summed, count = original(self, batch)
        return summed * (128 if self.precision == "bf16" else 1), count

    monkeypatch.setattr(TrainingStep, "loss", scaled)


def rounded_weights_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy in half precision through which no gradient comes back to the weights."""
    original = F.linear

    def cut(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        low = torch.is_autocast_enabled(x.device.type)
        return original(x, weight.bfloat16().detach() if low else weight, bias)

    monkeypatch.setattr(F, "linear", cut)
    if loops.available():
        whole = loops.linear.linear
        monkeypatch.setattr(
            loops.linear, "linear", lambda x, weight, *rest: whole(x, weight.detach(), *rest)
        )


def the_loops_drop_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    original = FastDropout.draw
    monkeypatch.setattr(
        FastDropout, "draw", lambda self: (original(self)[0] + 1, original(self)[1])
    )


def the_tokens_of_other_texts_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepCache, "reorder", lambda self, rows, shared=0: None)


def the_loops_leave_out_the_residual(monkeypatch: pytest.MonkeyPatch) -> None:
    original = fast_layers.add_norm

    def without(x: Tensor, branch: Tensor, *rest: Any) -> tuple[Tensor, Tensor | None]:
        return original(x * 0, branch, *rest)

    monkeypatch.setattr(fast_layers, "add_norm", without)


# --- files ---


def a_weight_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    original = checkpoint.load_weights

    def partly(model: DecoderLM, weights: dict[str, Tensor], source: Any, aside: bool) -> None:
        own = model_weights(model)["embedding.weight"].clone()
        original(model, weights | {"embedding.weight": own}, source, aside)

    monkeypatch.setattr(checkpoint, "load_weights", partly)


def a_weight_is_not_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    original = checkpoint.safetensors.torch.save

    def without_one(tensors: dict[str, Tensor]) -> bytes:
        kept: bytes = original({n: t for n, t in tensors.items() if n != "embedding.weight"})
        return kept

    monkeypatch.setattr(checkpoint.safetensors.torch, "save", without_one)


def weights_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    original = writing.model_weights
    monkeypatch.setattr(
        writing,
        "model_weights",
        lambda model: {name: w.bfloat16().float() for name, w in original(model).items()},
    )


def names_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    original = WordTokenizer.load.__func__  # type: ignore[attr-defined]

    def load(cls: type[WordTokenizer], path: Any) -> WordTokenizer:
        loaded: WordTokenizer = original(cls, path)
        loaded._case = Case()
        return loaded

    monkeypatch.setattr(WordTokenizer, "load", classmethod(load))


# --- compression ---


def the_optimizer_moves_masked_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylm.training.step.mask_weights", lambda model: None)


def masked_weights_count_in_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinylm.training.step.mask_gradients", lambda model: None)


def values_of_another_head_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    original = removal._rebuilt

    def mixed(model: Any, sizes: Any, layers: Any, cut: Any) -> Any:
        def wrong(layer: int, name: str, tensor: Tensor) -> Tensor:
            left = cut(layer, name, tensor)
            return left.flip(0) if name == "attention.query_key_value.weight" else left

        return original(model, sizes, layers, wrong)

    monkeypatch.setattr(removal, "_rebuilt", mixed)


def a_neuron_says_what_another_is_heard_for(monkeypatch: pytest.MonkeyPatch) -> None:
    original = removal._rebuilt

    def shifted(model: Any, sizes: Any, layers: Any, cut: Any) -> Any:
        def wrong(layer: int, name: str, tensor: Tensor) -> Tensor:
            left = cut(layer, name, tensor)
            return left.roll(1, 1) if name == "feed_forward.contract.weight" else left

        return original(model, sizes, layers, wrong)

    monkeypatch.setattr(removal, "_rebuilt", shifted)


# --- numbers ---


def the_codes_of_a_byte_change_places(monkeypatch: pytest.MonkeyPatch) -> None:
    unpack = IntegerFormat.unpack

    def swapped(self: IntegerFormat, packed: Tensor, columns: int) -> Tensor:
        if self.bits == 4:
            packed = packed << 4 | packed >> 4
        return unpack(self, packed, columns)

    monkeypatch.setattr(IntegerFormat, "unpack", swapped)


def the_code_of_0_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = IntegerFormat.decode

    def without(
        self: IntegerFormat, codes: Tensor, scale: Tensor, zero: Tensor | None = None
    ) -> Tensor:
        return decode(self, codes, scale, None)

    monkeypatch.setattr(IntegerFormat, "decode", without)


def scales_are_read_column_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = IntegerFormat.decode

    def mixed(
        self: IntegerFormat, codes: Tensor, scale: Tensor, zero: Tensor | None = None
    ) -> Tensor:
        return decode(self, codes, scale.T.reshape(scale.shape), zero)

    monkeypatch.setattr(IntegerFormat, "decode", mixed)


def the_mean_of_the_constants_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    read = nf4._read_constants
    monkeypatch.setattr(
        nf4, "_read_constants", lambda stored: read({**stored, "mean": torch.tensor(0.0)})
    )


def the_quick_map_forgets_its_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "bias_of", lambda linear: torch.zeros(linear.out_features))


def a_constant_more_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    store = IntegerFormat.store

    def stored(self: IntegerFormat, *arguments: Any) -> dict[str, Tensor]:
        kept = store(self, *arguments)
        return kept | {"scale": kept["scale"].float()}

    monkeypatch.setattr(IntegerFormat, "store", stored)


def padding_counts_as_an_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def observe(model: Any, ids: Tensor, statistics: Any, real: Any, batch_size: int) -> None:
        calibration.observe(model, ids, statistics, None, batch_size)

    monkeypatch.setattr(activations, "observe", observe)


def ranges_are_of_inputs_before_their_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations._Divided, "add", lambda self, rows: self.statistic.add(rows))


def a_norm_is_not_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norms, "divide_norm", lambda norm, scale: None)


BREAKERS: dict[str, tuple[Breaker, ...]] = {
    "teacher-forcing": (
        labels_are_shifted_twice,
        labels_are_not_shifted,
        attention_sees_the_future,
    ),
    "kv-cache": (the_oldest_key_is_evicted, the_cache_is_not_reordered),
    "batching": (padded_keys_are_seen, padding_is_counted_as_position),
    "beam-search": (
        beam_takes_the_second_best,
        beam_forgets_the_end,
        beam_counts_a_token_of_the_prompt,
    ),
    "accumulation": (mean_of_means, the_last_micro_batch_alone),
    "gradient-checkpointing": (
        recomputation_draws_anew,
        recomputation_keeps_the_old_random_state,
    ),
    "precision": (the_loss_scale_is_left_in, rounded_weights_are_cut_off),
    "compiled-loops": (
        the_loops_drop_other_numbers,
        the_loops_leave_out_the_residual,
        the_tokens_of_other_texts_are_read,
    ),
    "resume": (
        resuming_forgets_the_random_state,
        resuming_forgets_the_moments,
        resuming_replays_the_data,
    ),
    "masks": (the_optimizer_moves_masked_weights, masked_weights_count_in_the_gradient),
    "removed-parts": (values_of_another_head_are_kept, a_neuron_says_what_another_is_heard_for),
    "quantized-weights": (
        *(the_codes_of_a_byte_change_places, the_code_of_0_is_left_out),
        *(scales_are_read_column_by_column, the_mean_of_the_constants_is_lost),
        *(the_quick_map_forgets_its_bias, a_constant_more_is_stored),
    ),
    "input-ranges": (
        padding_counts_as_an_input,
        ranges_are_of_inputs_before_their_scale,
        a_norm_is_not_divided,
    ),
    "save-and-load": (
        a_weight_is_not_loaded,
        a_weight_is_not_saved,
        weights_are_rounded,
        names_are_lost,
    ),
    "loss": (loss_counts_padding, loss_in_half_precision, chunks_lose_the_last_rows),
    "attention": (
        scores_are_scaled_by_hidden_over_heads,
        attention_sees_the_future,
        padded_keys_are_seen,
    ),
    "order": (the_whole_text_is_read_causally, positions_are_forgotten),
    "decoding-cost": (the_cache_is_made_anew, every_place_is_unembedded),
    "tokenizer": (decoding_drops_a_space, the_flat_path_drops_an_id),
}

# A mistake that is none in one of the two runs.
HARMLESS = {
    ("tiny_context", a_norm_is_not_divided),  # its norms make the residual stream
    ("other_context", padding_is_counted_as_position),  # rotary positions see distances alone
    # Rotary positions are decoded layer by layer; with norms before the parts nothing is fused.
    ("other_context", the_tokens_of_other_texts_are_read),
    ("other_context", the_loops_leave_out_the_residual),
    ("other_context", the_quick_map_forgets_its_bias),  # its maps have none
    ("tiny_context", scores_are_scaled_by_hidden_over_heads),  # its heads divide hidden_size
}
