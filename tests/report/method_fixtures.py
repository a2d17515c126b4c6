"""Made-up results of the experiments on how training and generation are done."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tests.report.fixtures import ENVIRONMENT, LOOP, STORY, around, config, differences
from tinylm.config import RunConfig
from tinylm.experiments.growth import exponents, planned, resized, sizes
from tinylm.measurement import Measurement
from tinylm.planning.flops import flops_per_token
from tinylm.planning.memory import kv_bytes, step_peak
from tinylm.planning.parameters import parameter_counts


def timing(median: float, spread: float = 0.01, rounds: int = 3) -> dict[str, Any]:
    """A timing whose rounds span ``spread`` of the median, in an order that the median decides."""
    seconds = median * (1 + spread * np.linspace(-0.5, 0.5, rounds))
    np.random.default_rng(round(1e6 * median)).shuffle(seconds)
    return Measurement.of(seconds).as_result()


def kv_cache() -> dict[str, Any]:
    lengths = [16, 32, 64, 128, 256]
    return {
        "repeats": 3,
        "samples": {
            "batch": 20,
            "tokens": 2_345,
            "max_new_tokens": 250,
            "cached": {**timing(1.34, 0.041), "tokens_per_second": 1_750.0},
            "uncached": {**timing(4.31, 0.028), "tokens_per_second": 544.1},
            "identical": True,
        },
        "growth": {
            "batch": 20,
            "length": 256,
            "lengths": lengths,
            "cached": way([_cached_ms(n) for n in lengths], _totals(lengths, _cached_ms), 1.08),
            "uncached": way(
                [_uncached_ms(n) for n in lengths], _totals(lengths, _uncached_ms), 1.86
            ),
            "fitted_from": 64,
        },
        "memory": [
            {
                "tokens": tokens,
                "batch": 20,
                "measured_bytes": 20 * tokens * 7_296,
                "formula_bytes": 20 * tokens * 7_296,
            }
            for tokens in lengths
        ],
        "formula": {
            "num_layers": 3,
            "num_heads": 8,
            "head_dim": 38,
            "bytes_per_number": 4,
            "kv_bytes_per_token": 7_296,
        },
        **_common(64.1),
    }


def way(step_ms: list[float], total_s: list[float], exponent: float) -> dict[str, Any]:
    """How generation with the cache, or without it, grows."""
    return {
        "step_ms": step_ms,
        "total_s": total_s,
        "steps": [timing(ms / 1000, 0.03) for ms in step_ms],
        "totals": [timing(seconds, 0.03) for seconds in total_s],
        "exponent": [exponent, exponent - 0.02, exponent + 0.02],
    }


def _totals(lengths: list[int], step_ms: Callable[[int], float]) -> list[float]:
    return [sum(step_ms(n) for n in range(1, length + 1)) / 1000 for length in lengths]


def _cached_ms(length: int) -> float:
    return 6.1 + 0.012 * length


def _uncached_ms(length: int) -> float:
    return 5.9 + 0.34 * length + 0.0004 * length * length


STRATEGIES = {
    # beams, seconds for one prompt, BLEU, log p per token, distinct-2, repetition, length, ended
    "greedy": (None, 0.031, 8.9, -1.31, 0.302, 0.112, 57.5, 0.96),
    "sampling": (None, 0.032, 6.1, -2.07, 0.537, 0.019, 58.4, 0.92),
    "beam 5": (5, 0.083, 9.7, -1.12, 0.286, 0.131, 52.6, 0.98),
    "beam 10": (10, 0.142, 9.4, -1.07, 0.271, 0.148, 50.2, 0.98),
}


def beam_search() -> dict[str, Any]:
    prompts = config().report.prompts
    looping = f"{LOOP[18:]} Max was very happy and the ball was very happy too."
    return {
        "repeats": 3,
        "prompt_tokens": 5,
        "max_new_tokens": 100,
        "length_penalty": 1.0,
        "early_stopping": "heuristic",
        "temperature": 1.0,
        "top_p": 1.0,
        "comparisons": [_comparison(5, 1.2), _comparison(50, 1.0)],
        "signature": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1",
        "sentence_signature": "nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:2.5.1",
        "n_best": {
            "prompt": prompts[0],
            "num_beams": 5,
            "hypotheses": [
                {
                    "text": f"{looping} They played {words}",
                    "score": -1.03 - 0.012 * i,
                    "log_probability": -53.1 - 1.3 * i,
                    "num_tokens": 52 + i,
                }
                for i, words in enumerate(
                    ("all day.", "all day long.", "until night.", "until dark.", "together.")
                )
            ],
        },
        **_common(41.7),
    }


def _comparison(prompts: int, factor: float) -> dict[str, Any]:
    rows = [
        {
            "name": name,
            "num_beams": beams,
            "seconds": timing(seconds * prompts**0.5, 0.03),
            "tokens_per_second": prompts * length / (seconds * prompts**0.5),
            "bleu_corpus": bleu * factor,
            "bleu_sentence_mean": bleu * factor + 1.3,
            "log_probability": per_token * length,
            "log_probability_per_token": per_token,
            "distinct": {"1": distinct / 3, "2": distinct, "3": distinct * 1.4},
            "repetition": repetition,
            "mean_length": length,
            "finished_share": finished,
        }
        for name, (
            beams, seconds, bleu, per_token, distinct, repetition, length, finished
        ) in STRATEGIES.items()
    ]  # fmt: skip
    true = {
        "log_probability": -2.11 * 58.8,
        "log_probability_per_token": -2.11,
        "distinct": {"1": 0.191, "2": 0.561, "3": 0.783},
        "repetition": 0.017,
        "mean_length": 58.8,
        "finished_share": 1.0,
    }
    given = [*config().report.prompts, "The big dog ran to", "One day, Lily and Tom"]
    whole = f"{STORY[18:]} {STORY[60:190]}"
    looping = f"{LOOP[18:]} Max was very happy and the ball was very happy too."
    return {
        "num_prompts": prompts,
        "rows": rows,
        "true": true,
        "differences": beam_differences(rows, true),
        "texts": [
            {
                "prompt": given[i % len(given)],
                "true": whole,
                "outputs": {
                    name: whole if name == "sampling" else f"{looping} {i}"
                    for i, name in enumerate(STRATEGIES)
                },
                "references": dict.fromkeys(STRATEGIES, whole),
            }
            for i in range(prompts)
        ],
    }


def beam_differences(
    rows: list[dict[str, Any]], true: dict[str, Any], reach: float = 0.03
) -> dict[str, Any]:
    """Differences of strategies, each uncertain by a share ``reach`` of the largest value."""
    both = {**{row["name"]: row for row in rows}, "true": true}

    def distance(row: dict[str, Any]) -> float:
        return float(
            abs(row["distinct"]["2"] - true["distinct"]["2"])
            + abs(row["repetition"] - true["repetition"])
        )

    values = {
        "log_probability": {name: row["log_probability"] for name, row in both.items()},
        "log_probability_per_token": {
            name: row["log_probability_per_token"] for name, row in both.items()
        },
        "length": {name: row["mean_length"] for name, row in both.items()},
        "repetition": {name: row["repetition"] for name, row in both.items()},
        "distinct_2": {name: row["distinct"]["2"] for name, row in both.items()},
        "bleu": {row["name"]: row["bleu_corpus"] for row in rows},
        "distance": {row["name"]: distance(row) for row in rows},
    }
    return {measure: differences(of, reach) for measure, of in values.items()}


def accumulation() -> dict[str, Any]:
    random = np.random.default_rng(1)
    runs = []
    for i, accumulated in enumerate((1, 2, 4, 8)):
        steps = 1_136 // accumulated
        tokens_per_step = 1_024 * accumulated
        every = max(1, 10 // accumulated)

        def loss(step: float, gain: float = 1 + 0.35 * i) -> float:
            return 2.9 + 5.4 * math.exp(-step * gain / 90) + 1.1 * math.exp(-step * gain / 500)

        ended = loss(steps) + 0.04
        runs.append(
            {
                "accumulation_steps": accumulated,
                "effective_batch": 16 * accumulated,
                "steps": steps,
                "tokens": 1_163_264,
                "epoch": timing(150.2 - 4.6 * i, 0.02, 24),
                "tokens_per_second": 1_163_264 / (150.2 - 4.6 * i),
                "peak_bytes": 151_300_000 + (5_300_000 if i else 0),
                "whole_batch_peak_bytes": 71_000_000 + 80_300_000 * accumulated,
                "validation_loss": ended,
                "validation_perplexity": math.exp(ended),
                "equal_steps": {"step": 142, "validation_loss": loss(142) + 0.04},
                "curve": [
                    {
                        "step": step,
                        "tokens": step * tokens_per_step,
                        "loss": loss(step) + float(random.normal(0, 0.08)),
                    }
                    for step in range(every, steps + 1, every)
                ],
            }
        )
    for before, run in zip([None, *runs], runs, strict=False):
        run["beside"] = {
            "previous": before and around(run["validation_loss"] - before["validation_loss"]),
            "first": around(run["validation_loss"] - runs[0]["validation_loss"]),
            "equal_steps": around(
                run["equal_steps"]["validation_loss"] - runs[0]["equal_steps"]["validation_loss"]
            ),
        }
    return {
        "batch_size": 16,
        "context_length": 64,
        "learning_rate": 3e-4,
        "epochs": 1.0,
        "windows": 18_176,
        "precision": "bf16",
        "validation_windows": 200,
        "runs": runs,
        **_common(702.0),
    }


def gradient_checkpointing() -> dict[str, Any]:
    return {
        "measure": "live tensor bytes",
        "precision": "bf16",
        "repeats": 3,
        "steps_per_epoch": 1_620,
        "depth": [_row(layers, 64, k) for layers in (3, 6, 12) for k in (0, 1, 3)],
        "context": [
            _row(3, context, k, 2_048 // context) for context in (64, 128, 256) for k in (0, 1, 3)
        ],
        **_common(120.4),
    }


def _row(layers: int, context: int, segment: int, batch: int = 32) -> dict[str, Any]:
    tokens = batch * context
    given = tokens * 300 * 4  # a layer's input
    inside = tokens * (300 * 4 * 12 + 8 * context * 8)
    outside = tokens * 4_812 * 6
    saved = (given * math.ceil(layers / segment) if segment else inside * layers) + outside
    again = inside * segment if segment else 0
    state = 16 * (2_900_000 + 1_090_000 * layers)
    step = tokens * 1e-6 * (30 + 19 * layers * (1.36 if segment else 1))
    return {
        "num_layers": layers,
        "context_length": context,
        "batch_size": batch,
        "segment": segment,
        "peak_bytes": state + saved + again + outside // 2,
        "state_bytes": state,
        "saved_bytes": saved,
        "step": timing(step, 0.06),
        "seconds_per_epoch": step * 1_620,
    }


VARIED = {
    "batch_size": (8, 16, 32, 64),
    "context_length": (32, 64, 128, 256),
    "num_layers": (1, 2, 4, 8),
    "vocab_size": (2_000, 4_000, 8_000, 16_000),
}


def efficiency() -> dict[str, Any]:
    rate = 4e11
    run = config()
    model = replace(run.model, vocab_size=10_000)
    training = replace(run.training, precision="bf16")
    run = replace(run, model=model, training=training)
    own = _cost(run, rate)
    growth = []
    for name, places in VARIED.items():
        rows = [_cost(resized(run, name, size), rate) for size in places]
        growth.append({"varied": name, "rows": rows, "exponents": exponents(rows, name)})
    context = model.context_length
    exact = {
        "parameters": parameter_counts(model)["total"],
        "flops_per_token": flops_per_token(model),
        "kv_bytes": kv_bytes(model, 1, context),
    }
    return {
        "measure": "live tensor bytes",
        "precision": "bf16",
        "repeats": 3,
        "product_flops_per_second": rate,
        "own": own
        | {
            "measured": own["measured"] | exact,
            "planned": own["planned"] | exact,
            "peak_parts": asdict(step_peak(model, training)),
            "least_seconds": own["planned"]["step"] / rate,
            "utilisation": own["planned"]["step"] / rate / own["measured"]["step"],
        },
        "growth": growth,
        **_common(38.0),
    }


def _cost(run: RunConfig, rate: float) -> dict[str, Any]:
    new = run.model.context_length // 4
    expected = planned(run, 4, new)
    step, generation = 0.012 + 2.1 * expected["step"] / rate, 0.004 * new
    return {
        **sizes(run),
        "tokens": run.training.batch_size * run.model.context_length,
        "new_tokens": run.training.batch_size * new,
        "planned": expected,
        "measured": {
            **expected,
            "step": step,
            "generation": generation,
            "peak_bytes": 1.04 * expected["peak_bytes"],
        },
        "step": timing(step),
        "generation": timing(generation, 0.08),
    }


def precision() -> dict[str, Any]:
    parts = ("all", "embedding", "attention", "norms", "feed-forward", "unembedding")
    agreement = {
        place: {
            part: {"cosine": 1 - (worst * (1 + i / 9)) ** 2 / 2, "error": worst * (1 + i / 9)}
            for i, part in enumerate(parts)
        }
        for place, worst in (("start", 0.011), ("end", 0.062))
    }
    return {
        "steps": 500,
        "tokens_per_step": 2_048,
        "native": True,
        "trained": {
            "fp32": {"curve": [9.2, 5.1, 3.9], "seconds": 81.0, "validation_loss": 3.8214},
            "bf16": {"curve": [9.2, 5.1, 3.9], "seconds": 44.0, "validation_loss": 3.8231},
        },
        "loss_difference": 3.8231 / 3.8214 - 1,
        "loss_change": around(3.8231 - 3.8214),
        "agreement": agreement,
        "tolerances": {"loss": 0.005, "cosine": 0.98, "error": 0.2},
        "failed": [],
        **_common(127.0),
    }


def verification() -> dict[str, Any]:
    step = "feeding the ids up to each place alone (float64, mean nats)"
    checks = (
        ("teacher-forcing", f"loss of a training step on windows; {step}", 511,
         "predicted tokens", 8.9e-16, 1e-9),
        ("kv-cache", "logits with the cache, up to 83 tokens in a context of 64; reading each "
         "row's last window alone and anew (relative to the largest)", 240, "distributions",
         3.1e-7, 1e-5),
        ("batching", "ids (greedy, sampled), sums, logits and scores of 6 texts of different "
         "lengths in one batch; each alone (float64; an id that differs counts 1)", 1_932,
         "tokens", 7.1e-14, 1e-9),
        ("beam-search", "ids of a beam of width 1; greedy decoding. Sums and scores of a beam of "
         "width 4; scoring its texts (float64, nats; an id that differs counts 1)", 226,
         "tokens and sums", 2.8e-14, 1e-9),
        ("accumulation", "gradients of a step over padded micro-batches of 210, 64 and 7 targets; "
         "the mean loss of all in one batch (float64, relative to the largest)", 4_210_022,
         "gradient components", 2.4e-15, 1e-10),
        ("gradient-checkpointing", "loss, gradients and random state, segments of 1, 2 and 3 "
         "recomputed; keeping all activations (dropout 0.1, bf16, the same seed)", 12_630_066,
         "gradient components", 0.0, 0.0),
        ("precision", "gradients of a training step with matrix products in bfloat16; float32 "
         "(norm of the difference, relative to the gradient's; the worst part)", 4_210_022,
         "gradient components", 0.031, 0.2),
        ("resume", "weights, optimizer and random state after 6 steps; stopping after step 3 and "
         "going on from its files (adamw, dropout 0.1, bf16)", 12_632_071, "numbers", 0.0, 0.0),
        ("save-and-load", "weights, logits, configuration, tokenizer and decoded text of the model "
         "loaded from its files; of the model that was saved", 4_518_021, "numbers", 0.0, 0.0),
        ("loss", "losses on padded rows and their gradient; a log-softmax written out position by "
         "position in float64 (relative to the largest)", 1_847_904,
         "losses and gradient components", 1.9e-7, 1e-5),
        ("attention", "attention pattern and mixed values; torch's scaled_dot_product_attention "
         "on the same queries, keys and values (3 layers, 8 heads, float64)", 121_344, "numbers",
         4.4e-16, 1e-10),
        ("tokenizer", "ids of stories decoded and encoded again; the token file's ids. "
         "encode_batch and encode_flat; encode (stories that differ)", 200, "stories", 0.0, 0.0),
    )  # fmt: skip
    return {
        "rows": [
            {
                "name": name,
                "compared": compared,
                "cases": cases,
                "unit": unit,
                "difference": difference,
                "bound": bound,
                "passed": True,
                "note": "3 of the wide beam's texts end with <eos>" * (name == "beam-search"),
                "seconds": 1.2,
            }
            for name, compared, cases, unit, difference, bound in checks
        ],
        "passed": len(checks),
        "failed": [],
        **_common(13.4),
    }


def hyperparameters() -> dict[str, Any]:
    losses = {
        "num_layers": {1: 2.90, 6: 2.65},
        "num_heads": {1: 2.71, 4: 2.701},
        "learning_rate": {7.5e-5: 2.95, 1.2e-3: 2.699},
    }
    return {
        "steps": 300,
        "tokens": 614_400,
        "validation_windows": 64,
        "own": {
            "parameters": 5_400_000,
            "validation_loss": 2.70,
            "seconds": 21.0,
            "num_layers": 3,
            "num_heads": 8,
            "learning_rate": 3e-4,
        },
        "repeats": [2.70, 2.702, 2.698],
        "changes": [
            {
                "varied": varied,
                "value": value,
                "parameters": 5_400_000,
                "validation_loss": loss,
                "seconds": 20.0 + loss,
            }
            for varied, by_value in losses.items()
            for value, loss in by_value.items()
        ],
        **_common(190.0),
    }


def results() -> dict[str, dict[str, Any]]:
    return {
        "hyperparameters": hyperparameters(),
        "kv-cache": kv_cache(),
        "beam-search": beam_search(),
        "accumulation": accumulation(),
        "gradient-checkpointing": gradient_checkpointing(),
        "efficiency": efficiency(),
        "precision": precision(),
        "verification": verification(),
    }


def _common(seconds: float) -> dict[str, Any]:
    return {"environment": dict(ENVIRONMENT), "seconds": seconds}
