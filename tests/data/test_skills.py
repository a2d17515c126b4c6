"""Tasks as plain text: answers follow from their prompts, and withheld facts are withheld."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable

import pytest

from tinylm.config import DataConfig
from tinylm.data.corpora.skill_grammar import TASKS, Facts, Item
from tinylm.data.corpora.skill_grammar.translation import ADJECTIVES, NOUNS, VERBS
from tinylm.data.corpora.skills import SkillsCorpus, build_item
from tinylm.errors import DataError
from tinylm.tokenizers.bytes import BytesTokenizer
from tinylm.tokenizers.word import WordTokenizer


def corpus(**settings: object) -> SkillsCorpus:
    return SkillsCorpus(DataConfig(corpus="skills", **settings))  # type: ignore[arg-type]


def items(split: str, task: str, count: int = 400, withheld: float = 0.5) -> list[Item]:
    facts = Facts(0, withheld, split == "validation")
    return [build_item(0, split, i, (task,), facts) for i in range(count)]  # type: ignore[arg-type]


PLURALS = {"mice": "mouse", "foxes": "fox"}


def english(prompt: str) -> tuple[list[list[str]], str]:
    """Return the two noun phrases of a sentence without articles, and its verb."""
    match = re.fullmatch(r"English: (.+) / Tala:", prompt)
    assert match
    words = [word for word in match[1].split() if word not in ("a", "an", "the")]
    forms = {form for verb, (singular, past, _) in VERBS.items() for form in (verb, singular, past)}
    [place] = [i for i, word in enumerate(words) if word in forms]
    return [words[:place], words[place + 1 :]], words[place]


def singular(noun: str) -> tuple[str, bool]:
    if noun in NOUNS:
        return noun, False
    return PLURALS.get(noun, noun.removesuffix("s")), True


def translation_answer(prompt: str) -> str:
    """Tala by its published rules, from the English words alone."""
    phrases, verb = english(prompt)
    spoken, plural = [], []
    for place, phrase in enumerate(phrases):
        noun, many = singular(phrase[-1])
        ending = ("i" if many else "") + ("n" if place else "")
        spoken.append(" ".join(
            stem + ending for stem in (NOUNS[noun], *(ADJECTIVES[word] for word in phrase[:-1]))
        ))  # fmt: skip
        plural.append(many)
    [(stem, past)] = [
        (s, verb == p) for base, (one, p, s) in VERBS.items() if verb in (base, one, p)
    ]
    whole = f"{spoken[1]} {spoken[0]} {stem}{'u' if past else 'a'}{'r' if plural[0] else ''}."
    return whole[0].upper() + whole[1:]


def translation_facts(text: str) -> set[object]:
    phrases, verb = english(text.split(" Tala:")[0] + " Tala:")
    [base] = [base for base, forms in VERBS.items() if verb in (base, *forms[:2])]
    return {(singular(phrases[0][-1])[0], base, singular(phrases[1][-1])[0])}


def summary_answer(prompt: str) -> str:
    owner = re.search(r"(\w+) had a (\w+)\.", prompt)
    help_ = re.search(r"Then a (\w+) (\w+) ", prompt)
    assert owner and help_
    mishap, does = {
        "found": ("loses", "finds"), "mended": ("breaks", "mends"),
        "washed": ("muddies", "cleans"), "got": ("sells", "returns"),
    }[help_[2]]  # fmt: skip
    return f"{owner[1]} {mishap} a {owner[2]} and a {help_[1]} {does} it."


def summary_facts(text: str) -> set[object]:
    match = re.search(r"Plot: \w+ (\w+) a (\w+) and a (\w+) ", text)
    assert match
    return {match.groups()}


def holder_answer(prompt: str) -> str:
    """Replay the story sentence by sentence."""
    has: dict[str, str] = {}
    *told, question = re.findall(r"[^.?]+[.?]", prompt)
    for sentence in told:
        if match := re.fullmatch(r" ?(\w+) has the (\w+)\.", sentence):
            has[match[2]] = match[1]
        else:
            match = re.fullmatch(r" (\w+) gives (\w+) the (\w+)\.", sentence)
            assert match and has[match[3]] == match[1] != match[2]
            has[match[3]] = match[2]
    assert len(told) == 7
    asked = re.fullmatch(r" Who has the (\w+)\?", question)
    assert asked
    return f"{has[asked[1]]}."


def holder_facts(text: str) -> set[object]:
    return {(a, b) for a, b in re.findall(r"(\w+) gives (\w+) the", text)}


def rules_of(prompt: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+) (\w+)[,.]", prompt.split(". ")[0].removeprefix("Rules: ") + "."))


def rules_answer(prompt: str) -> str:
    rules, start = rules_of(prompt), re.findall(r"(\w+):$", prompt)[0]
    return f"{rules[rules[start]]}."


def chain_answer(prompt: str) -> str:
    rules, start = rules_of(prompt), re.findall(r"(\w+):$", prompt)[0]
    middle = rules[start]
    return f"{start} {middle} {rules[middle]}."


def rules_facts(text: str) -> set[object]:
    rules = rules_of(text)
    return {(a, rules[b]) for a, b in rules.items() if b in rules}


def copy_answer(prompt: str) -> str:
    return prompt.removeprefix("Copy: ").removesuffix(" /") + "."


def copy_facts(text: str) -> set[object]:
    words = text.split(" / ")[0].removeprefix("Copy: ").split()
    return set(itertools.pairwise(words))


def sum_answer(prompt: str) -> str:
    return f"{sum(map(int, re.findall(r'[0-9]+', prompt)))}."


def sum_facts(text: str) -> set[object]:
    return {frozenset(re.findall(r"[0-9]+(?= [+=])", text))}


KNOWN: dict[str, tuple[Callable[[str], str], Callable[[str], set[object]]]] = {
    "translation": (translation_answer, translation_facts),
    "summary": (summary_answer, summary_facts),
    "holder": (holder_answer, holder_facts),
    "rules": (rules_answer, rules_facts),
    "rules-chain": (chain_answer, rules_facts),
    "copy": (copy_answer, copy_facts),
    "sum": (sum_answer, sum_facts),
}
"""Task -> its answer from the prompt by other means, and the facts that a text holds."""


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_answer_follows_from_the_prompt(task: str, split: str) -> None:
    for item in items(split, task, 200):
        assert item.task == task
        assert item.answer == KNOWN[task][0](item.prompt)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("withheld", [0.1, 0.5])
def test_held_out_items_hang_on_facts_that_no_training_text_holds(
    task: str, withheld: float
) -> None:
    facts = KNOWN[task][1]
    train = items("train", task, 1500, withheld)
    held_out = items("validation", task, 300, withheld)
    known = set().union(*(facts(item.text) for item in train))
    assert all(not facts(item.text) <= known for item in held_out)
    assert not {item.text for item in train} & {item.text for item in held_out}
    # One fact of a held-out item is withheld and its others are not, so that all else is alike.
    if withheld == 0.5:
        new = [len(facts(item.text) - known) for item in held_out]
        assert sum(count == 1 for count in new) > 0.7 * len(new)


def test_as_many_facts_are_withheld_as_is_asked_for_and_by_no_rule() -> None:
    pairs = [(a, b) for a in range(100) for b in range(a, 100)]
    for share in (0.1, 0.5):
        facts = Facts(3, share, held_out=False)
        for parity in (0, 1):
            chosen = [facts.withheld("sum", a, b) for a, b in pairs if (a + b) % 2 == parity]
            assert sum(chosen) / len(chosen) == pytest.approx(share, abs=0.04)
    others = Facts(4, 0.5, held_out=False)
    same = [facts.withheld("sum", *pair) == others.withheld("sum", *pair) for pair in pairs]
    assert sum(same) / len(same) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("task", TASKS)
def test_both_splits_have_the_same_form(task: str) -> None:
    """Length and what is asked say nothing of the split."""

    def mean(split: str) -> float:
        lengths = [len(item.text.split()) for item in items(split, task, 1500)]
        return sum(lengths) / len(lengths)

    assert mean("train") == pytest.approx(mean("validation"), rel=0.03)


@pytest.mark.parametrize("task", TASKS)
def test_the_tokenizers_lose_nothing_of_it(task: str) -> None:
    made = items("train", task, 200)
    words = WordTokenizer.train(
        [item.text for item in made], WordTokenizer.Settings(min_frequency=1)
    )
    for item in made:
        whole, prompt, answer = words.encode_batch([item.text, item.prompt, item.answer])
        assert whole == [*prompt, *answer]
        assert 1 not in whole
        assert words.encode(words.decode(whole)) == whole
        assert len(whole) + 2 <= 50
        text = BytesTokenizer()
        assert text.decode(text.encode(item.text)) == item.text


def test_guesses_are_shares_that_no_rule_is_needed_for() -> None:
    for item in items("train", "holder", 50):
        assert item.guess == 1 / 4
        assert len(set(re.findall(r"(\w+) has|gives (\w+)", item.prompt))) >= 2
    for item in items("train", "rules", 50):
        assert item.guess == 1 / len(rules_facts(item.text))
    for item in items("train", "copy", 50):
        assert 1 / item.guess == math.prod(range(1, 1 + len(item.answer.split())))
    sums = Counter(a + b for a in range(50) for b in range(50))
    assert items("train", "sum", 1)[0].guess == max(sums.values()) / sums.total()


def test_tasks_are_chosen_and_items_differ() -> None:
    only = corpus(tasks=("sum", "copy"), train_stories=60)
    assert {item.task for item in only.items("train")} == {"sum", "copy"}
    assert {item.task for item in corpus(train_stories=200).items("train")} == set(TASKS)
    for kind in (only.held_out("sum", 50), only.unseen("sum", 50)):
        assert len({item.text for item in kind}) == len(kind) >= 30
    assert not {item.text for item in only.unseen("copy", 50)} & set(only.train())
    facts = Facts(0, 0.1, held_out=False)
    for item in only.unseen("sum", 50):
        assert not facts.withheld("sum", *sorted(map(int, re.findall("[0-9]+", item.prompt))))


def test_what_changes_the_text_changes_its_name() -> None:
    names = {
        corpus(**settings).fingerprint()
        for settings in ({}, {"seed": 1}, {"withheld": 0.2}, {"tasks": ("sum",)},
                         {"tasks": ("copy", "sum")}, {"validation_stories": 3})
    }  # fmt: skip
    assert len(names) == 6
    assert corpus(tasks=tuple(TASKS)).fingerprint() == corpus().fingerprint()


def test_an_item_is_the_same_on_every_machine() -> None:
    facts = Facts(0, 0.1, held_out=False)
    assert [build_item(0, "train", 1, (task,), facts).text for task in TASKS] == [
        "English: the bears wash the horses / Tala: Hupain garoi hular.",
        "Story: Ben had a book. One day he took money for it. He was very sad. Finn ate an apple. "
        "Then a sailor got it back. Plot: Ben sells a book and a sailor returns it.",
        "Hana has the ball. Finn has the key. Hana gives Finn the ball. Finn gives Ivo the key. "
        "Ivo gives Hana the key. Finn gives Hana the ball. Hana gives Ivo the ball. "
        "Who has the ball? Ivo.",
        "Rules: purple black, black brown, white green, blue white. Twice from purple: brown.",
        "Rules: purple black, black brown, white green, blue white. Step by step from purple: "
        "purple black brown.",
        "Copy: sailor doll clock hat lamp boat / sailor doll clock hat lamp boat.",
        "Sum: 41 + 28 = 69.",
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ("sums",)}, "data.tasks: unknown task 'sums'; did you mean sum or summary?"),
        ({"tasks": ("sum", "sum")}, "data.tasks: sum stands there twice: give each task once"),
    ],
)
def test_wrong_tasks_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as error:
        corpus(**settings)
    assert message in str(error.value)


def test_a_share_that_leaves_no_item_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"data\.withheld leaves the task holder no validation item"
    ):
        list(corpus(withheld=1e-9, tasks=("holder",)).validation())
    with pytest.raises(DataError, match="item -1 of seed 0 does not exist"):
        build_item(0, "train", -1, ("sum",), Facts(0, 0.1, held_out=False))
