"""The state of one story while it happens: who is there, who has what, who feels what and why.

A plot changes the state (``give``, ``hurt``, ``heal``) and tells what happened (``tell``, ``say``);
the sentences take every name, belonging and reason from the state, so that what is said later
follows from what happened before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tinylm.data.corpora.story_grammar import lexicon
from tinylm.data.corpora.story_grammar.lexicon import Belonging
from tinylm.data.corpora.story_grammar.phrases import (
    GLADNESS,
    OTHER_BAD,
    OTHER_GOOD,
    SADNESS,
    TAGS,
)
from tinylm.data.corpora.story_grammar.places import PLACES, WEATHER, Place
from tinylm.data.corpora.story_grammar.templates import Draw, articles, expand, polish

T = TypeVar("T")

_PRONOUNS: Final = {
    "f": ("she", "her", "her", "hers"),
    "m": ("he", "him", "his", "his"),
    "n": ("it", "it", "its", "its"),
}
_STOPS: Final = (". ", "! ", "? ")
_NO_PLAYGROUND: Final = ("the zoo", "the market")
_PART_OF_HOME: Final = ("the garden", "the yard", "the playground", "the camp", "the zoo")
_YOUNG: Final = {"f": "girl", "m": "boy"}


@dataclass
class Sorrow:
    """A bad feeling, why it came and, once it is over, why it went."""

    who: str
    feeling: str
    why: str
    relief: str | None = None


@dataclass
class StoryFacts:
    """What happened in one story, as the plot decided it."""

    plot: str
    world: str = ""
    """``people`` or ``animals``."""
    characters: dict[str, str] = field(default_factory=dict)
    """Role (``h`` hero, ``f`` friend, ``k`` kin, ...) -> name."""
    holders: dict[str, str] = field(default_factory=dict)
    """Belonging, as named in the text -> name of who has it at the end."""
    sorrows: list[Sorrow] = field(default_factory=list)
    """In the order in which they came."""
    events: list[tuple[str, ...]] = field(default_factory=list)
    """``(verb, who, what, ...)`` in order."""


class World:
    """The state and the telling of one story; every choice comes from ``draw``."""

    def __init__(self, plot: str, draw: Draw, *, animals: bool) -> None:
        self.draw = draw
        self.animals = animals
        self.facts = StoryFacts(plot, "animals" if animals else "people")
        self.slots: dict[str, str] = {}
        self._paragraphs: list[str] = []
        self._sentences: list[str] = []
        self._genders: dict[str, str] = {}
        self._details: list[str] = []
        self._lived_near = False

    # Choices

    def pick(self, options: Sequence[T]) -> T:
        """Return one of ``options``, each as likely."""
        return options[int(self.draw() * len(options))]

    def pick_two(self, options: Sequence[T]) -> tuple[T, T]:
        """Return two different places of ``options``."""
        first = int(self.draw() * len(options))
        second = int(self.draw() * (len(options) - 1))
        return options[first], options[second + (second >= first)]

    def chance(self, probability: float) -> bool:
        """Return true with the given probability."""
        return self.draw() < probability

    # Words for the slots

    def put(self, slot: str, template: str) -> str:
        """Let ``slot`` stand for one text of ``template`` from now on, and return it."""
        self.slots[slot] = text = expand(template, self.draw, self.slots)
        return text

    def cast(self, role: str, name: str, gender: str, kind: str) -> None:
        """Bring in somebody, whose words are ``role``, ``role.he``, ``role.his`` and so on."""
        he, him, his, hers = _PRONOUNS[gender]
        self.slots.update(
            {
                role: name,
                f"{role}.s": f"{name}'s",
                f"{role}.he": he,
                f"{role}.him": him,
                f"{role}.his": his,
                f"{role}.hers": hers,
                f"{role}.kind": kind,
                f"{role}.hand": "paw" if self.animals else "hand",
            }
        )
        self._genders[role] = gender
        self.facts.characters[role] = name

    def cast_child(self, role: str, *, unlike: str | None = None) -> None:
        """Bring in a child (or a young animal), mostly of the other gender than ``unlike``."""
        gender = "f" if self.draw() < 0.5 else "m"
        if unlike is not None and gender == self._genders[unlike] and self.draw() < 0.7:
            gender = "m" if gender == "f" else "f"
        if self.animals:
            names = lexicon.ANIMAL_GIRLS if gender == "f" else lexicon.ANIMAL_BOYS
            kind = self.pick(lexicon.ANIMALS)
        else:
            names = lexicon.GIRLS if gender == "f" else lexicon.BOYS
            kind = _YOUNG[gender]
        taken = self.facts.characters.values()
        name = self.pick(names)
        while name in taken:
            name = self.pick(names)
        self.cast(role, name, gender, kind)

    def cast_kin(self, role: str = "k", *, of: str = "h") -> None:
        """Bring in a grown-up relative: ``k`` is a name, ``k.own`` "her mom",
        ``k.of`` "Lily's mom", ``k.call`` "Mom".
        """
        word, name, gender = self.pick(lexicon.ANIMAL_KIN if self.animals else lexicon.PEOPLE_KIN)
        self.cast(role, name, gender, word)
        own = name if " " in name else f"{self.slots[f'{of}.his']} {word}"
        self.slots[f"{role}.own"] = own
        self.slots[f"{role}.of"] = name if " " in name else f"{self.slots[f'{of}.s']} {word}"
        self.slots[f"{role}.call"] = name

    def cast_grown_up(self, role: str = "g") -> None:
        """Bring in a grown-up who is no relative: "the baker", "the old owl"."""
        if self.animals:
            kinds = ("owl", "goat", "turtle", "donkey", "stork", "cow", "goose", "horse")
            name = f"the old {self.pick(kinds)}"
            gender = "f" if self.draw() < 0.5 else "m"
        else:
            name, gender = self.pick(lexicon.GROWN_UPS)
        self.cast(role, name, gender, name.removeprefix("the "))

    def belonging(
        self, slot: str, choices: Sequence[Belonging], *, sizes: str = "sml"
    ) -> Belonging:
        """Choose a belonging; ``slot`` is "red ball", ``slot.n`` "ball"."""
        belonging = self.pick(choices)
        taken = {value for key, value in self.slots.items() if key.endswith(".n")}
        while belonging.size not in sizes or belonging.noun in taken:
            belonging = self.pick(choices)
        self.slots[slot] = f"{self.pick(belonging.adjectives)} {belonging.noun}"
        self.slots[f"{slot}.n"] = belonging.noun
        self.slots[f"{slot}.play"] = belonging.play
        return belonging

    def food(self, slot: str) -> None:
        """Choose something to eat; ``slot`` is "juicy pear", ``slot.n`` "pear"."""
        noun, adjectives = self.pick(lexicon.FOODS).split(":")
        self.slots[slot] = f"{self.pick(adjectives.split())} {noun}"
        self.slots[f"{slot}.n"] = noun

    def place(self, names: Sequence[str] = (), *, outdoors: bool | None = None) -> Place:
        """Choose where it happens: ``place`` is "the park", ``at`` "in the park".

        With ``outdoors`` and no ``names`` it is a place where one can play outside.
        """
        world = "a" if self.animals else "p"
        place = self.pick(PLACES)
        while (
            world not in place.worlds
            or (outdoors is not None and place.outdoors != outdoors)
            or (outdoors and not names and place.name in _NO_PLAYGROUND)
            or (names and place.name not in names)
        ):
            place = self.pick(PLACES)
        self.slots["place"] = place.name
        self.slots["at"] = place.at
        self._details = list(place.details)
        self._lived_near = place.outdoors and place.name not in _PART_OF_HOME
        return place

    # State

    def give(self, slot: str, role: str) -> None:
        """From now on ``role`` has the belonging named by ``slot``."""
        belonging, name = self.slots[slot], self.slots[role]
        self.facts.holders[belonging] = name
        self.facts.events.append(("has", name, belonging))

    def take(self, slot: str) -> None:
        """From now on nobody has the belonging named by ``slot``."""
        belonging = self.slots[slot]
        owner = self.facts.holders.pop(belonging, "")
        self.facts.events.append(("gone", owner, belonging))

    def note(self, verb: str, *slots: str) -> None:
        """Write an event into the facts, each slot by its word."""
        self.facts.events.append((verb, *(self.slots[slot] for slot in slots)))

    def hurt(self, role: str, feeling: str, why: str) -> None:
        """Let ``role`` feel bad for the reason ``why`` (a clause), and tell so."""
        reason = self._reason(role, why)
        self.facts.sorrows.append(Sorrow(self.slots[role], feeling, reason))
        self._feel(role, SADNESS if feeling == "sad" else OTHER_BAD[feeling])

    def heal(self, role: str, why: str) -> None:
        """End the sorrow of ``role`` for the reason ``why`` (a clause), and tell so."""
        name = self.slots[role]
        sorrow = next(s for s in self.facts.sorrows if s.who == name and s.relief is None)
        sorrow.relief = self._reason(role, why)
        self._feel(role, GLADNESS if sorrow.feeling == "sad" else OTHER_GOOD[sorrow.feeling])

    def _reason(self, role: str, why: str) -> str:
        """Set ``why`` (names its subject) and ``because`` (a pronoun, if ``role`` is the subject).

        A sentence names somebody once: "Tom was sad because he ...", "Tom ..., so he was sad".
        """
        name, he, his = (self.slots[role + suffix] for suffix in ("", ".he", ".his"))
        reason = because = articles(expand(why, self.draw, self.slots))
        self.slots["x.or_he"] = name
        for named, pronoun in ((f"{name} ", f"{he} "), (f"{name}'s ", f"{his} ")):
            if reason.startswith((named, pronoun)):
                rest = reason.removeprefix(named).removeprefix(pronoun)
                reason, because = named + rest, pronoun + rest
                self.slots["x.or_he"] = he
                break
        self.slots.update(why=reason, because=because)
        return reason

    def _feel(self, role: str, templates: Sequence[str]) -> None:
        self.focus(role)
        self.tell(*templates)

    def definite(self, slot: str) -> None:
        """Let ``slot.the`` be ``slot`` as something known: "under a bench" -> "under the bench"."""
        words = self.slots[slot].split(" ")
        self.slots[f"{slot}.the"] = " ".join(
            "the" if word in ("a", "an", "some") else word for word in words
        )

    def focus(self, role: str) -> None:
        """Let ``x`` in shared phrases mean ``role``."""
        for suffix in ("", ".s", ".he", ".him", ".his"):
            self.slots[f"x{suffix}"] = self.slots[role + suffix]

    # Telling

    def tell(self, *templates: str) -> None:
        """Add one of ``templates`` to the paragraph; each holds one or more whole sentences."""
        self._add(expand(self.pick(templates), self.draw, self.slots))

    def _add(self, sentence: str) -> None:
        self._sentences.append(sentence[0].upper() + sentence[1:])

    def maybe(self, probability: float, *templates: str) -> None:
        """With the given probability ``tell`` one of ``templates``."""
        if self.draw() < probability:
            self.tell(*templates)

    def say(self, role: str, *texts: str, how: str = "said") -> None:
        """Let ``role`` (or its pronoun, as ``h.he``) say one of ``texts`` in one of the manners.

        A text ends with its own mark; a full stop becomes a comma where the speaker follows.
        """
        text = expand(self.pick(texts), self.draw, self.slots)
        speaker = self.slots[role]
        order = self.draw()
        if order < 0.25 and "." not in role:
            verb = self._verb(how, text)
            self._add(f'{speaker} {verb}, "{text}"')
            return
        # The speaker may also stand after the first of several sentences.
        cut = next((i + 1 for i in range(8, len(text) - 1) if text[i : i + 2] in _STOPS), 0)
        head, rest = (text[:cut], text[cut + 1 :]) if cut and order < 0.85 else (text, "")
        verb = self._verb(how, head[-1])
        first = "." in role or order < 0.4 or " " in verb
        tag = f"{speaker} {verb}" if first else f"{verb} {speaker}"
        if head.endswith("."):
            head = head[:-1] + ","
        self._add(f'"{head}" {tag}.' + (f' "{rest}"' if rest else ""))

    def _verb(self, how: str, text: str) -> str:
        """Return a speech verb that fits: nobody asks without a question mark."""
        if how in ("said", "asked"):
            how = "asked" if "?" in text else "said"
        elif how == "begged" and "?" not in text:
            return "begged"
        return self.pick(TAGS[how])

    def detail(self, probability: float = 0.5) -> None:
        """Perhaps tell something that one sees at the place, each at most once."""
        if self._details and self.draw() < probability:
            self._sentences.append(self._details.pop(int(self.draw() * len(self._details))))

    def weather(self, probability: float = 0.5, kinds: Sequence[str] = tuple(WEATHER)) -> None:
        """Perhaps tell the weather, one of ``kinds``."""
        if self.draw() < probability:
            self._sentences.append(self.pick(WEATHER[self.pick(kinds)]))

    def paragraph(self) -> None:
        """Begin a new paragraph."""
        if self._sentences:
            self._paragraphs.append(" ".join(self._sentences))
            self._sentences = []

    def open(self, *, friend: bool = False) -> None:
        """Tell who the story is about: the hero and, if asked for, the friend."""
        self.put("trait", self.pick(lexicon.TRAITS))
        near = self.slots.get("place", "") if self._lived_near else ""
        self.put(
            "home",
            f"[near {near}|not far from {near}]"
            if near
            else "[in a small [house|cottage]|with {h.his} family|at the edge of a village]",
        )
        self.tell(
            "once upon a time, there was a [little |young |{trait} |]{h.kind} [named|called] {h}.",
            "once upon a time, a [little|{trait}] {h.kind} named {h} lived {home}.",
            "there once was a [{trait}|little] {h.kind} [named|called] {h}.",
            "{h} was a [{trait}|little|{trait} little|young] {h.kind}.",
            "in a [small|quiet] [village|valley][ far away| by a river| near the sea|] there lived "
            "a {trait} {h.kind} named {h}.",
            "this is [the|a] story of {h}, a [little|{trait}] {h.kind}.",
            "long ago, there was a [little|{trait}] {h.kind} whose name was {h}.",
        )
        if friend:
            rel = self.put("f.rel", "friend" if self.animals else "[friend|friend|cousin|neighbor]")
            self.put("f.a_rel", "[good |dear |]friend" if rel == "friend" else rel)
            if self.animals:
                self.tell(
                    "{h.he} had a [good |]friend, a {f.kind} named {f}.",
                    "{h.his} best friend was {f}, a [young|funny|merry] {f.kind}.",
                    "{h.he} [often|always] played with a {f.kind} named {f}.",
                )
            else:
                self.tell(
                    "{h.he} had a {f.a_rel} [named|called] {f}.",
                    "{h.he} [often|always] played with {h.his} {f.rel} {f}.",
                    "{f} was {h.his} [{f.rel}|{f.rel} and lived next door].",
                )

    def one_day(self, *events: str, at: bool = True) -> None:
        """Begin what happens: a time, and one of ``events``, which begin with their subject."""
        self.put("event", self.pick(events))
        self.tell(
            "one [day|morning|afternoon], {event}.",
            "one [sunny|bright|cool|quiet|fine] [day|morning|afternoon], {event}.",
            "[on Monday|on Tuesday|on Wednesday|on Thursday|on Friday|on Saturday|on Sunday], "
            "{event}.",
            "[early one morning|late one afternoon|after breakfast|after lunch], {event}.",
        )
        if at:
            self.detail(0.5)

    def close(self, *endings: str, moral: Sequence[str] = ()) -> None:
        """Tell one of ``endings`` and, now and then, what one learns from it."""
        self.tell(*endings)
        if moral and self.draw() < 0.5:
            self.put("moral", self.pick(moral))
            self.paragraph()
            self.tell(
                "[the moral of the story is|the lesson is]: {moral}.",
                "{h} [learned|had learned|now knew] that {moral}.",
                "and so {h} learned that {moral}.",
                "{h} [never forgot|always remembered] that {moral}.",
                "remember, {moral}.",
            )
        elif self.draw() < 0.2:
            self.tell("The end.")

    def text(self) -> str:
        """Return the whole story."""
        self.paragraph()
        return polish("\n\n".join(self._paragraphs))
