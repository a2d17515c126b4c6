"""The ``README.md`` of what is handed in: what is there, how it is installed, a command a part.

The commands follow from the run's own configuration and run as they are printed, from the folder
that the zip unpacks to. Text of the user is escaped everywhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tinylm.config import RunConfig
from tinylm.errors import ConfigError
from tinylm.printable import in_line

_PARTS = (
    ("Word tokenizer", "tokenizers/word.py"),
    ("fastText vectors", "data/vectors.py"),
    ("Positions, attention, decoder", "model/decoder.py"),
    ("Training loop", "training/loop.py"),
    ("Sampling", "generation/strategies/sampling.py"),
    ("Beam search", "generation/strategies/beam.py"),
    ("Key-value cache", "model/cache.py"),
    ("Gradient accumulation", "training/accumulation.py"),
    ("Gradient checkpointing", "training/recompute.py"),
    ("Low-rank adaptation", "finetuning/lora.py"),
    ("What heads do", "interpretability/head_measures.py"),
)
"""A part of the work, and where its code begins."""
METRICS = "metrics.jsonl"
_PROMPT = "Once upon a time"
_TEMPERATURE = 0.8
_HYPOTHESES = 3
_MARKUP = re.compile(r"[\\`*_\[\]<>|!~&$:@]|(?<=www)\.", re.IGNORECASE)
"""Characters with a meaning within a line, those of GitHub's links without brackets included."""


@dataclass(frozen=True)
class CheckpointFile:
    """A file of the checkpoint, which is not in the zip."""

    name: str
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Subject:
    """What the README describes."""

    entry: str
    config: RunConfig
    """That the report was made with."""
    text: str | None
    """What the corpus is, if that was measured."""
    has_metrics: bool
    """Whether the lines that training logged are there."""
    checkpoint: str
    """Name of its folder."""
    place: str
    """Where it lies on the author's machine."""
    files: tuple[CheckpointFile, ...]
    url: str | None
    """Where it can be downloaded."""
    version: str
    """Of tinylm."""
    is_locked: bool
    """Whether exact versions of all packages are there."""
    has_training: bool = True
    """Whether the model was trained by the configuration, and not made of another run's."""


def readme(subject: Subject) -> str:
    """Return the text.

    Raises:
        ConfigError: if a command would hold a control character.
    """
    report = subject.config.report
    author = f", by {escaped(report.author)}" if report.author else ""
    lines = [
        f"# {escaped(subject.entry)}",
        "",
        f"What belongs to the report “{escaped(report.title)}”{author}.",
        "",
        "| here | what it is |",
        "|---|---|",
        "| `report.pdf` | the report |",
        "| `config.yaml` | the configuration that it was made with, every setting resolved |",
        "| `results/` | what each experiment measured, as JSON |",
        *([f"| `{METRICS}` | what training logged |"] if subject.has_metrics else []),
        f"| `src/tinylm/` | the code, version {subject.version} |",
        *(f"| {part} | [`src/tinylm/{path}`](src/tinylm/{path}) |" for part, path in _PARTS),
        "",
        *_installation(subject),
        *_checkpoint(subject),
        *_commands(subject),
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return text as Markdown that shows it as it is, on one line, but not at its beginning."""
    return _MARKUP.sub(r"\\\g<0>", in_line(text))


def _installation(subject: Subject) -> Iterator[str]:
    yield "## Installation"
    yield ""
    yield "With Python 3.11 or newer, in this folder:"
    yield ""
    yield from _shell("python3 -m venv .venv", ". .venv/bin/activate", "pip install .")
    if subject.is_locked:
        yield (
            "`requirements.lock` names the exact version of every package; "
            "`pip install -r requirements.lock` before the last line installs these."
        )
        yield ""


def _checkpoint(subject: Subject) -> Iterator[str]:
    yield "## Checkpoint"
    yield ""
    if subject.url is not None:
        yield f"The trained model is at <{subject.url}>. It is a folder of these files:"
    else:
        yield (
            "**To be filled in: the address at which the trained model can be downloaded.** On the "
            f"author's machine it is the folder {escaped(subject.place)}, with these files:"
        )
    yield ""
    yield "| file | bytes | SHA-256 |"
    yield "|---|---|---|"
    for file in subject.files:
        yield f"| `{file.name}` | {file.num_bytes} | `{file.sha256}` |"
    yield ""
    use = "use them in place of a training, and" if subject.has_training else "use them, and"
    yield (
        f"Save them in a folder `checkpoint` here, and the commands below {use} show what was "
        "measured, or measure it again with `--again`:"
    )
    yield ""
    run, step = f"runs/{subject.entry}", subject.checkpoint
    measured = ["results", METRICS] if subject.has_metrics else ["results"]
    checkpoints = f"{run}/checkpoints"
    yield from _shell(
        shlex.join(["mkdir", "-p", checkpoints]),
        shlex.join(["cp", "-r", "config.yaml", *measured, run]),
        shlex.join(["cp", "-r", "checkpoint", f"{checkpoints}/{step}"]),
        shlex.join(["ln", "-s", step, f"{checkpoints}/best"]),
        shlex.join(["ln", "-s", step, f"{checkpoints}/last"]),
    )


def _commands(subject: Subject) -> Iterator[str]:
    config = subject.config
    run = f"runs/{subject.entry}"
    yield "## Commands"
    yield ""
    if subject.text is not None:
        yield f"The text: {escaped(subject.text)}"
    if config.data.path is not None:
        yield (
            "It is not in this zip: set `data.path` in `config.yaml` to the folder or file in "
            "which it lies."
        )
    if config.vectors.path is not None:
        yield (
            "The embedding starts from published fastText vectors: set `vectors.path` in "
            "`config.yaml` to their file."
        )
    yield ""
    for heading, words in _parts(subject, run):
        yield f"### {heading}"
        yield ""
        yield from _shell(*(_command(line) for line in words))


def _parts(subject: Subject, run: str) -> Iterator[tuple[str, Sequence[Sequence[str]]]]:
    """Yield a heading and its commands, for every part of the work that they can do again."""
    config = subject.config
    prompts = (p for p in config.report.prompts if p.isprintable() and "`" not in p and p.strip())
    prompt = next(prompts, _PROMPT)
    wanted = config.generation
    temperature = f"{wanted.temperature or _TEMPERATURE:g}"
    beams = max(2, config.experiments.beam_search.widths[0])
    generate = ["generate", run, prompt]
    yield "Look at the data", [["data", "--config", "config.yaml"]]
    if subject.has_training:
        yield "Train", [["train", "--config", "config.yaml", "--name", subject.entry]]
    yield "Evaluate: perplexity, BLEU, diversity", [["evaluate", run]]
    yield (
        "Generate: sampling, greedy decoding, beam search",
        [
            [*generate, "--strategy", "sampling", "--temperature", temperature, "--seed", "1"],
            [*generate, "--strategy", "greedy"],
            [*generate, "--strategy", "beam", "--num-beams", f"{beams}",
             "--num-return", f"{min(beams, _HYPOTHESES)}"],
        ],
    )  # fmt: skip
    for heading, experiment in (
        ("Decoding strategies compared", "beam-search"),
        ("Key-value cache", "kv-cache"),
        ("Gradient accumulation", "accumulation"),
        ("Gradient checkpointing", "gradient-checkpointing"),
        ("Depth, heads and learning rate", "hyperparameters"),
    ):
        yield heading, [["experiment", experiment, "--run", run]]
    yield "Fine-tune by LoRA, use the adapter, merge it", _finetuning(config, run, prompt)
    yield "What attention heads do", [["attention", run]]
    yield "Check fast paths beside plain ones", [["verify", run]]
    if subject.has_training:
        yield "Write the report, with all that is in it", [["report", "--run", run]]


def _finetuning(config: RunConfig, run: str, prompt: str) -> list[list[str]]:
    settings = config.experiments.finetuning
    target = settings.target or ("stories" if config.data.corpus == "letters" else "letters")
    return [
        ["finetune", run, "--method", "lora", "--data", target, "--steps", f"{settings.steps}"],
        ["generate", run, prompt, "--adapter", "lora", "--seed", "1"],
        ["merge", run, "lora", "--out", f"{run}-merged"],
    ]


def _command(words: Sequence[str]) -> str:
    line = shlex.join(["tinylm", *words])
    if not line.isprintable():
        raise ConfigError(f"a command of the README would hold a control character: {line!a}")
    return line


def _shell(*lines: str) -> Iterator[str]:
    yield "```sh"
    yield from lines
    yield "```"
    yield ""
