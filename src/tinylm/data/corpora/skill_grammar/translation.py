"""Translation into Tala, an invented language with endings in place of articles and word order.

Tala puts the object first, then the subject, then the verb; an adjective follows its noun. A noun
takes ``-i`` in the plural and ``-n`` after that as an object, and its adjective takes the same
endings. A verb ends in ``-a`` in the present and ``-u`` in the past, and takes ``-r`` after a
plural subject. Tala has no articles, so that "a dog" and "the dog" are both *talo*.

The fact is which subject, verb and object stand together, whatever their number and tense.
"""

from __future__ import annotations

from tinylm.data.corpora.skill_grammar.items import Draw, Facts, Item, pick, several

NOUNS = {
    "dog": "talo", "cat": "mire", "bird": "keso", "girl": "nela", "boy": "rado", "king": "vomo",
    "horse": "hupa", "mouse": "piko", "frog": "zebe", "bear": "garo", "fox": "lume", "duck": "sati",
}  # fmt: skip
"""English -> Tala, in the singular."""
_PLURALS = {"mouse": "mice", "fox": "foxes"}
ADJECTIVES = {
    "small": "bine", "big": "dora", "red": "feku", "old": "joma", "happy": "wilo", "sad": "yuna",
}  # fmt: skip
VERBS = {
    "see": ("sees", "saw", "vet"), "help": ("helps", "helped", "lor"),
    "find": ("finds", "found", "kis"), "love": ("loves", "loved", "mun"),
    "call": ("calls", "called", "tep"), "follow": ("follows", "followed", "rag"),
    "wash": ("washes", "washed", "hul"), "feed": ("feeds", "fed", "ban"),
}  # fmt: skip
"""English plural of the present -> singular, past, and the stem in Tala."""


def make(draw: Draw, facts: Facts) -> Item | None:
    """Return a sentence in English and in Tala."""
    subject, object_ = several(draw, list(NOUNS), 2)
    verb = pick(draw, list(VERBS))
    if not facts.decides("translation", subject, verb, object_):
        return None
    many, past = draw() < 0.5, draw() < 0.5
    singular, before, stem = VERBS[verb]
    action = before if past else verb if many else singular
    ways = 2 * 2 * len(VERBS) * len(NOUNS) * 2 * (len(NOUNS) - 1)  # tense, two numbers, words
    first, first_tala, first_ways = _phrase(draw, subject, "i" if many else "")
    many_objects = draw() < 0.5
    second, second_tala, second_ways = _phrase(draw, object_, "in" if many_objects else "n")
    tala = f"{second_tala} {first_tala} {stem}{'u' if past else 'a'}{'r' if many else ''}."
    return Item(
        "translation",
        f"English: {first} {action} {second} / Tala:",
        tala[0].upper() + tala[1:],
        1 / (ways * first_ways * second_ways),
    )


def _phrase(draw: Draw, noun: str, ending: str) -> tuple[str, str, int]:
    """Return a noun with its adjective, if it has one, in both languages, and from how many."""
    many = ending.startswith("i")
    name = _PLURALS.get(noun, f"{noun}s") if many else noun
    if draw() < 0.5:
        article = "the" if many or draw() < 0.5 else "a"
        return f"{article} {name}", NOUNS[noun] + ending, 1
    adjective = pick(draw, list(ADJECTIVES))
    article = "the" if many or draw() < 0.5 else "an" if adjective == "old" else "a"
    tala = f"{NOUNS[noun]}{ending} {ADJECTIVES[adjective]}{ending}"
    return f"{article} {adjective} {name}", tala, len(ADJECTIVES)
