"""What a student learns from its teacher, beside one that learns alone: equal steps and tokens.

Students of one size are trained on a run's text by each method, from several seeds; `alone` is
plain training. Perplexity is over windows of the validation split, corpus BLEU of greedy
continuations of validation stories against the true ones. A method's difference from `alone` has a
95 % interval that pairs the seeds. Speed is of greedy decoding of one text, teacher and student in
turns.

    python benchmarks/distilling.py runs/NAME [--steps 600] [--seeds 3] [-o model.num_layers=1]
"""

from __future__ import annotations

from tinylm import native  # noqa: F401 - before torch, which reads its settings once

# isort: split
import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tables import hardware_line

from tinylm.config import EvaluationConfig, GenerationConfig
from tinylm.data.windows import TokenWindows
from tinylm.evaluation.bleu import bleu
from tinylm.evaluation.continuations import continuation_text, generate_in_batches, story_prompts
from tinylm.evaluation.perplexity import split_loss
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.context import Context, SilentConsole, open_run
from tinylm.experiments.distilling import distill
from tinylm.experiments.preparation import encoded_split
from tinylm.fast import install, remove
from tinylm.language_model import LanguageModel
from tinylm.measurement import mean

ALONE = "alone"
METHODS: dict[str, tuple[str, tuple[str, ...]]] = {
    ALONE: ("word", ("alpha=0",)),
    "word": ("word", ()),
    "word, T = 2": ("word", ("temperature=2",)),
    "reverse": ("reverse", ()),
    "hidden": ("hidden", ()),
    "sequence": ("sequence", ()),
    "both": ("both", ()),
    "on-policy": ("on-policy", ()),
}
"""Row -> method and its settings."""
FROM_TEACHER = ("sequence", "both")
EVALUATION = EvaluationConfig(num_stories=100, prompt_tokens=8, max_new_tokens=100)


class Bench:
    """A teacher, and what its students are measured on."""

    def __init__(self, context: Context, windows: int) -> None:
        self.context = context
        self.teacher = LanguageModel.load(context.folder)
        config = context.config
        split = encoded_split(config.data, self.teacher.tokenizer, "validation", context.console)
        self.validation = TokenWindows(split, config.model.context_length)
        self.indices = self.validation.fixed_subset(windows)
        self.prompts = story_prompts(split, EVALUATION, config.model.context_length)

    def measured(self, lm: LanguageModel) -> dict[str, float]:
        """Return loss and BLEU of a model."""
        install(lm.model)
        loss = split_loss(lm.model, self.validation, 8, self.indices)
        remove(lm.model)
        greedy = GenerationConfig(
            strategy="greedy", max_new_tokens=self.prompts.most, allow_unk=True
        )
        made = generate_in_batches(lm.model, self.prompts.prompts, greedy, 32)
        cut = [true[: len(each.ids)] for true, each in zip(self.prompts.true, made, strict=True)]
        texts = (
            [
                continuation_text(lm.tokenizer, prompt, ids)
                for prompt, ids in zip(self.prompts.prompts, rests, strict=True)
            ]
            for rests in ([each.ids for each in made], cut)
        )
        return {"loss": loss.mean, "bleu": bleu(*texts).corpus}


def options_of(row: str, arguments: argparse.Namespace, seed: int) -> list[str]:
    """Return what a student is trained with."""
    method, own = METHODS[row]
    return [
        *arguments.option,
        *own,
        *([f"texts={arguments.texts}"] if method in FROM_TEACHER else []),
        f"training.max_steps={arguments.steps}",
        f"training.validation_interval={arguments.steps}",
        "training.checkpoint_interval=0",
        "training.tensorboard=false",
        f"training.seed={seed}",
    ]


def shown(row: str, students: Sequence[dict[str, float]], alone: Sequence[dict[str, float]]) -> str:
    """Return a line on the students of a method beside those that learned alone."""
    perplexity = sum(math.exp(each["loss"]) for each in students) / len(students)
    score = sum(each["bleu"] for each in students) / len(students)
    line = f"{row:14} perplexity {perplexity:6.3f}  BLEU {score:5.2f}"
    if row == ALONE or len(students) < 2:
        return line
    apart = {
        key: mean([own[key] - other[key] for own, other in zip(students, alone, strict=True)])
        for key in ("loss", "bleu")
    }
    more, low, high = (100 * math.expm1(x) for x in (apart["loss"].value, *apart["loss"].ends))
    line += f"  perplexity {more:+6.2f} % ({low:+.2f} to {high:+.2f})"
    low, high = apart["bleu"].ends
    return f"{line}  BLEU {apart['bleu'].value:+5.2f} ({low:+.2f} to {high:+.2f})"


def speeds(teacher: LanguageModel, student: LanguageModel) -> str:
    """Return how much quicker a student decodes one text greedily."""
    config = GenerationConfig(strategy="greedy", max_new_tokens=100, min_new_tokens=100)
    times = run_interleaved(
        {
            name: lambda lm=lm: lm.generate("Once upon a time", config)
            for name, lm in (("teacher", teacher), ("student", student))
        }
    )
    ratio = times["teacher"].median / times["student"].median
    sizes = [sum(p.numel() for p in lm.model.parameters()) for lm in (teacher, student)]
    return (
        f"the student has {sizes[1]:,} numbers, the teacher {sizes[0]:,}; it decodes one text "
        f"{ratio:.2f} times as quickly"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=2000, help="Texts that the teacher writes.")
    parser.add_argument("--windows", type=int, default=120)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("-o", "--option", action="append", default=[])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bench = Bench(open_run(arguments.run, SilentConsole()), arguments.windows)
    of_teacher = bench.measured(bench.teacher)
    print(hardware_line())
    print(f"teacher: perplexity {math.exp(of_teacher['loss']):.3f}, BLEU {of_teacher['bleu']:.2f}")
    rows: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for row in dict.fromkeys([ALONE, *arguments.methods]):
            students = []
            for seed in range(arguments.seeds):
                out = Path(folder) / f"{list(METHODS).index(row)}-{seed}"
                distill(arguments.run, out, METHODS[row][0], options_of(row, arguments, seed))
                students.append(bench.measured(LanguageModel.load(out)))
            rows[row] = students
            print(shown(row, students, rows[ALONE]), flush=True)
        print(speeds(bench.teacher, LanguageModel.load(out)))
    if arguments.json:
        result: dict[str, Any] = {"machine": hardware_line(), "teacher": of_teacher, "rows": rows}
        arguments.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
