"""How long a step of PPO, GRPO and DPO takes, beside TRL's trainers on the same model and rollouts.

All have the same sizes, weights, prompts and learning rate, in fp32; a step of PPO is a phase: its
rollouts, and two passes over them. What is done with given responses (log-probabilities of policy
and start, rewards, loss, gradient, update) is timed apart from the whole step, with generation.
TRL's PPO has a value model of its own, as large as the policy, where ours has a head on it.

    python benchmarks/aligning.py [--rounds 7] [--json FILE]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import contextlib
import io
import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import trl_trainers
from tables import hardware_line, print_table, table

from tinylm.alignment.log_probabilities import sample_responses
from tinylm.alignment.samples import Sample
from tinylm.config import ModelConfig, TrainingConfig
from tinylm.data.preferences import Preferences, Ranking
from tinylm.evaluation.speed import run_interleaved
from tinylm.fast import install
from tinylm.model.decoder import DecoderLM
from tinylm.registry import ALIGNMENTS
from tinylm.tasks.alignment import policy as rollouts
from tinylm.tasks.alignment.base import Aim
from tinylm.tokenizers.word import WordSettings, WordTokenizer
from tinylm.training.allocator import keep_freed_memory
from tinylm.training.step import TrainingStep

VOCABULARY, CONTEXT, PROMPT, NEW = 1300, 256, 9, 160
RESPONSES, GROUP, PASSES, PAIRS = 64, 8, 2, 16
RATE = 1e-6
"""So low that the model stays as it is, and with it the lengths of what it writes."""


class LengthReward:
    """Costs nothing, and is not the same for all."""

    label = "length"

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [len(sample.ids) % 7 / 7 for sample in samples]


def model() -> DecoderLM:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        num_heads=8,
        num_layers=3,
        context_length=CONTEXT,
        dropout=0.0,
        **trl_trainers.AS_GPT2,
    )
    made = DecoderLM(config).eval()
    with torch.no_grad():  # ends come as often as in stories of 150 words
        made.embedding.weight[trl_trainers.EOS] *= 2
    return made


def ours(
    name: str, start: DecoderLM, asked: list[list[int]], preferences: Any = None, **own: Any
) -> Callable[[], None]:
    """Return what takes a phase of a method, as the training loop does."""
    method = ALIGNMENTS.load(name)
    settings = method.Settings(**own)
    quick = deepcopy(start)
    install(quick)
    aim = Aim(
        start=quick,
        settings=settings,
        tokenizer=WordTokenizer.train(["a"], WordSettings(min_frequency=1)),
        prompts=asked,
        held_out=asked[:1],
        most=NEW,
        reward=LengthReward(),
        preferences=preferences,
        source="benchmark",
        seed=0,
        batch_size=RESPONSES,
    )
    task = method(aim)
    batch_size = PAIRS if preferences else RESPONSES
    training = TrainingConfig(
        device="cpu", precision="fp32", learning_rate=RATE, batch_size=batch_size, max_steps=1000
    )
    training = method.suited(training, settings)
    policy = deepcopy(start)
    step = TrainingStep(policy, task.loss, training, 1000, task.beside, task.held)
    taken = 0
    if preferences:
        task.read_texts(lambda done: None)

    def run() -> None:
        nonlocal taken
        for _ in range(own.get("passes", 1)):
            indices = np.random.default_rng(taken).permutation(len(task))
            step.backward([task.prepare(policy, task.batch(indices))])
            step.update()
            taken += 1
            task.after_step(policy, taken)

    return run


def given(run: Callable[[], None], samples: list[Sample]) -> Callable[[], None]:
    """Return the same with responses that were drawn before."""

    def without_generation() -> None:
        with mock.patch.object(rollouts, "sample_responses", lambda *_, **__: samples):
            run()

    return without_generation


def competitors() -> dict[str, tuple[dict[str, Callable[[], None]], int]]:
    """Return what is compared, by what it does, and how many responses it learns from."""
    start = model()
    torch.manual_seed(1)
    prompts = [[2, *torch.randint(4, VOCABULARY, (PROMPT - 1,)).tolist()] for _ in range(RESPONSES)]
    groups = prompts[: RESPONSES // GROUP]
    in_groups = [prompt for prompt in groups for _ in range(GROUP)]
    drawn = {name: sample_responses(start, each, NEW, 3) for name, each in
             (("ppo", prompts), ("grpo", in_groups))}  # fmt: skip
    texts = {name: [list(s.response) for s in samples] for name, samples in drawn.items()}
    pairs = [
        (s.prompt, s.response, other.response)
        for s, other in zip(drawn["ppo"][:PAIRS], drawn["ppo"][PAIRS : 2 * PAIRS], strict=True)
    ]
    rankings = tuple(Ranking(prompt, (w, lo), (0, 1)) for prompt, w, lo in pairs)
    preferences = Preferences(rankings, rankings, "benchmark")

    def theirs() -> Any:
        return trl_trainers.gpt2_of(start)

    def reward(responses: Sequence[Sequence[int]]) -> list[float]:
        return [len(each) % 7 / 7 for each in responses]

    ppo: dict[str, Any] = {"prompts": RESPONSES, "samples": 1, "passes": PASSES}
    grpo: dict[str, Any] = {"prompts": RESPONSES // GROUP, "samples": GROUP}
    work: dict[str, tuple[dict[str, Callable[[], None]], int]] = {}
    for whole in (False, True):
        how = "with generation" if whole else "given responses"
        own = {name: ours(name, start, of, **settings) for name, of, settings in
               (("ppo", prompts, ppo), ("grpo", groups, grpo))}  # fmt: skip
        if not whole:
            own = {name: given(run, drawn[name]) for name, run in own.items()}
        of_ppo = None if whole else texts["ppo"]
        of_grpo = None if whole else texts["grpo"]
        work[f"PPO, a phase {how}"] = (
            {
                "tinylm": own["ppo"],
                "TRL": trl_trainers.ppo(theirs(), prompts, NEW, PASSES, RATE, of_ppo),
            },
            RESPONSES,
        )
        work[f"GRPO, a step {how}"] = (
            {
                "tinylm": own["grpo"],
                "TRL": trl_trainers.grpo(theirs(), groups, GROUP, NEW, RATE, reward, of_grpo),
            },
            RESPONSES,
        )
    work["DPO, a step"] = (
        {
            "tinylm": ours("dpo", start, prompts, preferences),
            "TRL": trl_trainers.dpo(theirs(), pairs, RATE, 0.1),
        },
        2 * PAIRS,
    )
    return work


def cpu_seconds(run: Callable[[], None], times: int = 3) -> float:
    """Return the processor time of a call, the median of a few."""
    taken = []
    for _ in range(times):
        started = time.process_time()
        run()
        taken.append(time.process_time() - started)
    return sorted(taken)[times // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the result here too")
    arguments = parser.parse_args()
    keep_freed_memory()
    print(f"{hardware_line()}, torch {torch.__version__}; {RESPONSES} responses of {NEW} at most")
    results = {}
    with trl_trainers.quiet():
        work = competitors()
        for title, (both, responses) in work.items():
            with contextlib.redirect_stdout(io.StringIO()):
                times = run_interleaved(both, arguments.rounds)
                cpu = {name: cpu_seconds(run) for name, run in both.items()}
            results[title] = table(times, "TRL", amount=responses, unit="responses")
            for row in results[title]:  # of all threads: what else runs here disturbs it less
                row["cpu_s"] = cpu[row["name"]]
            print(f"\n{title}")
            print_table(results[title], "TRL")
    if arguments.json:
        result = {"benchmark": "aligning", "hardware": hardware_line(), "results": results}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
