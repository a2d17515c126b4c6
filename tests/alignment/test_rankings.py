"""Rankings of own samples: by the rule, seeded, and wrong as often as is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.training.tiny import tiny_model, tiny_tokenizer
from tinylm.alignment.rankings import Ranked, rank_samples
from tinylm.alignment.samples import Sample
from tinylm.data.preferences import read_preferences, read_rankings, write_rankings
from tinylm.tokenizers.base import EOS_ID, SOS_ID

TOKENIZER = tiny_tokenizer()
PROMPTS = [[SOS_ID, *TOKENIZER.encode(text)] for text in ("the cat", "a dog", "the boy saw")] * 6


class Longest:
    """The longer the better, up to a length."""

    label = "long"

    def __init__(self, most: int = 99) -> None:
        self.most = most

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [float(min(len(sample.ids), self.most)) for sample in samples]


def ranked(**changed: Any) -> Ranked:
    asked: dict[str, Any] = {"responses": 4, "most": 6, "seed": 0} | changed
    reward = asked.pop("reward", Longest())
    return rank_samples(tiny_model(), TOKENIZER, reward, PROMPTS, **asked)


def test_better_responses_rank_first_and_equal_ones_tie() -> None:
    made = ranked(reward=Longest(3))
    assert len(made.rankings) + made.alike == len(PROMPTS)
    assert made.turned == 0
    ties = 0
    for ranking, scores in zip(made.rankings, made.scores, strict=True):
        assert len(set(ranking.responses)) == len(ranking.responses)
        for (a, i), (b, j) in itertools.combinations(zip(scores, ranking.ranks, strict=True), 2):
            assert (a > b) == (i < j)
            assert (a == b) == (i == j)
            ties += a == b
    assert ties


def test_the_same_seed_gives_the_same_and_another_others() -> None:
    assert ranked() == ranked()
    assert ranked(seed=1).rankings != ranked().rankings
    few = rank_samples(tiny_model(), TOKENIZER, Longest(), PROMPTS[:5], 4, 6, 0)
    assert list(ranked().rankings)[: len(few.rankings)] == list(few.rankings)


def test_wrong_labels_turn_rankings_round_and_nothing_else() -> None:
    right, wrong, some = ranked(), ranked(wrong=1.0), ranked(wrong=0.3)
    assert wrong.turned == len(wrong.rankings) == len(right.rankings)
    assert 0 < some.turned < len(some.rankings)
    turned = 0
    for a, b, c in zip(right.rankings, wrong.rankings, some.rankings, strict=True):
        assert a.responses == b.responses == c.responses
        worst = max(a.ranks)
        assert b.ranks == tuple(worst - rank for rank in a.ranks)
        assert c.ranks in (a.ranks, b.ranks)
        turned += c.ranks == b.ranks
    assert turned == some.turned
    assert right.scores == wrong.scores


def test_the_share_of_wrong_rankings_is_what_was_asked_for() -> None:
    made = rank_samples(tiny_model(), TOKENIZER, Longest(), PROMPTS * 20, 2, 4, 0, wrong=0.2)
    count = len(made.rankings)
    assert abs(made.turned - 0.2 * count) < 3 * (0.2 * 0.8 * count) ** 0.5


def test_a_prompt_without_preference_counts_and_gives_no_ranking() -> None:
    made = ranked(reward=Longest(0))
    assert (made.rankings, made.alike) == ([], len(PROMPTS))
    one = ranked(most=1)  # an empty response is left out
    assert all(len(ranking.responses) >= 2 for ranking in one.rankings)


def test_a_prompt_of_unknown_words_is_left_out_for_it_would_be_read_as_another() -> None:
    unknown = [SOS_ID, *TOKENIZER.encode("the xylophone")]
    prompts = [unknown if i % 3 == 0 else prompt for i, prompt in enumerate(PROMPTS)]
    made = rank_samples(tiny_model(), TOKENIZER, Longest(), prompts, 4, 6, 0)
    assert made.unread == len(PROMPTS) // 3
    assert len(made.rankings) + made.alike + made.unread == len(PROMPTS)
    for ranking in made.rankings:
        assert [SOS_ID, *TOKENIZER.encode(ranking.prompt)] in prompts


def test_the_text_is_read_as_what_was_drawn(tmp_path: Path) -> None:
    made = ranked()
    write_rankings(tmp_path / "a.jsonl", made.rankings)
    read = read_rankings(tmp_path / "a.jsonl")
    assert [[len(TOKENIZER.encode(text)) for text in each.responses] for each in read] == [
        list(scores) for scores in made.scores
    ]
    data = read_preferences(tmp_path / "a.jsonl", TOKENIZER, 10)
    assert data.cut == 0
    assert len(data.train) + len(data.validation) == len(read)
    ends = [r[-1] == EOS_ID for each in (*data.train, *data.validation) for r in each.responses]
    assert sum(ends) == sum(done for each in read for done in each.finished)
    assert 0 < sum(ends) < len(ends)
