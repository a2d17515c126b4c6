"""The texts that a teacher wrote, as a corpus in its student's folder.

``train.jsonl`` holds each text with its beginning, ``validation.jsonl`` the texts that the run
holds out of training, so that the folder is a whole corpus for the reader of files. What was
written is kept beside the token files of the run's text, for the teacher's next student.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, with_config
from typing_extensions import TypedDict

from tinylm import folders
from tinylm.atomic import write_text
from tinylm.config import DataConfig
from tinylm.config.distillation import SequenceConfig
from tinylm.data.corpora import open_corpus
from tinylm.errors import DataError
from tinylm.experiments.context import Console
from tinylm.experiments.preparation import PreparedData, digest, encoded_split, kept_file
from tinylm.model.base import GenerativeModel
from tinylm.model.weights import state_sha256
from tinylm.reading import read_signed, signed
from tinylm.tasks.distillation.texts import TeacherTexts, beginnings, teacher_texts

CORPUS = "corpus"
"""The folder's name."""


@with_config(extra="forbid")
class WrittenTexts(TypedDict):
    """How the teacher's own texts were made, beside the settings."""

    fingerprint: str
    """Of the corpus that holds them."""
    beginnings: int
    """Of training texts, that the teacher was given."""
    left_out: int
    """Texts that it did not end, which are not in the corpus."""
    tokens: int
    """Of the texts in the corpus, ``<sos>`` and ``<eos>`` included."""


@with_config(extra="forbid")
class _KeptTexts(TypedDict):
    """A teacher's texts, as they are kept for its next student."""

    prompts: list[list[int]]
    rests: list[list[int]]
    left_out: Annotated[int, Field(ge=0)]


def corpus_of(folder: Path, cache_folder: str) -> DataConfig:
    """Return the settings of the corpus that a student's folder holds."""
    path = str((folder / CORPUS).absolute())
    return DataConfig(corpus="files", path=path, cache_folder=cache_folder)


def _written(
    teacher: GenerativeModel,
    prompts: Sequence[list[int]],
    data: PreparedData,
    settings: Any,
    console: Console,
) -> TeacherTexts:
    """Return what a teacher writes; it is kept for its next student, whatever that one's sizes."""
    fields_of_search = fields(SequenceConfig)
    search = {field.name: getattr(settings, field.name) for field in fields_of_search}
    key = json.dumps([state_sha256(teacher), data.train.header.sha256, search], sort_keys=True)

    def write(path: Path) -> None:
        with console.task("The teacher writes", 1.0) as done:
            made = teacher_texts(teacher, prompts, settings, done)
        write_text(path, json.dumps(signed(asdict(made))))

    def read(path: Path) -> TeacherTexts:
        return TeacherTexts(**read_signed(path, _KeptTexts, DataError))

    return kept_file(data.folder / f"teacher-{digest(key)}.json", read, write, console)


def make_corpus(
    out: Path,
    teacher: GenerativeModel,
    data: PreparedData,
    settings: Any,
    cache_folder: str,
    console: Console,
) -> WrittenTexts:
    """Have the teacher write, and keep its texts beside those that are held out of training."""
    prompts = beginnings(data.train, settings)
    if len(prompts) < settings.texts:
        console.note(
            f"texts = {settings.texts:,}: there are {len(prompts):,} beginnings of "
            f"{settings.prompt_tokens} words, all of them are taken"
        )
    made = _written(teacher, prompts, data, settings, console)
    decode = data.tokenizer.decode
    train = [
        {"prompt": decode(prompt), "text": decode([*prompt, *rest])}
        for prompt, rest in zip(made.prompts, made.rests, strict=True)
    ]
    with folders.whole(out / CORPUS) as folder:
        for name, rows in (
            ("train", train),
            ("validation", [{"text": text} for text in data.corpus.validation()]),
        ):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(folder / f"{name}.jsonl", "".join(lines))
    corpus = corpus_of(out, cache_folder)
    split = encoded_split(corpus, data.tokenizer, "train", console)
    console.note(
        f"the teacher wrote {len(train):,} texts of {split.header.num_tokens:,} tokens, "
        f"{made.left_out:,} that it did not end are left out"
    )
    return WrittenTexts(
        fingerprint=open_corpus(corpus).fingerprint(),
        beginnings=len(prompts),
        left_out=made.left_out,
        tokens=split.header.num_tokens,
    )
