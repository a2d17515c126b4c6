"""Classifiers on disk: a folder with what was trained and what it belongs to.

``classifier.safetensors`` holds the trained parameters alone: the head, [CLS], and of the body what
was trained of it. ``classifier.json`` holds labels, settings, the fingerprint of the base and the
SHA-256 of the tensors. Each file is written whole or not at all, classifier.json last. Nothing is
pickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import Field, with_config
from torch import Tensor
from typing_extensions import TypedDict

from tinylm.atomic import write_bytes
from tinylm.config import from_dict, to_dict
from tinylm.config.finetuning import ClassificationConfig
from tinylm.errors import AdapterError
from tinylm.finetuning.classification import Classifier, trained
from tinylm.finetuning.storage import fill, read_files, refuse_other_base
from tinylm.model.base import GenerativeModel
from tinylm.reading import signed

FORMAT = "tinylm classifier 1"
TENSORS = "classifier.safetensors"
ABOUT = "classifier.json"


@dataclass(frozen=True)
class StoredClassifier:
    """A classifier read from a folder."""

    settings: ClassificationConfig
    labels: tuple[str, ...]
    max_tokens: int
    """Tokens of a text that are read; the rest is cut off."""
    base: str
    """Fingerprint of its base."""
    start_id: int
    """Token that [CLS] started from."""
    tensors: dict[str, Tensor]
    """Under the names of ``classification.trained``."""


def save_classifier(
    classifier: Classifier, labels: Sequence[str], max_tokens: int, start_id: int, folder: Path
) -> int:
    """Write a classifier to a folder.

    Args:
        classifier: its trained parameters are written.
        labels: in the order of the logits.
        max_tokens: tokens of a text that are read.
        start_id: token that [CLS] started from.
        folder: made if it is not there.

    Returns:
        Bytes of the file of tensors.

    Raises:
        AdapterError: if the files cannot be written.
    """
    tensors = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in trained(classifier).items()
    }
    content = safetensors.torch.save(tensors, metadata={"format": "pt"})
    about = {
        "format": FORMAT,
        "labels": list(labels),
        "settings": to_dict(classifier.settings),
        "max_tokens": max_tokens,
        "start_id": start_id,
        "base": classifier.base,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    try:
        write_bytes(folder / TENSORS, content)
        write_bytes(folder / ABOUT, json.dumps(signed(about), indent=1).encode())
    except OSError as error:
        raise AdapterError(f"classifier {folder} cannot be written: {error.strerror}") from error
    return len(content)


@with_config(extra="forbid")
class _About(TypedDict):
    """What ``classifier.json`` holds."""

    format: str
    labels: Annotated[list[str], Field(min_length=2)]
    settings: dict[str, Any]
    max_tokens: Annotated[int, Field(ge=2)]
    start_id: Annotated[int, Field(ge=0)]
    base: str
    sha256: str


def read_classifier(folder: Path) -> StoredClassifier:
    """Read the files of a classifier.

    Raises:
        AdapterError: if one is missing, damaged or of another format.
    """
    about, tensors = read_files(folder, TENSORS, ABOUT, "classifier", FORMAT, _About)
    if len(set(about["labels"])) < len(about["labels"]):
        raise AdapterError(f"{folder / ABOUT}: a label stands there twice")
    return StoredClassifier(
        from_dict(ClassificationConfig, about["settings"], f"{folder}/{ABOUT}"),
        tuple(about["labels"]),
        about["max_tokens"],
        about["base"],
        about["start_id"],
        tensors,
    )


def load_classifier(body: GenerativeModel, folder: Path) -> tuple[Classifier, StoredClassifier]:
    """Return the classifier of a folder, in eval mode, and what is known of it.

    Args:
        body: the base that it was trained on; changed in place.
        folder: written by ``save_classifier``.

    Raises:
        AdapterError: if the folder cannot be read, is of another base, or holds other tensors than
            its settings ask for. The weights of ``body`` are then as they were.
    """
    stored = read_classifier(folder)
    refuse_other_base(body, stored.base, f"classifier {folder}")
    config = body.config
    for key, value, most in (
        ("max_tokens", stored.max_tokens, config.context_length),
        ("start_id", stored.start_id, config.resolved_vocab_size - 1),
    ):
        if value > most:
            raise AdapterError(f"{folder / ABOUT}: {key} = {value}, the model has {most} at most")
    with torch.random.fork_rng(devices=[]):  # the start is drawn, and then overwritten
        classifier = Classifier(body, len(stored.labels), stored.settings, stored.start_id)
    fill(trained(classifier), stored.tensors, str(folder / TENSORS), "classifier")
    return classifier.eval(), stored
