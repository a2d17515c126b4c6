"""Labelled files: what is read, how it is split, and what is refused."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from tinylm.data.labelled import LabelledRow, hold_out, read_labelled, read_rows, sorted_labels
from tinylm.errors import DataError


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def some_rows(count: int, share: int = 4) -> list[object]:
    return [
        {"text": f"text {i}", "label": "rare" if i % share == 0 else "usual"} for i in range(count)
    ]


def test_jsonl_and_csv_give_the_same_rows(tmp_path: Path) -> None:
    texts = ['He said, "hi".', "two\nlines", "über \u2028 all", "plain"]
    rows = [{"text": text, "label": i % 2, "id": i} for i, text in enumerate(texts)]
    as_jsonl = jsonl(tmp_path / "a.jsonl", rows)  # type: ignore[arg-type]
    as_csv = tmp_path / "a.csv"
    with as_csv.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    wanted = [LabelledRow(text, str(i % 2)) for i, text in enumerate(texts)]
    assert read_rows(as_jsonl) == wanted
    assert read_rows(as_csv) == wanted


def test_a_json_string_may_hold_a_line_separator(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\u2028b", "label": "x"}\n\n', "utf-8")
    assert read_rows(path) == [LabelledRow("a\u2028b", "x")]


def test_the_names_of_the_fields_can_be_set(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", [{"story": "a b", "mood": " sad "}])
    assert read_rows(path, "story", "mood") == [LabelledRow("a b", "sad")]


def test_integers_are_sorted_as_numbers_and_others_as_text() -> None:
    assert sorted_labels(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert sorted_labels(["10", "9", "x"]) == ("10", "9", "x")
    assert sorted_labels(["010", "9"]) == ("010", "9")
    assert sorted_labels(["9" * 5000, "10", "9"]) == ("10", "9", "9" * 5000)


def test_a_share_of_every_label_is_held_out(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", some_rows(200))
    data = read_labelled(path, held_out=0.1)
    assert data.labels == ("rare", "usual")
    assert Counter(row.label for row in data.validation) == {"rare": 5, "usual": 15}
    assert Counter(row.label for row in data.train) == {"rare": 45, "usual": 135}
    both = [*data.train, *data.validation]
    assert sorted(row.text for row in both) == sorted(f"text {i}" for i in range(200))
    assert data.shared == 0
    assert read_labelled(path, held_out=0.1) == data
    other = read_labelled(path, held_out=0.1, seed=1)
    assert other.validation != data.validation
    assert other.fingerprint() != data.fingerprint()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_rows_of_a_label_stay_on_both_sides(count: int) -> None:
    rows = [LabelledRow(str(i), "a") for i in range(count)]
    train, validation = hold_out(rows, 0.9, 0)
    assert len(train) == 1
    assert len(validation) == count - 1


def test_a_folder_is_split_by_name(tmp_path: Path) -> None:
    jsonl(tmp_path / "my-train.jsonl", some_rows(8))
    (tmp_path / "validation.csv").write_text("label,text\nrare,seen\nusual,text 1\n", "utf-8")
    jsonl(tmp_path / "test.jsonl", [{"wrong": 1}])
    data = read_labelled(tmp_path)
    assert len(data.train) == 8
    assert data.validation == [LabelledRow("seen", "rare"), LabelledRow("text 1", "usual")]
    assert data.shared == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": \n', "a.jsonl, row 2: not JSON"),
        ("a.jsonl", '["a", "x"]\n', "a.jsonl, row 1: holds ['a', 'x']: expected keys with values"),
        (
            "a.jsonl",
            '{"text": "a", "text": "b"}',
            "row 1: the key text stands there twice",
        ),
        ("a.jsonl", "[" * 200_000, "a.jsonl, row 1: is nested more than 32 deep"),
        ("a.jsonl", '{"text": null, "label": 1}', "row 1: the text is null; expected a string"),
        ("a.csv", "text\tlabel\na\tx\n", "a.csv: its columns are separated by tabs: save it with"),
        ("a.csv", "text;label\na;x\n", "a.csv: its columns are separated by semicolons: save it"),
        ("a.jsonl", '\n{"txt": "a", "label": 1}', "row 2: no field 'text'; did you mean txt?"),
        ("a.jsonl", '{"text": "a"}', "row 1: no field 'label'"),
        ("a.jsonl", '{"text": 3, "label": 1}', "row 1: the text is 3; expected a string"),
        ("a.jsonl", '{"text": " ", "label": 1}', "row 1: the text is empty"),
        ("a.jsonl", '{"text": "a", "label": null}', "row 1: the label is null; expected a string"),
        ("a.jsonl", '{"text": "a", "label": true}', "the label is true; expected a string or an"),
        ("a.jsonl", '{"text": "a", "label": 0.5}', "the label is 0.5; expected a string or an int"),
        ("a.jsonl", '{"text": "a", "label": ""}', "row 1: the label is empty"),
        ("a.csv", "text,label\na,x\nb, c,y\n", "a.csv, row 3: 3 fields, the header has 2"),
        ("a.csv", "text,label\na\n", "a.csv, row 2: 1 fields, the header has 2"),
        ("a.csv", 'text,label\n"a" b,x\n', "a.csv, row 2: not CSV"),
        ("a.csv", "text,text\na,x\n", "a.csv, row 1: the header names a column twice"),
        ("a.csv", "words,label\na,x\n", "a.csv, row 2: no field 'text'"),
        ("a.csv", "text,label\na,\n", "a.csv, row 2: the label is empty"),
        ("a.csv", "text,label\n", "a.csv: no rows in a.csv; classification needs two"),
        ("a.csv", "text,label\na,x\nb,x\n", "only the label 'x' in a.csv; classification needs"),
        ("a.csv", "text,label\na,x\nb,y\n", "no validation rows; give more rows of every label"),
        ("a.txt", "a", "cannot read this kind of file: give one of .jsonl, .csv"),
    ],
)
def test_a_bad_file_is_told_in_one_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError) as error:
        read_labelled(tmp_path / name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_utf8_name_their_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\na,x\n\xff,y\n")
    with pytest.raises(DataError, match=r"a\.csv: not UTF-8 at byte 15, line 3 \(invalid"):
        read_labelled(tmp_path / "a.csv")


def test_other_encodings_are_named(tmp_path: Path) -> None:
    for name, text in (
        ("a.csv", "text,label\na,x\n"),
        ("a.jsonl", '{"text": "a", "label": "x"}\n'),
    ):
        (tmp_path / name).write_bytes(text.encode("utf-16"))
        with pytest.raises(DataError, match="is UTF-16 text, not UTF-8: save it as UTF-8"):
            read_labelled(tmp_path / name)


def test_bad_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist: give a .jsonl or .csv file"):
        read_labelled(tmp_path / "no")
    with pytest.raises(DataError, match="with the part `train` in its name"):
        read_labelled(tmp_path)
    jsonl(tmp_path / "train.jsonl", some_rows(8))
    jsonl(tmp_path / "valid.jsonl", [{"text": "a", "label": "usul"}])
    with pytest.raises(DataError, match="'usul' is in no training row; did you mean usual"):
        read_labelled(tmp_path)
    (tmp_path / "valid.jsonl").rename(tmp_path / "train-valid.jsonl")
    with pytest.raises(DataError, match="says train and validation"):
        read_labelled(tmp_path)
