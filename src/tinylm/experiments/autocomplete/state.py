"""Who has the ball, inside the model: read off its activations, and exchanged between stories.

Reading: after every hand-over, at its full stop, a linear probe tells from the residual stream who
has the ball then. Nothing of the question has been read by that time. Labels of the control task
hang on the last sentence alone; stories are divided, and no story stands on both sides.

Exchanging: the residual stream at the tokens of one sentence is replaced by that of another story,
and the question, which follows, is read by the model as before.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinylm.data.corpora.skill_grammar.holders import (
    HAND_OVERS,
    OBJECTS,
    PEOPLE,
    Course,
    course,
)
from tinylm.data.corpora.skills import SkillsCorpus
from tinylm.errors import DataError
from tinylm.interpretability.patching import Site, patched
from tinylm.interpretability.probes import control_labels, fit_probe
from tinylm.interpretability.trace import trace
from tinylm.language_model import LanguageModel
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import SOS_ID, UNK_ID

FOLLOWED = OBJECTS[0]
"""The object whose holder is read."""
_STORIES_AT_ONCE = 64
_SENTENCES = len(OBJECTS) + HAND_OVERS
PLACES = ("last", "other", "question")
"""Where activations are exchanged: the last sentence, which moves the object that is asked for; the
one before it, which moves the other; and the question."""


def stories(corpus: SkillsCorpus, count: int, seed: int) -> list[Course]:
    """Return different stories of known facts, none of which is a training text."""
    draw = random.Random(seed).random
    facts, trained = corpus.facts("train"), set(corpus.train())
    chosen: dict[str, Course] = {}
    while len(chosen) < count:
        made = course(draw, facts)
        if made is not None and made.item.text not in trained:
            chosen.setdefault(made.item.text, made)
    return list(chosen.values())


@dataclass(frozen=True, eq=False)
class ReadStories:
    """Stories in the ids of a model."""

    courses: Sequence[Course]
    ids: Sequence[Sequence[int]]
    """Of each with its question."""
    stops: Tensor
    """Where the full stop of each sentence stands, (stories, sentences)."""
    people: Tensor
    """Ids of the names, (people,)."""


def read(lm: LanguageModel, courses: Sequence[Course]) -> ReadStories:
    """Encode stories, all of which have their sentences at the same places.

    Raises:
        DataError: if the vocabulary lacks a name, so that the answers cannot be told apart.
    """
    [[stop], *names] = lm.tokenizer.encode_batch([".", *PEOPLE])
    if any(len(name) > 1 or UNK_ID in name for name in names):
        raise DataError("the vocabulary lacks a name of the stories: give more training items")
    ids = [
        [SOS_ID, *row] for row in lm.tokenizer.encode_batch([each.item.prompt for each in courses])
    ]
    places = [[place for place, i in enumerate(row) if i == stop] for row in ids]
    if any(len(row) != _SENTENCES for row in places):
        raise DataError(f"a story has not {_SENTENCES} sentences in this tokenizer's tokens")
    return ReadStories(courses, ids, torch.tensor(places), torch.tensor(names)[:, 0])


def streams(model: GenerativeModel) -> list[str]:
    """Return the names of the residual stream, from the embedding to the last layer."""
    return ["embedding", *(f"layers.{i}.residual" for i in range(model.config.num_layers))]


def at_stops(model: GenerativeModel, narrated: ReadStories) -> dict[str, Tensor]:
    """Return the stream at the full stop of every hand-over.

    Returns:
        Name -> (stories, hand-overs, hidden).
    """
    names, parts = streams(model), []
    stops = narrated.stops[:, -HAND_OVERS:]
    for start in range(0, len(narrated.ids), _STORIES_AT_ONCE):
        some = slice(start, start + _STORIES_AT_ONCE)
        kept = trace(model, narrated.ids[some], names=names)
        rows = torch.arange(len(stops[some]))[:, None]
        parts.append({name: kept[name].float().cpu()[rows, stops[some]] for name in names})
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def readings(
    lm: LanguageModel, untrained: GenerativeModel, narrated: ReadStories, seed: int
) -> list[dict[str, Any]]:
    """Return how well the holder can be read, a row each place of the stream.

    Args:
        lm: the model.
        untrained: another with its sizes and random weights.
        narrated: stories, of which half are fitted on and half judged.
        seed: of the control task.

    Returns:
        ``layer``; shares of right readings on the stories that are judged: ``all``, ``unnamed``,
        where the last sentence names somebody else only, ``control`` and ``untrained``; and
        ``untrained_unnamed``.
    """
    half = len(narrated.courses) // 2
    after = range(1, HAND_OVERS + 1)
    holders = torch.tensor(
        [[PEOPLE.index(each.holder(FOLLOWED, k)) for k in after] for each in narrated.courses]
    )
    sentences = [each.hand_overs[k - 1] for each in narrated.courses for k in after]
    control = control_labels(sentences, len(PEOPLE), seed).view(holders.shape)
    named = torch.tensor(
        [
            [each.holder(FOLLOWED, k) in each.hand_overs[k - 1].people for k in after]
            for each in narrated.courses
        ]
    )
    own, other = at_stops(lm.model, narrated), at_stops(untrained, narrated)
    rows = []
    for layer, name in enumerate(own):

        def share(values: Tensor, labels: Tensor, chosen: Tensor | None = None) -> float:
            fitted = values[:half].flatten(0, 1), labels[:half].flatten()
            probe = fit_probe(*fitted, len(PEOPLE))
            right = probe.right(values[half:].flatten(0, 1), labels[half:].flatten())
            return float((right if chosen is None else right[chosen]).double().mean())

        unnamed = ~named[half:].flatten()
        rows.append(
            {
                "layer": layer,
                "all": share(own[name], holders),
                "unnamed": share(own[name], holders, unnamed),
                "control": share(own[name], control),
                "untrained": share(other[name], holders),
                "untrained_unnamed": share(other[name], holders, unnamed),
            }
        )
    return rows


def pairs_of(courses: Sequence[Course], count: int) -> list[tuple[int, int]]:
    """Return stories and the stories whose activations they get, as indices.

    Both end with the object that is asked for, before which the other one was given; they ask for
    the same, and their answers differ.
    """
    able = [
        i
        for i, each in enumerate(courses)
        if each.hand_overs[-1].object_ == each.asked != each.hand_overs[-2].object_
    ]
    pairs = []
    for place, i in enumerate(able):
        for j in [*able[place + 1 :], *able[:place]]:
            same = courses[i].asked == courses[j].asked
            if same and courses[i].item.answer != courses[j].item.answer:
                pairs.append((i, j))
                break
    return pairs[:count]


def exchanges(lm: LanguageModel, narrated: ReadStories, count: int) -> dict[str, Any]:
    """Return how often the answer follows what is exchanged.

    Returns:
        ``pairs``, of which the model answers both right; and ``layers``, a row each place of the
        stream: of each of ``PLACES``, the share of pairs whose answer is then that of the other
        story, and of those that keep their own (``kept_…``).
    """
    model, people = lm.model, narrated.people
    names = streams(model)
    follows = {place: torch.zeros(len(names)) for place in PLACES}
    keeps = {place: torch.zeros(len(names)) for place in PLACES}
    used = 0
    for i, j in pairs_of(narrated.courses, count):
        base, source = trace(model, [narrated.ids[i]]), trace(model, [narrated.ids[j]])
        own, other = (
            PEOPLE.index(narrated.courses[k].holder(narrated.courses[k].asked)) for k in (i, j)
        )
        answers = [int(each.logits[0, -1].argmax()) for each in (base, source)]
        if answers != [int(people[own]), int(people[other])]:
            continue
        used += 1
        spans = _spans(narrated.stops[i].tolist(), len(narrated.ids[i]))
        for place in PLACES:
            sites = [[Site(name, position) for position in spans[place]] for name in names]
            chosen = patched(base, source, sites).argmax(-1).cpu()
            follows[place] += chosen == people[other]
            keeps[place] += chosen == people[own]
    return {
        "pairs": used,
        "layers": [
            {"layer": layer}
            | {place: float(follows[place][layer]) / max(1, used) for place in PLACES}
            | {f"kept_{place}": float(keeps[place][layer]) / max(1, used) for place in PLACES}
            for layer in range(len(names))
        ],
    }


def _spans(stops: Sequence[int], length: int) -> dict[str, range]:
    """Return the positions of the tokens of each of ``PLACES``."""
    return {
        "last": range(stops[-2] + 1, stops[-1] + 1),
        "other": range(stops[-3] + 1, stops[-2] + 1),
        "question": range(stops[-1] + 1, length),
    }
