"""The evaluation experiment: continuations of validation stories, and the whole split's loss."""

from __future__ import annotations

from typing import Any

from tinylm.checkpoint import Checkpoint, load_checkpoint
from tinylm.config import RunConfig
from tinylm.data.windows import windows_of
from tinylm.evaluation.continuations import continue_stories, measure_continuations
from tinylm.evaluation.perplexity import split_loss
from tinylm.evaluation.targets import measure_targets
from tinylm.experiments.context import Console, Context, tell_fewer, tell_left_out, threads
from tinylm.experiments.preparation import encoded_split
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import Tokenizer
from tinylm.training.precision import resolve_device


def run(context: Context) -> dict[str, Any]:
    """Measure the run's best checkpoint on the validation split.

    Raises:
        CheckpointError: if there is none.
    """
    config = context.config
    checkpoint = load_checkpoint(context.folder)
    return evaluate_checkpoint(checkpoint, config, context.console)


def evaluate_checkpoint(
    checkpoint: Checkpoint, config: RunConfig, console: Console
) -> dict[str, Any]:
    """Measure a checkpoint on the validation split of a configuration's corpus.

    Raises:
        DataError: if the corpus cannot be used.
    """
    model = checkpoint.build_language_model()
    return {
        **evaluate_model(model, checkpoint.tokenizer, config, console),
        "checkpoint": checkpoint.path.resolve().name,
    }


def evaluate_model(
    model: GenerativeModel, tokenizer: Tokenizer, config: RunConfig, console: Console
) -> dict[str, Any]:
    """Measure a model on the validation split of a configuration's corpus.

    Raises:
        DataError: if the corpus cannot be used.
    """
    model = model.to(resolve_device(config.training.device))
    validation = encoded_split(config.data, tokenizer, "validation", console)
    settings = config.evaluation
    with threads(config.training.threads):
        with console.task(f"Continuing validation {validation.header.nouns}", 1.0) as done:
            texts = continue_stories(model, validation, settings, done)
            measures = measure_continuations(model, tokenizer, texts, settings)
        tell_fewer(console, "evaluation.num_stories", settings.num_stories, len(texts.prompts))
        with console.task("Measuring the validation split", 1.0) as done:
            # Every kind by the same: each token from those before it.
            windows = windows_of(validation, model.config, view="whole")
            loss = split_loss(model, windows, settings.batch_size, progress=done)
        tell_left_out(console, windows)
        if validation.pairs is not None:
            with console.task("Writing the targets of validation pairs", 1.0) as done:
                measures["targets"] = measure_targets(model, tokenizer, validation, settings, done)
    return {
        **measures,
        "unit": validation.header.noun,
        "validation": {
            "tokens": loss.num_tokens,
            "loss": loss.mean,
            "perplexity": loss.perplexity,
            "bits_per_byte": loss.bits_per_byte(windows.num_text_bytes),
        },
    }
