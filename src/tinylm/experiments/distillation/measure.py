"""The experiment on distillation: students by every method, at equal steps and tokens.

Every student has the same size, steps, batches and learning rate. Those of one seed begin with the
same weights, and the methods take turns, seed by seed, so that a method is compared with training
alone by the pairs of one seed.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tinylm import folders
from tinylm.config import GenerationConfig, to_dict
from tinylm.evaluation.bleu import bleu
from tinylm.evaluation.continuations import (
    compared_texts,
    continuation_text,
    generate_in_batches,
    story_prompts,
)
from tinylm.evaluation.speed import run_interleaved
from tinylm.experiments.context import Context, tell_fewer, threads
from tinylm.experiments.decoded_text import DecodedText
from tinylm.experiments.distillation.comparing import BLEU
from tinylm.experiments.distillation.settings import DistillationExperiment
from tinylm.experiments.distillation.students import (
    ALONE,
    FOLDER,
    Student,
    config_of_students,
    trained,
    ways,
)
from tinylm.experiments.preparation import encoded_split
from tinylm.language_model import LanguageModel
from tinylm.measurement import Measurement

Row = dict[str, Any]


def run(context: Context) -> dict[str, Any]:
    """Train students of the run's best checkpoint by every method and seed, and compare them.

    Each is a run of its own below ``RUN/distillation``, so that a training that was interrupted
    goes on where it stopped; they are deleted once all are measured.

    Returns:
        ``teacher`` and ``student``: their sizes and the time of decoding a text, taken in turns;
        ``methods``: a row each, the first that of training alone, with the loss in nats a token,
        the corpus BLEU of greedy and of beam continuations and the seconds of training, seed by
        seed; ``texts``: what the teacher wrote, if a method learns from it; ``sample``: what each
        makes of one beginning.

    Raises:
        CheckpointError: if there is no checkpoint.
        ConfigError: if a student would not be smaller than its teacher.
        DataError: if the teacher ends no text.
        StoppedBySignalError: if a signal stopped a training; its state is saved.
        TrainingError: if one diverged.
    """
    settings: DistillationExperiment = context.config.experiments.distillation
    lm = LanguageModel.load(context.folder)
    config = config_of_students(context, lm)
    compared = ways(settings)
    first = context.config.training.seed
    rows: dict[str, list[Row]] = {way.name: [] for way in compared}
    written: dict[str, Student] = {}
    with threads(context.config.training.threads):
        texts = _Texts(context, settings, lm)
        of_teacher, text = texts.scores(lm)
        sample = {"teacher": text}
        total = settings.seeds * len(compared)
        for seed in range(first, first + settings.seeds):
            for way in compared:
                number = 1 + sum(map(len, rows.values()))
                context.console.note(f"Student {number} of {total}: {way.name}, seed {seed}")
                student = trained(context, lm, way, config, seed)
                scores, text = texts.scores(LanguageModel.load(student.folder))
                sample.setdefault(way.name, text)
                written.setdefault(way.name, student)
                rows[way.name].append(
                    {
                        "seed": seed,
                        "loss": student.result["best"]["loss"],
                        **scores,
                        "seconds": student.result["seconds_training"],
                    }
                )
        alone = written[ALONE]
        # The teacher's quick form for training is taken off by reading it again.
        pair = {
            "teacher": LanguageModel.load(context.folder),
            "student": LanguageModel.load(alone.folder),
        }
        times, decoded = _decoding(context, settings, pair)
    corpora = [each.written["texts"] for each in written.values()]
    result = {
        "steps": settings.steps,
        "tokens": alone.result["tokens_seen"],
        "learning_rate": config.training.learning_rate,
        "temperature": settings.temperature,
        "windows": alone.result["validation_windows"],
        "stories": len(texts.prompts.prompts),
        "prompt_tokens": context.config.evaluation.prompt_tokens,
        "new_tokens": texts.prompts.most,
        "num_beams": settings.num_beams,
        "signature": texts.signature,
        "decoded": decoded,
        "beginning_tokens": settings.prompt_tokens,
        "texts": next((each for each in corpora if each is not None), None),
        **{
            name: {**_size(each), "decoding": times[name].as_result()}
            for name, each in pair.items()
        },
        "methods": [
            {
                "name": way.name,
                "label": ALONE if way.name == ALONE else way.kind.label,
                "noun": "training alone" if way.name == ALONE else way.kind.noun,
                "explanation": None if way.name == ALONE else way.kind.explanation,
                "settings": to_dict(way.settings),
                "students": rows[way.name],
            }
            for way in compared
        ],
        "sample": {"prompt": texts.prompt, "texts": sample},
    }
    result["teacher"] |= {"loss": alone.written["teacher_loss"], **of_teacher}
    folders.remove(context.folder / FOLDER)
    return result


class _Texts:
    """Beginnings of validation stories, and how a model goes on from them."""

    def __init__(
        self, context: Context, settings: DistillationExperiment, lm: LanguageModel
    ) -> None:
        config = context.config
        length = lm.model.config.context_length
        split = encoded_split(config.data, lm.tokenizer, "validation", context.console)
        room = length - config.evaluation.prompt_tokens
        wanted = replace(
            config.evaluation,
            num_stories=settings.stories,
            max_new_tokens=max(0, min(settings.new_tokens, room)) or None,
        )
        self.prompts = story_prompts(split, wanted, length)
        there = len(self.prompts.prompts)
        tell_fewer(context.console, "experiments.distillation.stories", settings.stories, there)
        self.prompt = lm.tokenizer.decode(self.prompts.prompts[0])
        self.batch_size = config.evaluation.batch_size
        self.console = context.console
        most, beams = self.prompts.most, settings.num_beams
        self.strategies = [
            GenerationConfig(strategy=name, max_new_tokens=most, num_beams=beams, allow_unk=True)
            for name in BLEU
        ]
        self.signature = ""

    def scores(self, lm: LanguageModel) -> tuple[dict[str, float], str]:
        """Return the corpus BLEU of each strategy, and what the first beginning became greedily."""
        result: dict[str, float] = {}
        first: list[str] = []
        with self.console.task("Continuing stories", len(self.strategies)) as done:
            for place, strategy in enumerate(self.strategies):
                made = generate_in_batches(
                    lm.model,
                    self.prompts.prompts,
                    strategy,
                    self.batch_size,
                    lambda share, before=place: done(before + share),  # type: ignore[misc]
                )
                score = bleu(*compared_texts(lm.tokenizer, self.prompts.continued(made)))
                result[strategy.strategy], self.signature = score.corpus, score.signature
                first.append(continuation_text(lm.tokenizer, self.prompts.prompts[0], made[0].ids))
        return result, first[0]


def _decoding(
    context: Context, settings: DistillationExperiment, models: dict[str, LanguageModel]
) -> tuple[dict[str, Measurement], int]:
    """Time greedy decoding of one text, the models in turns; and return how many tokens it has."""
    text = DecodedText(context, models["teacher"].tokenizer, settings.tokens)
    with context.console.task("Timing teacher and student", 1.0) as done:
        named = {name: text.by(each.model) for name, each in models.items()}
        return run_interleaved(named, settings.repeats, progress=done), text.tokens


def _size(lm: LanguageModel) -> Row:
    assert lm.source is not None
    file: Path = lm.source / "model.safetensors"
    return {
        "num_layers": lm.model.config.num_layers,
        "hidden_size": lm.model.config.hidden_size,
        "weights": lm.model.parameter_counts()["total"],
        "bytes": file.stat().st_size,
    }
