"""A run that never was: plausible results, computed, in the form that the experiments leave."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.config import RunConfig, dump_yaml, from_dict
from tinylm.experiments.results import write_result

WRITTEN = 1_760_000_000
"""When the results were written, in seconds since 1970: 9 October 2025."""

ENVIRONMENT = {
    "python": "3.11.2",
    "torch": "2.13.0+cpu",
    "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
    "cpu": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    "cores": 2,
    "threads": 2,
    "memory_gib": 15.6,
    "device": "cpu",
    "tinylm": "0.1.0",
}
COMMON = '. , the to and a was he she it " said in his her they of day i with'
STORY = (
    "Once upon a time, there was a little girl named Lily. She had a red ball that she loved very "
    'much. One day, the ball rolled into the pond. "Oh no!" said Lily. She was sad. Her friend '
    "Tom saw her and wanted to help. He took a long stick and pushed the ball back to her. Lily "
    "was happy and gave Tom a big hug. They played together until the sun went down."
)
LOOP = (
    "Once upon a time, there was a little dog named Max. Max was very happy. Max was very happy "
    "and he wanted to play. He saw a big ball and he wanted to play with the ball. He wanted to "
    "play with the ball and the ball was very happy."
)


def config() -> RunConfig:
    return from_dict(
        RunConfig,
        {
            "model": {"vocab_size": 4812},
            "training": {"warmup_steps": 200, "schedule": "cosine"},
            "report": {"author": "Ada Student"},
        },
        "test",
    )


def data() -> dict[str, Any]:
    ranks = sorted({round(10 ** (i / 40)) for i in range(150)} & set(range(1, 5600)))
    edges = list(range(0, 420, 20))
    middles = np.array(edges[:-1]) + 10
    counts = 20_000 * np.exp(-((middles - 160) ** 2) / (2 * 55**2))
    tokens = STORY[:73].lower().replace(",", " ,").replace(".", " .").split()
    return {
        "corpus": "20,000 training and 1,000 validation stories from the embedded story grammar, "
        "in the style of TinyStories (seed 0)",
        "corpus_name": "stories",
        "vocab_size": 4812,
        "min_frequency": 2,
        "max_size": 10_000,
        "types_seen": 5_530,
        "splits": {
            "train": _split(20_000, 3_312_441, 13_902_118, 722),
            "validation": _split(1_000, 166_020, 696_402, 88),
        },
        "lengths": {
            "train": {"mean": 165.6, "median": 161.0, "p95": 262.0, "max": 398},
            "validation": {"mean": 166.0, "median": 162.0, "p95": 261.0, "max": 371},
        },
        "windows": {"context_length": 64, "fit_share": 0.0312, "whole_share": 0.0107},
        "length_histogram": {"edges": edges, "counts": [round(c) for c in counts]},
        "top_words": [
            [word, round(180_000 / (i + 2.7) * 2)] for i, word in enumerate(COMMON.split())
        ],
        "rank_frequency": [[r, round(900_000 / (r + 2.7) ** 1.21) + 1] for r in ranks],
        "vectors": {
            "source": "train",
            "dimension": 300,
            "coverage": 0.9992,
            "description": "fastText vectors of dimension 300 for 4,808 of 4,812 words (99.9 %)",
            "trainable": True,
            "neighbours": {
                word: [[other, 0.91 - 0.04 * i] for i, other in enumerate(others.split())]
                for word, others in {
                    "dog": "doggy dogs puppy cat kitten",
                    "happy": "happily glad proud excited unhappy",
                    "said": "replied asked whispered shouted says",
                    "ball": "balls balloon toy kite box",
                }.items()
            },
        },
        "example": {
            "text": STORY,
            "tokens": ["<sos>", *tokens],
            "ids": [2, *(4 + (7 * i * i) % 1_900 for i in range(len(tokens)))],
            "decoded": STORY,
        },
        "round_trip": {
            "texts": 912,
            "with_unknown": 88,
            "typographic": 40,
            "same": 880,
            "differing": {"capitals": 30, "line breaks": 0, "spaces": 4, "characters": 0},
        },
        **_common(38.2),
    }


def training(steps: int = 4_860) -> dict[str, Any]:
    random = np.random.default_rng(0)
    tokens_per_step = 2_048

    def loss(step: float) -> float:
        return 2.02 + 6.4 * math.exp(-step / 140) + 0.9 * math.exp(-step / 1_100)

    curve = [
        {
            "step": step,
            "tokens": step * tokens_per_step,
            "loss": loss(step) + float(random.normal(0, 0.05)),
            "learning_rate": 3e-4
            * (step / 200 if step < 200 else 0.5 * (1 + math.cos(math.pi * step / steps))),
            "gradient_norm": float(1.1 * random.lognormal(-0.4, 0.25) + 3 * math.exp(-step / 60)),
            "tokens_per_second": 21_000 + float(random.normal(0, 300)),
        }
        for step in range(10, steps + 1, 10)
    ]
    validations = [
        {"step": step, "epoch": step / 1620, "loss": (value := loss(step) + 0.03),
         "perplexity": math.exp(value), "training_loss": (seen := loss(step) - 0.01),
         "training_perplexity": math.exp(seen)}
        for step in range(0, steps + 1, 243)
    ]  # fmt: skip
    best = min(validations[1:], key=lambda validation: validation["loss"])
    parameters = {
        "embedding": 4812 * 300,
        "positions": 0,
        "attention": 3 * (300 * 912 + 912 + 304 * 300 + 300),
        "feed-forward": 3 * (300 * 1200 + 1200 + 1200 * 300 + 300),
        "norms": 6 * 600,
        "unembedding": 300 * 4812 + 4812,
    }
    parameters["total"] = sum(parameters.values())
    return {
        "parameters": parameters,
        "parameters_trained": parameters["total"],
        "steps": steps,
        "epochs": steps / 1620,
        "tokens_seen": steps * tokens_per_step,
        "seconds_training": 474.4,
        "tokens_per_second": 20_980.0,
        "windows_per_epoch": 51_832,
        "tokens_per_step": tokens_per_step,
        "precision": "bf16",
        "stopped_early": False,
        "curve": curve,
        "validations": validations,
        "validation_windows": 256,
        "validation_split_windows": 2_595,
        "best": {key: best[key] for key in ("step", "loss", "perplexity")},
        "changes": {
            "first_to_best": around(best["loss"] - validations[0]["loss"]),
            "best_to_last": around(validations[-1]["loss"] - best["loss"]),
            "previous_to_last": around(validations[-1]["loss"] - validations[-2]["loss"]),
            "training_to_validation": around(0.04),
            "training_best_to_last": around(-0.01),
            "best": around(best["loss"]),
        },
        "uniform_perplexity": 4812.0,
        "unigram_perplexity": 214.7,
        **_common(486.0),
    }


def around(value: float, reach: float = 0.002) -> list[float]:
    """A difference and its interval."""
    return [value, value - reach, value + reach]


def evaluation() -> dict[str, Any]:
    return {
        "num_stories": 50,
        "prompt_tokens": 5,
        "max_new_tokens": 58,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 0,
        "checkpoint": "step-4860",
        "perplexity": {
            "generated": {"token_weighted": 8.31, "sequence_mean": 8.74},
            "true": {"token_weighted": 8.12, "sequence_mean": 8.47},
        },
        "bleu": {
            "corpus": 6.42,
            "signature": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5.1",
            "sentence_mean": 7.91,
            "sentence_signature": "nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:2.5.1",
            "interval": [6.42, 5.3, 7.54],
        },
        "differences": {
            "log_probability": [-1.3, -5.1, 2.5],
            "log_probability_per_token": [-0.023, -0.09, 0.044],
            "length": [-1.2, -4.0, 1.6],
            "repetition": [0.004, -0.003, 0.011],
            "distinct_1": [-0.011, -0.02, -0.002],
            "distinct_2": [-0.023, -0.045, -0.001],
            "distinct_3": [-0.019, -0.04, 0.002],
        },
        "distinct": {
            "generated": {"1": 0.182, "2": 0.531, "3": 0.762},
            "true": {"1": 0.193, "2": 0.554, "3": 0.781},
        },
        "unk_rate": {"generated": 0.0, "true": 0.0005},
        "repetition": {"generated": 0.021, "true": 0.017},
        "validation": {
            "tokens": 166_020,
            "loss": 2.0921,
            "perplexity": 8.102,
            "bits_per_byte": 0.7196,
        },
        "texts": [
            {
                "prompt": "Once upon a time,",
                "generated": "there was a little boy named Tim. He liked to play in the park. "
                f"One day, he found a shiny key number {i}.",
                "true": STORY[18:180],
                "bleu": 4.1 + 3 * i,
                "perplexity": 6.2 + i,
            }
            for i in range(50)
        ],
        **_common(21.3),
    }


def samples() -> dict[str, Any]:
    prompts = config().report.prompts
    settings = [
        ("greedy", {"temperature": 0}, (0.061, 0.162, 0.243, 2.9, 0.0, 131.0, 0.67)),
        ("temperature 0.7", {"temperature": 0.7}, (0.121, 0.392, 0.038, 5.1, 0.0, 149.0, 0.83)),
        ("temperature 1", {"temperature": 1.0}, (0.173, 0.529, 0.016, 8.6, 0.001, 152.0, 0.83)),
        ("top-p 0.9", {"top_p": 0.9}, (0.139, 0.446, 0.027, 5.9, 0.0, 147.0, 0.83)),
    ]
    names = ("distinct_1", "distinct_2", "repetition", "perplexity", "unk_rate", "mean_length",
             "finished_share")  # fmt: skip
    reference = dict(zip(names, (0.176, 0.541, 0.015, 8.2, 0.0005, 166.0, 1.0), strict=True))
    metrics = {name: dict(zip(names, values, strict=True)) for name, _, values in settings}
    return {
        "max_new_tokens": 200,
        "num_stories": 50,
        "prompt_tokens": 5,
        "differences": sample_differences(metrics, reference),
        "settings": [
            {
                "name": name,
                "config": chosen,
                "outputs": [
                    {
                        "prompt": prompt,
                        "text": f"{prompt}{(LOOP if name == 'greedy' else STORY)[17:]}",
                        "num_tokens": 71 + 11 * i,
                        "finished": i != 1,
                    }
                    for i, prompt in enumerate(prompts)
                ],
                "metrics": metrics[name],
                "texts": [STORY[18:]] * 50,
            }
            for name, chosen, _ in settings
        ],
        "reference": reference,
        **_common(17.9),
    }


def sample_differences(
    metrics: dict[str, dict[str, float]], reference: dict[str, float], reach: float = 0.03
) -> dict[str, Any]:
    """Differences of settings, each uncertain by a share ``reach`` of the largest value."""
    both = {**metrics, "true": reference}

    def distance(of: dict[str, float]) -> float:
        return sum(abs(of[key] - reference[key]) for key in ("distinct_2", "repetition"))

    values = {
        **{key: {name: of[key] for name, of in both.items()}
           for key in ("distinct_1", "distinct_2", "repetition")},
        "log_probability_per_token": {
            name: -math.log(of["perplexity"]) for name, of in both.items()
        },
        "distance": {name: distance(of) for name, of in metrics.items()},
    }  # fmt: skip
    return {measure: differences(of, reach) for measure, of in values.items()}


def differences(values: dict[str, float], reach: float) -> dict[str, dict[str, list[float]]]:
    """Differences of named values, each uncertain by a share ``reach`` of the largest."""
    around = reach * max(map(abs, values.values()))
    names = list(values)
    return {
        name: {
            other: [(gap := values[name] - values[other]), gap - around, gap + around]
            for other in names[i + 1 :]
        }
        for i, name in enumerate(names)
    }


def attention() -> dict[str, Any]:
    """Results of the attention experiment on made-up heads of every kind."""
    import torch

    from tinylm.experiments.attention.example_sentences import ExampleSentence
    from tinylm.experiments.attention.measure import as_result
    from tinylm.interpretability.attention_maps import SentenceAttention

    texts = {
        "The girl was sad because she lost her red ball.": "the first without direct speech",
        'Tom said, "I want to help you, mom."': "the first with direct speech",
        "The dog saw Lily and Lily saw the dog.": "the first in which a name or a long word "
        "returns",
    }
    generator = torch.Generator().manual_seed(0)
    analysed = []
    for sentence in texts:
        words = ["<sos>", *re.findall(r"\w+|[^\w\s]", sentence.lower())]
        kinds = {word: i for i, word in enumerate(dict.fromkeys(words))}
        seq = len(words)
        scores = 2.5 * torch.randn(3, 8, seq, seq, generator=generator)
        blocked = torch.ones(seq, seq, dtype=torch.bool).triu(1)
        patterns = scores.masked_fill(blocked, -torch.inf).softmax(-1)
        analysed.append(
            SentenceAttention(tuple(words), tuple(kinds[word] for word in words), patterns)
        )
    examples = [ExampleSentence(text, reason) for text, reason in texts.items()]
    return {**_heads(), "stories": 100, **as_result(examples, analysed), **_common(9.4)}


def _heads() -> dict[str, Any]:
    """Return 24 heads, one of every role and the rest mixed; the last three are worth nothing."""
    from tinylm.experiments.attention.measure import heads_result
    from tinylm.interpretability.head_ablation import HeadWorth
    from tinylm.interpretability.head_measures import Favourite, HeadMeasure, Share
    from tinylm.interpretability.places import PLACES
    from tinylm.measurement import Difference

    class Spelled:
        def token(self, token_id: int) -> str:
            return COMMON.split()[token_id]

    measures, worth = [], {}
    for i in range(24):
        layer, head = divmod(i, 8)
        shares = {
            place.name: Share(0.62 if i == j else 0.09, 0.08, 2_000)
            for j, place in enumerate(PLACES)
        }
        measures.append(
            HeadMeasure(
                layer=layer,
                head=head,
                shares=shares,
                distance=3.0 + 4 * layer,
                even_distance=16.0,
                entropy=0.9 - 0.02 * i,
                favourites=(Favourite(i % 9, 2.5),) if i % 2 else (),
            )
        )
        value = 0.1 / (1 + i) if i < 21 else 0.0
        worth[layer, head] = Difference(value, value - 0.002, value + 0.002)
    idle = ((2, 5), (2, 6), (2, 7))
    return heads_result(
        measures, HeadWorth(2.0921, worth, idle, Difference(0.012, 0.009, 0.015)), Spelled()
    )


def results() -> dict[str, dict[str, Any]]:
    # They stand on this module.
    from tests.report import finetuning_fixtures, lab_fixtures, method_fixtures

    return {
        "data": data(),
        "training": training(),
        "evaluation": evaluation(),
        "samples": samples(),
        "attention": attention(),
        **method_fixtures.results(),
        **finetuning_fixtures.results(),
        **lab_fixtures.results(),
    }


def write_run(
    folder: Path, results: dict[str, dict[str, Any]], run: RunConfig | None = None
) -> Path:
    """Write a run's folder as the experiments leave it."""
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_yaml(run or config()), "utf-8")
    os.utime(folder / "config.yaml", (WRITTEN, WRITTEN))
    for name, values in results.items():
        path = folder / "results" / f"{name}.json"
        write_result(path, values)
        os.utime(path, (WRITTEN, WRITTEN))
    return folder


def _split(stories: int, tokens: int, text_bytes: int, unknown: int) -> dict[str, Any]:
    return {
        "stories": stories,
        "tokens": tokens,
        "text_bytes": text_bytes,
        "unknown": unknown,
        "unknown_rate": unknown / tokens,
    }


def _common(seconds: float) -> dict[str, Any]:
    return {"environment": dict(ENVIRONMENT), "seconds": seconds}
