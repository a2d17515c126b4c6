"""Rankings of responses to a prompt: what people, or a rule, like better.

A row of a ``.jsonl`` file has a prompt, two or more responses, and how they rank, by their indices
from 0, the best first, ties as inner lists::

    {"prompt": "Tom had", "responses": ["a dog.", "a cat.", "no"], "ranking": [1, [0, 2]]}

The form of pairs that the Hub's data sets have is read too: ``{"prompt", "chosen", "rejected"}``.
``unfinished`` may list the responses that were cut off where they stand, after which no ``<eos>``
follows; other keys are not read.

A folder's files are split by name, and without a validation file a seeded share of the prompts is
held out with all their rankings (``data.splits``). Prompt and response are tokenized each by
itself, with ``<sos>`` before the prompt and ``<eos>`` after a response. What a model's context
cannot hold of a response is cut off, its ``<eos>`` included, as a story is cut.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.atomic import write_text
from tinylm.data.splits import drawn, split_files
from tinylm.errors import DataError, nearest, shown
from tinylm.fingerprints import fingerprint_of
from tinylm.reading import read_json_lines
from tinylm.tokenizers.base import EOS_ID, SOS_ID, UNK_ID, Tokenizer

SUFFIXES = (".jsonl",)
_MOST_UNKNOWN = 0.5
_PAIR = ("chosen", "rejected")
_RANKED = ("responses", "ranking")


@dataclass(frozen=True)
class Ranking:
    """A prompt and two or more responses to it, as token ids, and how they rank."""

    prompt: tuple[int, ...]
    """``<sos>`` first."""
    responses: tuple[tuple[int, ...], ...]
    """Each with ``<eos>`` at its end, unless it was cut off."""
    ranks: tuple[int, ...]
    """Of each response: 0 for the best, the same number for a tie."""

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield ``(better, worse)`` for every two responses that are no tie, by their indices."""
        for i, better in enumerate(self.ranks):
            for j, worse in enumerate(self.ranks):
                if better < worse:
                    yield i, j

    def texts(self) -> list[tuple[int, ...]]:
        """Return prompt and response of each response."""
        return [(*self.prompt, *response) for response in self.responses]


@dataclass(frozen=True)
class Preferences:
    """Rankings of both splits."""

    train: tuple[Ranking, ...]
    validation: tuple[Ranking, ...]
    source: str
    """Fingerprint of both splits."""
    cut: int = 0
    """Responses that the context could not hold whole."""
    shared: int = 0
    """Validation rankings whose prompt is also a training prompt."""
    generated: int = 0
    """Tokens that were drawn to make them; 0 where they were given."""


@dataclass(frozen=True)
class WrittenRanking:
    """A ranking as text."""

    prompt: str
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    """Of each response: 0 for the best, the same number for a tie."""
    finished: tuple[bool, ...]
    """Of each response: whether it has ended; else it was cut off."""
    place: str = ""
    """Where it stands, for messages."""

    def as_row(self) -> dict[str, Any]:
        """Return it as a row of a file."""
        groups = [
            [i for i, rank in enumerate(self.ranks) if rank == each]
            for each in sorted(set(self.ranks))
        ]
        row: dict[str, Any] = {
            "prompt": self.prompt,
            "responses": list(self.responses),
            "ranking": [group[0] if len(group) == 1 else group for group in groups],
        }
        if not all(self.finished):
            row["unfinished"] = [i for i, finished in enumerate(self.finished) if not finished]
        return row


def write_rankings(path: Path, rankings: Iterable[WrittenRanking]) -> None:
    """Write rankings as JSON lines, the whole file at once.

    Raises:
        OSError: if the file cannot be written.
    """
    write_text(path, "".join(f"{json.dumps(ranking.as_row())}\n" for ranking in rankings))


def read_rankings(path: Path) -> list[WrittenRanking]:
    """Return the rankings of one file, in its order.

    Raises:
        DataError: for a file that cannot be read, and a row that is no ranking, naming both.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: cannot read this kind of file: give one of {', '.join(SUFFIXES)}")
    return [
        _ranking(row, f"{path}, row {number}")
        for number, row in read_json_lines(path, dict[str, Any], what="row")
    ]


def read_preferences(
    path: str | Path, tokenizer: Tokenizer, longest: int, held_out: float = 0.1, seed: int = 0
) -> Preferences:
    """Read a file or folder of rankings, tokenize it and split it.

    Args:
        path: a ``.jsonl`` file, or a folder of such files.
        tokenizer: of the model that learns from them.
        longest: ids of prompt and response together; what is longer is cut.
        held_out: share of the prompts held out where there is no validation file, in (0, 1).
        seed: of what is held out.

    Raises:
        DataError: for a file or row that cannot be used, naming it, and if one of the splits has
            no ranking.
    """
    path = Path(path).expanduser()
    train_files, validation_files = split_files(path, SUFFIXES)
    train, validation = (
        [ranking for file in files for ranking in read_rankings(file)]
        for files in (train_files, validation_files)
    )
    if not train:
        raise DataError(f"{path}: no rankings in {train_files[0].name}")
    if not validation_files:
        train, validation = hold_out_prompts(train, held_out, seed)
    if not validation:
        raise DataError(f"{path}: no ranking for validation; give rankings of more prompts")
    return tokenized(train, validation, tokenizer, longest)


def hold_out_prompts(
    rankings: Sequence[WrittenRanking], share: float, seed: int
) -> tuple[list[WrittenRanking], list[WrittenRanking]]:
    """Split rankings by their prompts: one prompt's are on one side, and keep their order."""
    prompts = list(dict.fromkeys(ranking.prompt for ranking in rankings))
    chosen = {prompts[i] for i in drawn(len(prompts), share, (seed,))}
    return (
        [ranking for ranking in rankings if ranking.prompt not in chosen],
        [ranking for ranking in rankings if ranking.prompt in chosen],
    )


def tokenized(
    train: Sequence[WrittenRanking],
    validation: Sequence[WrittenRanking],
    tokenizer: Tokenizer,
    longest: int,
) -> Preferences:
    """Return rankings of both splits as ids.

    Raises:
        DataError: for a prompt that leaves no room, responses that are the same, and texts whose
            words are none or mostly unknown, naming the ranking's place.
    """
    splits = [
        [_encoded(ranking, tokenizer, longest) for ranking in split]
        for split in (train, validation)
    ]
    kept = [tuple(ranking for ranking, _ in split) for split in splits]
    seen = {ranking.prompt for ranking in kept[0]}
    rows = [[[r.prompt, r.responses, r.ranks] for r in split] for split in kept]
    return Preferences(
        train=kept[0],
        validation=kept[1],
        source=fingerprint_of(rows),
        cut=sum(cut for split in splits for _, cut in split),
        shared=sum(ranking.prompt in seen for ranking in kept[1]),
    )


def _encoded(written: WrittenRanking, tokenizer: Tokenizer, longest: int) -> tuple[Ranking, int]:
    """Return a ranking as ids, and how many responses were cut."""
    prompt = (SOS_ID, *tokenizer.encode(written.prompt))
    _refuse_unreadable(prompt[1:], "the prompt", written.place)
    if len(prompt) >= longest:
        raise DataError(
            f"{written.place}: the prompt has {len(prompt):,} tokens with <sos>, which leaves no "
            f"room for a response in the model's {longest:,}: shorten it or leave the row out"
        )
    room, cut = longest - len(prompt), 0
    responses: list[tuple[int, ...]] = []
    for number, (text, finished) in enumerate(
        zip(written.responses, written.finished, strict=True)
    ):
        ids = tokenizer.encode(text)
        _refuse_unreadable(ids, f"response {number}", written.place)
        whole = (*ids, EOS_ID) if finished else tuple(ids)
        cut += len(whole) > room
        responses.append(whole[:room])
    same = _twice(responses)
    if same is not None:
        why = f" in the {room:,} tokens that fit after the prompt" if cut else " as tokens"
        raise DataError(
            f"{written.place}: responses {same[0]} and {same[1]} are the same{why}: nothing can be "
            "learned of which is better; leave one out"
        )
    return Ranking(prompt, tuple(responses), written.ranks), cut


def _refuse_unreadable(ids: Sequence[int], what: str, place: str) -> None:
    if not ids:
        raise DataError(f"{place}: {what} has no words for the model's tokenizer")
    unknown = sum(i == UNK_ID for i in ids)
    if unknown > _MOST_UNKNOWN * len(ids):
        raise DataError(
            f"{place}: {unknown:,} of {len(ids):,} words of {what} are unknown to the model's "
            "tokenizer: use a model of such texts, or leave the row out"
        )


def _ranking(row: Mapping[str, Any], place: str) -> WrittenRanking:
    names: tuple[str, ...]
    ranks: tuple[int, ...]
    if any(key in row for key in _PAIR) and any(key in row for key in _RANKED):
        raise DataError(f"{place}: give responses and ranking, or chosen and rejected, not both")
    pair = any(key in row for key in _PAIR)
    for name in ("prompt", *(_PAIR if pair else _RANKED)):
        if name not in row:
            raise DataError(f"{place}: no field {shown(name)}{nearest(name, map(str, row))}")
    prompt = _text(row["prompt"], "the prompt", place)
    if pair:
        texts: Any = [row[name] for name in _PAIR]
        names, ranks = _PAIR, (0, 1)
    else:
        texts = row["responses"]
        if not isinstance(texts, list) or len(texts) < 2:
            raise DataError(
                f"{place}: the responses are {_as_json(texts)}; expected a list of two or more"
            )
        names = tuple(f"response {i}" for i in range(len(texts)))
        ranks = _ranks(row["ranking"], len(texts), place)
    responses = tuple(_text(text, name, place) for text, name in zip(texts, names, strict=True))
    same = _twice(responses)
    if same is not None:
        raise DataError(
            f"{place}: {names[same[0]]} and {names[same[1]]} are the same: nothing can be learned "
            "of which is better; leave one out"
        )
    cut = _indices(row.get("unfinished", []), len(texts), "unfinished", place)
    finished = tuple(i not in cut for i in range(len(texts)))
    return WrittenRanking(prompt, responses, ranks, finished, place)


def _ranks(ranking: Any, count: int, place: str) -> tuple[int, ...]:
    """Return the rank of each response."""
    if not isinstance(ranking, list):
        raise DataError(f"{place}: the ranking is {_as_json(ranking)}; expected a list of indices")
    groups = [group if isinstance(group, list) else [group] for group in ranking]
    every = _indices([i for group in groups for i in group], count, "ranking", place)
    left_out = [i for i in range(count) if i not in every]
    if left_out:
        raise DataError(
            f"{place}: the ranking leaves out response {left_out[0]}: it names each of the {count} "
            "once, ties as a list within it"
        )
    groups = [group for group in groups if group]
    if len(groups) < 2:
        raise DataError(f"{place}: all responses are tied: there is no preference in it")
    ranks = {i: rank for rank, group in enumerate(groups) for i in group}
    return tuple(ranks[i] for i in range(count))


def _indices(values: Any, count: int, name: str, place: str) -> list[int]:
    """Return indices of responses, each once."""
    if not isinstance(values, list):
        raise DataError(f"{place}: {name} is {_as_json(values)}; expected a list of indices")
    for i, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
            raise DataError(
                f"{place}: {name} names response {_as_json(value)}; there are 0 to {count - 1}"
            )
        if value in values[:i]:
            raise DataError(f"{place}: {name} names response {value} twice")
    return values


def _text(value: Any, what: str, place: str) -> str:
    if not isinstance(value, str):
        hint = ": texts, not messages of a chat, are read" if isinstance(value, list) else ""
        raise DataError(f"{place}: {what} is {_as_json(value)}; expected a string{hint}")
    if not value.strip():
        raise DataError(f"{place}: {what} is empty")
    return value


def _twice(values: Sequence[Any]) -> tuple[int, int] | None:
    """Return the places of the first two equal values, if any."""
    first: dict[Any, int] = {}
    for i, value in enumerate(values):
        if first.setdefault(value, i) != i:
            return first[value], i
    return None


def _as_json(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
