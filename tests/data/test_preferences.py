"""Rankings in files: what is read, how it is split and tokenized, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.tiny import tiny_tokenizer
from tinylm.data.preferences import (
    WrittenRanking,
    hold_out_prompts,
    read_preferences,
    read_rankings,
    write_rankings,
)
from tinylm.data.windows import IGNORED, story_rows
from tinylm.errors import DataError
from tinylm.tokenizers.base import EOS_ID, SOS_ID
from tinylm.tokenizers.bytes import BytesTokenizer

ROW: dict[str, Any] = {
    "prompt": "the cat",
    "responses": ["saw the dog .", "ran .", "was sad ."],
    "ranking": [1, [0, 2]],
}


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def rows(count: int) -> list[Any]:
    words = ("cat", "dog", "boy", "girl", "ball", "mat")
    return [ROW | {"prompt": f"the {words[i % 6]} {'saw ' * (i // 6)}"} for i in range(count)]


def test_both_forms_give_a_ranking(tmp_path: Path) -> None:
    pair = {"prompt": "a", "chosen": "good", "rejected": "bad", "score_chosen": 9.0}
    cut = ROW | {"unfinished": [2]}
    ranked, paired, unfinished = read_rankings(jsonl(tmp_path / "a.jsonl", [ROW, pair, cut]))
    assert ranked.ranks == (1, 0, 1)
    assert ranked.finished == (True, True, True)
    assert ranked.place == f"{tmp_path / 'a.jsonl'}, row 1"
    assert (paired.responses, paired.ranks) == (("good", "bad"), (0, 1))
    assert unfinished.finished == (True, True, False)


@given(
    ranks=st.lists(st.integers(0, 3), min_size=2, max_size=6).filter(lambda r: len(set(r)) > 1),
    cut=st.integers(0, 6),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, ranks: list[int], cut: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "rankings.jsonl"
    dense = tuple(sorted(set(ranks)).index(rank) for rank in ranks)
    texts = tuple(f" text {i}\u2028é" for i in range(len(ranks)))
    finished = tuple(i != cut for i in range(len(ranks)))
    write_rankings(path, [WrittenRanking("a\nb ", texts, dense, finished)])
    (read,) = read_rankings(path)
    assert (read.prompt, read.responses, read.ranks) == ("a\nb ", texts, dense)
    assert read.finished == finished


def test_pairs_are_all_that_are_no_tie(tmp_path: Path) -> None:
    folder = tmp_path / "rankings"
    folder.mkdir()
    jsonl(folder / "train.jsonl", [ROW])
    jsonl(folder / "valid.jsonl", [ROW | {"ranking": [2, 0, 1]}])
    data = read_preferences(folder, tiny_tokenizer(), 16)
    assert list(data.train[0].pairs()) == [(1, 0), (1, 2)]
    assert sorted(data.validation[0].pairs()) == [(0, 1), (2, 0), (2, 1)]
    assert data.shared == 1


def test_the_completion_alone_is_predicted_and_its_end_too(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    path = jsonl(tmp_path / "a.jsonl", rows(2))
    data = read_preferences(path, tokenizer, 16, held_out=0.5)
    ranking = data.train[0]
    assert ranking.prompt[0] == SOS_ID
    assert all(response[-1] == EOS_ID for response in ranking.responses)
    batch = story_rows(
        [[*ranking.prompt, *response] for response in ranking.responses], len(ranking.prompt)
    )
    predicted = [row[row != IGNORED].tolist() for row in batch.labels]
    assert predicted == [list(response) for response in ranking.responses]


def test_a_long_response_is_cut_and_has_no_end(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", rows(2))
    data = read_preferences(path, tiny_tokenizer(), 6, held_out=0.5)  # 3 ids of a prompt, and 3
    assert [len(response) for response in data.train[0].responses] == [3, 3, 3]
    assert [response[-1] == EOS_ID for response in data.train[0].responses] == [False, True, False]
    assert data.cut == 4


def test_an_unfinished_response_has_no_end(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [row | {"unfinished": [0]} for row in rows(2)])
    (ranking,) = read_preferences(path, tiny_tokenizer(), 16, held_out=0.5).train
    assert [response[-1] == EOS_ID for response in ranking.responses] == [False, True, True]


def test_a_lossless_tokenizer_keeps_the_space_between_prompt_and_response(tmp_path: Path) -> None:
    tokenizer = BytesTokenizer.train([], BytesTokenizer.Settings())
    path = jsonl(
        tmp_path / "a.jsonl",
        [{"prompt": f"Tom {i}", "chosen": " ran.\n", "rejected": " sat."} for i in range(2)],
    )
    (ranking,) = read_preferences(path, tokenizer, 100, held_out=0.5).train
    assert tokenizer.decode([*ranking.prompt, *ranking.responses[0]])[-6:] == " ran.\n"


def test_a_prompt_is_held_out_with_all_its_rankings(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", rows(20) + rows(20))
    data = read_preferences(path, tiny_tokenizer(), 16, held_out=0.1)
    assert (len(data.train), len(data.validation), data.shared) == (36, 4, 0)
    assert read_preferences(path, tiny_tokenizer(), 16, held_out=0.1) == data
    other = read_preferences(path, tiny_tokenizer(), 16, held_out=0.1, seed=1)
    assert other.validation != data.validation
    assert other.source != data.source
    written = read_rankings(path)
    train, validation = hold_out_prompts(written, 0.99, 0)
    assert len(train) == 2
    assert len(validation) == 38


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ROW | {"ranking": [1, [0, 1]]}, "row 2: ranking names response 1 twice"),
        (ROW | {"ranking": [1, 0]}, "row 2: the ranking leaves out response 2: it names each of"),
        (ROW | {"ranking": [1, 0, 3]}, "ranking names response 3; there are 0 to 2"),
        (ROW | {"ranking": [1, 0, -1]}, "ranking names response -1; there are 0 to 2"),
        (ROW | {"ranking": [1, 0, True]}, "ranking names response true; there are 0 to 2"),
        (ROW | {"ranking": [1, 0, 2.0]}, "ranking names response 2.0; there are 0 to 2"),
        (ROW | {"ranking": [1, [0, [2]]]}, "ranking names response [2]; there are 0 to 2"),
        (ROW | {"ranking": "1>0>2"}, 'the ranking is "1>0>2"; expected a list of indices'),
        (ROW | {"ranking": [[0, 1, 2]]}, "all responses are tied: there is no preference in it"),
        (ROW | {"ranking": [[0, 1, 2], []]}, "all responses are tied"),
        (ROW | {"responses": ["a", "a", "b"]}, "response 0 and response 1 are the same: nothing"),
        (ROW | {"responses": ["the.", "THE .", "a"]}, "responses 0 and 1 are the same as tokens"),
        (ROW | {"responses": ["a"]}, 'the responses are ["a"]; expected a list of two or more'),
        (ROW | {"responses": ["a", " ", "b"]}, "row 2: response 1 is empty"),
        (ROW | {"responses": ["a", None, "b"]}, "response 1 is null; expected a string"),
        (ROW | {"prompt": " \n"}, "row 2: the prompt is empty"),
        (ROW | {"prompt": [{"role": "user"}]}, "expected a string: texts, not messages of a chat"),
        (ROW | {"prompt": "the " * 15}, "the prompt has 16 tokens with <sos>, which leaves no"),
        (ROW | {"prompt": "the xylophone quacked loudly"}, "3 of 4 words of the prompt are unknow"),
        (
            ROW | {"responses": ["a", "cat", "an xylophone"]},
            "2 of 2 words of response 2 are",
        ),
        (
            ROW | {"prompt": "a " * 13, "responses": ["the cat sat", "the cat ran", "a"]},
            "responses 0 and 1 are the same in the 2 tokens that fit after the prompt",
        ),
        (ROW | {"unfinished": [4]}, "unfinished names response 4; there are 0 to 2"),
        (ROW | {"unfinished": 1}, "unfinished is 1; expected a list of indices"),
        (ROW | {"chosen": "a"}, "give responses and ranking, or chosen and rejected, not both"),
        ({"prompt": "a", "chosen": "b"}, "row 2: no field 'rejected'"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "chosen and rejected are the same"),
        ({"prompt": "a", "response": ["b", "c"], "ranking": [0, 1]}, "did you mean response?"),
        ({"chosen": "b", "rejected": "c"}, "row 2: no field 'prompt'"),
        (["a", "b"], "row 2: holds ['a', 'b']: expected keys with values"),
    ],
)
def test_a_bad_row_is_told_in_one_line(tmp_path: Path, row: Any, message: str) -> None:
    path = jsonl(tmp_path / "a.jsonl", [ROW | {"prompt": "a dog"}, row])
    with pytest.raises(DataError) as error:
        read_preferences(path, tiny_tokenizer(), 16)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}, row 2: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "a.jsonl: no rankings in a.jsonl"),
        ("a.jsonl", json.dumps(ROW), "a.jsonl: no ranking for validation; give rankings of more"),
        ("a.jsonl", '{"prompt": ', "a.jsonl, row 1: not JSON"),
        ("a.json", json.dumps(ROW), "cannot read this kind of file: give one of .jsonl"),
    ],
)
def test_a_bad_file_is_told_in_one_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError) as error:
        read_preferences(tmp_path / name, tiny_tokenizer(), 16)
    assert message in str(error.value)


def test_an_empty_validation_file_is_told(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", [ROW])
    jsonl(tmp_path / "val.jsonl", [])
    with pytest.raises(DataError, match="no ranking for validation"):
        read_preferences(tmp_path, tiny_tokenizer(), 16)
    with pytest.raises(DataError, match=r"does not exist: give a \.jsonl file, or a folder"):
        read_preferences(tmp_path / "no", tiny_tokenizer(), 16)
