"""The seed tasks that come with the package: written by hand, about stories for children."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from tinylm.alignment.self_instruct.records import Instance, read_tasks

_FILE = "seeds.jsonl"


def seed_tasks() -> list[Instance]:
    """Return the seed tasks of the package, two thirds of which are no classification."""
    with resources.as_file(resources.files(__package__) / _FILE) as path:
        return read_tasks(Path(path))
