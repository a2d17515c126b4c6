"""Instructions about stories, each with a response that obeys it, from the embedded story grammar.

A story that the grammar tells is taken whole, without what is spoken, or up to where somebody is
unhappy: so there are stories with and without dialogue, and such that end sadly. An instruction is
then made of what is true of that story: words that it uses, how it ends, its first sentence, what
it is about, a summary of what happens (which the grammar knows). Some tasks are classification: an
answer out of a few, to a few sentences. What an instruction demands is a rule that can be measured
(``demands``), and every example is held to it as it is made.

Task ``i`` of a split is a function of ``(seed, split, i)``; the stories of the splits are disjoint.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tinylm.alignment.self_instruct.demands import Demand, words_of
from tinylm.alignment.self_instruct.records import Instance
from tinylm.data.corpora.stories import Split, Story, build_story
from tinylm.data.corpora.story_grammar import lexicon
from tinylm.data.corpora.story_grammar.phrases import TAGS
from tinylm.data.corpora.story_grammar.places import PLACES
from tinylm.data.corpora.story_grammar.templates import Draw, articles, expand
from tinylm.errors import ConfigError

KINDS: Final = ("words", "end", "dialogue", "first sentence", "summary", "hero", "classification")
"""What instructions are about."""
_SHAPED: Final = frozenset({"end", "dialogue"})
"""Of these: for which a story is always cut, if chance says so."""
_TELL: Final = (
    "[Write|Tell|Make up|Tell me|Please write|Please tell me] "
    "[a|a|a short|a little|one] [story|tale]"
)
_VERBS: Final = "|".join(
    sorted({re.escape(verb.split()[0]) for verbs in TAGS.values() for verb in verbs})
)
_TAG: Final = re.compile(rf"(?:[A-Z]\w*|The \w+|The old \w+) (?:{_VERBS})\b")


@dataclass(frozen=True)
class StoryTask:
    """An instruction of the grammar with its response, and what it demands."""

    kind: str
    """One of ``KINDS``."""
    instance: Instance
    demands: tuple[Demand, ...]


def sentences(text: str) -> list[str]:
    """Return the sentences of a story; what somebody says with its speaker is one."""
    pieces: list[str] = []
    for paragraph in text.split("\n\n"):
        parts = re.findall(r'(?:"[^"]*"|[^."!?])+?(?:[.!?]"?|(?<=[.!?]")|$)(?=\s|$)', paragraph)
        for part in (each.strip() for each in parts):
            spoken = part.startswith('"') and bool(pieces) and '"' in pieces[-1]
            tale = bool(pieces) and pieces[-1].endswith('"') and bool(_TAG.match(part))
            lower = part[:1].islower()
            if pieces and (tale or lower or (spoken and not pieces[-1].endswith('"'))):
                pieces[-1] += f" {part}"
            elif part:
                pieces.append(part)
    return pieces


def _things() -> frozenset[str]:
    """Return the words of the grammar that name or describe what one can tell a story about."""
    belongings = [*lexicon.TOYS, *lexicon.TREASURES]
    names = [each.noun for each in belongings] + [food.split(":")[0] for food in lexicon.FOODS]
    names += [word for each in belongings for word in each.adjectives]
    names += [*lexicon.ANIMALS, *lexicon.COLORS, *lexicon.TRAITS]
    names += [place.name.split()[-1] for place in PLACES]
    return frozenset(name for name in names if " " not in name and "-" not in name)


THINGS: Final = _things()
_FEELINGS: Final = {"sleepless": "could not sleep"}


class _Maker:
    """Makes one task of a story."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.draw() * len(options))]

    def say(self, template: str, **slots: str) -> str:
        text = articles(expand(template, self.draw, slots))
        return text[0].upper() + text[1:]

    # The response

    def sad(self, story: Story, silent: bool) -> str | None:
        """Return the story up to where somebody is unhappy, if the last sentence says so."""
        tale = sentences(story.text)
        demand = Demand("sad end")
        for i, sentence in enumerate(tale):
            if i >= 3 and demand.met(sentence, True) and '"' not in sentence:
                kept = [each for each in tale[: i + 1] if not silent or '"' not in each]
                return " ".join(kept) if len(kept) > 2 else None
        return None

    def silent(self, story: Story) -> str:
        return " ".join(each for each in sentences(story.text) if '"' not in each)

    # The instruction

    def words(self, story: Story, response: str) -> tuple[str, str, tuple[Demand, ...]] | None:
        known = sorted(set(words_of(response)) & THINGS)
        if len(known) < 3:
            return None
        count = 2 if self.draw() < 0.3 else 3
        chosen: list[str] = []
        while len(chosen) < count:
            word = self.pick(known)
            if word not in chosen:
                chosen.append(word)
        listed = f"{', '.join(chosen[:-1])} and {chosen[-1]}"
        demand = (Demand("words", tuple(chosen)),)
        if self.draw() < 0.15:
            return self.say(f"{_TELL} [with|that uses] [these|the given] words."), listed, demand
        instruction = self.say(
            f"[{_TELL} [that uses|with|that has] the words {{words}}|{_TELL} in which the words "
            f"{{words}} [are used|come up|appear]|Use the words {{words}} in a [short |]story|"
            "The story [must|should] have "
            "the words {words}].",
            words=listed,
        )
        return instruction, "", demand

    def end(self, story: Story, response: str) -> tuple[str, str, tuple[Demand, ...]] | None:
        for check, adjective, adverb in (
            ("happy end", "[happy|good|glad]", "happily"),
            ("sad end", "[sad|unhappy]", "sadly"),
        ):
            demand = Demand(check)
            if demand.met(response, True):
                hero = story.facts.characters["h"]
                about, more = self.about(hero)
                end = f"[with a {adjective} end|that ends {adverb}|that has a {adjective} end]"
                instruction = self.say(
                    f"[{_TELL} {about}{end}|{_TELL} {about}and let it end {adverb}]."
                )
                return instruction, "", (demand, *more)
        return None

    def about(self, hero: str) -> tuple[str, tuple[Demand, ...]]:
        """Return, half of the time, that a story is about somebody."""
        if self.draw() < 0.5:
            return "", ()
        return f"about {hero} ", (Demand("words", (hero,)),)

    def dialogue(self, story: Story, response: str) -> tuple[str, str, tuple[Demand, ...]] | None:
        about, more = self.about(story.facts.characters["h"])
        if '"' in response:
            how = "[with dialogue|with a dialogue|in which somebody speaks|in which they talk]"
            demand = Demand("dialogue")
        else:
            how = "[without dialogue|with no dialogue|in which nobody speaks|in which nobody talks]"
            demand = Demand("no dialogue")
        return self.say(f"{_TELL} {about}{how}."), "", (demand, *more)

    def first(self, story: Story, response: str) -> tuple[str, str, tuple[Demand, ...]] | None:
        first = sentences(response)[0]
        demand = (Demand("first sentence", (first,)),)
        if self.draw() < 0.5:
            how = "[begins|starts] with [this|the given|the] sentence"
            return self.say(f"[{_TELL} that {how}|Go on with [this|the] story]."), first, demand
        instruction = self.say(
            f"[{_TELL} that [begins|starts] with|Begin a story with|Go on after]: {{first}}",
            first=first,
        )
        return instruction, "", demand

    def summary(self, story: Story, response: str) -> tuple[str, str, tuple[Demand, ...]] | None:
        if not story.facts.sorrows:
            return None
        sorrow = story.facts.sorrows[0]
        felt = _FEELINGS.get(sorrow.feeling, f"was {sorrow.feeling}")
        tale = f"{sorrow.who} {felt} because {sorrow.why}."
        content = [each for each in dict.fromkeys(words_of(sorrow.why)) if each in THINGS]
        demand = Demand("words", (sorrow.who, *content))
        if not demand.met(response, True):
            return None
        if self.draw() < 0.5:
            how = "[with|that has|for|that fits] [this|the given] summary"
            return self.say(f"{_TELL} {how}."), tale, (demand,)
        instruction = self.say(
            f"[{_TELL} [with|for] this summary|{_TELL} about this|[Tell|Write] what happened]: "
            "{tale}",
            tale=tale,
        )
        return instruction, "", (demand,)

    def hero(self, story: Story, response: str) -> tuple[str, str, tuple[Demand, ...]] | None:
        name = story.facts.characters["h"]
        kind = next((each for each in words_of(response) if each in _KINDS_OF_HERO), None)
        if kind is None:
            return None
        demand = (Demand("words", (kind, name)),)
        instruction = self.say(
            f"{_TELL} [about a {{kind}} [named|called] {{name}}|with a {{kind}} whose name is "
            "{name}|about {name}, a {kind}].",
            kind=kind,
            name=name,
        )
        return instruction, "", demand

    # Classification

    def classification(self, story: Story) -> tuple[str, str, str] | None:
        """Return an instruction, an input and the answer."""
        tale = sentences(story.text)
        choice = int(self.draw() * 3)
        if choice == 0:
            instruction = self.say(
                "[Is this story about people or about animals?|Say whether this [story|text] is "
                "about people or about animals.]"
            )
            return instruction, " ".join(tale[:2]), story.facts.world
        if choice == 1:
            start = int(self.draw() * (len(tale) - 1))
            given = tale[start]
            instruction = self.say(
                "[Does somebody speak|Is there dialogue|Does anybody talk] in this "
                "[sentence|text]? [Answer|Say] yes or no."
            )
            return instruction, given, "yes" if '"' in given else "no"
        check = "happy end" if self.draw() < 0.5 else "sad end"
        demand = Demand(check)
        fitting = [each for each in tale if demand.met(each, True)]
        if not fitting:
            return None
        instruction = self.say(
            "[Is this sentence happy or sad?|Is somebody happy or sad in this sentence?|"
            "Say whether this is happy or sad.|Does this sentence sound happy or sad?]"
        )
        return instruction, self.pick(fitting), check.split()[0]


_KINDS_OF_HERO: Final = frozenset({*lexicon.ANIMALS, "girl", "boy"})


def _task(kind: str, story: Story, draw: Draw) -> StoryTask | None:
    maker = _Maker(draw)
    if kind == "classification":
        judged = maker.classification(story)
        if judged is None:
            return None
        instruction, given, answer = judged
        return StoryTask(
            kind,
            Instance(instruction, given, answer, True, "grammar"),
            (Demand("answer", (answer,)),),
        )
    response: str | None = story.text
    if kind in _SHAPED or draw() < 0.6:
        shape = draw()
        if shape < 0.3:
            response = maker.sad(story, silent=draw() < 0.4)
        elif shape < 0.6:
            response = maker.silent(story)
    if not response:
        return None
    make = {
        "words": maker.words,
        "end": maker.end,
        "dialogue": maker.dialogue,
        "first sentence": maker.first,
        "summary": maker.summary,
        "hero": maker.hero,
    }[kind]
    made = make(story, response)
    if made is None:
        return None
    instruction, given, demands = made
    return StoryTask(kind, Instance(instruction, given, response, False, "grammar"), demands)


def story_task(
    seed: int, split: Split, index: int, fits: Callable[[Instance], bool] = lambda each: True
) -> StoryTask:
    """Return task ``index`` of a split; its response obeys what the instruction demands.

    Args:
        seed: of all tasks, 0 or more.
        split: of the stories that they are made of.
        index: 0 or more; the kinds come in turn.
        fits: whether an example can be used, such as by its length.

    Raises:
        ConfigError: if none of many examples fits.
    """
    kind = KINDS[index % len(KINDS)]
    for attempt in range(_MOST_ATTEMPTS):
        story = build_story(seed, split, (index * _MOST_ATTEMPTS + attempt) % (1 << 40))
        rng = random.Random((seed << 64) + (index << 24) + (attempt << 1) + (split == "train"))
        task = _task(kind, story, rng.random)
        if task is None or not fits(task.instance):
            continue
        if all(demand.met(task.instance.output, True) for demand in task.demands):
            return task
    raise ConfigError(
        "no story of the grammar fits with its instruction: give a run with a longer context, such "
        "as 256 tokens"
    )


_MOST_ATTEMPTS: Final = 400


def story_tasks(
    seed: int, split: Split, count: int, fits: Callable[[Instance], bool] = lambda each: True
) -> Iterator[StoryTask]:
    """Yield the first tasks of a split; see ``story_task``."""
    for index in range(count):
        yield story_task(seed, split, index, fits)
