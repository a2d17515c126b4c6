"""The user's own files: splits by name, formats, hold-out, streaming, and every refusal."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tinylm.config import DataConfig
from tinylm.data.corpora import Corpus, files, open_corpus
from tinylm.data.corpora.files import FilesCorpus
from tinylm.errors import DataError

REAL_DATA = Path(__file__).parents[3] / "shared/data/tinystories"
END = "\n<|endoftext|>\n"


def write(path: Path, *stories: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(story + END for story in stories), "utf-8")
    return path


def corpus(path: Path, **settings: Any) -> FilesCorpus:
    return FilesCorpus(DataConfig(corpus="files", path=str(path), **settings))


def many(count: int, start: int = 0) -> list[str]:
    return [f"Story number {number}." for number in range(start, start + count)]


# --- the dataset's text format, and splits by name ---


def test_train_and_validation_files(tmp_path: Path) -> None:
    write(tmp_path / "Tiny-train.txt", "One day.\n\nTwo lines.", "  ", "Zwölf “é” 😀")
    write(tmp_path / "Tiny-valid.txt", "A valid one.")
    opened: Corpus = open_corpus(DataConfig(corpus="files", path=str(tmp_path)))
    assert list(opened.train()) == ["One day.\n\nTwo lines.", "Zwölf “é” 😀"]
    assert list(opened.train()) == list(opened.train())
    assert list(opened.validation()) == ["A valid one."]
    assert opened.describe() == (
        "2 training stories from Tiny-train.txt and 1 validation stories from Tiny-valid.txt "
        f"(no story occurs in both); folder {tmp_path}."
    )


@pytest.mark.parametrize(
    ("names", "train", "validation", "left_out"),
    [
        (["b_train.txt", "a_train.txt", "x.validation.txt"], "ab", "x", ""),
        (["train/b.txt", "train/deep/c.txt", "valid/x.txt"], "bc", "x", ""),
        (["a.txt", "b.txt", "val.txt"], "ab", "v", ""),
        (["a-train.txt", "b.txt", "v-val.txt", "t_test.txt"], "a", "v", "tb"),
        (["train/z-valid.txt", "train/a.txt"], "a", "z", ""),
        (["constraint.txt", "a-TRAIN-00000-of-00001.txt", "v-VALID.TXT"], "a", "v", "c"),
        ([".hidden-train.txt", "a.txt", "v-valid.txt", "notes.md"], "a", "v", ""),
    ],
)
def test_splits_by_name(
    tmp_path: Path, names: list[str], train: str, validation: str, left_out: str
) -> None:
    for name in names:
        write(tmp_path / name, "Text of " + Path(name).name[0])
    opened = corpus(tmp_path)
    assert [story[-1] for story in opened.train()] == list(train)
    assert [story[-1] for story in opened.validation()] == list(validation)
    unused = opened.describe().partition("not used: ")[2].rstrip(".").split(", ")
    assert [name[:1] for name in unused] == (list(left_out) or [""])


def test_caps(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", *many(9))
    write(tmp_path / "valid.txt", *many(9, 100))
    opened = corpus(tmp_path, train_stories=4, validation_stories=2)
    assert list(opened.train()) == many(4)
    assert list(opened.validation()) == many(2, 100)
    assert opened.fingerprint() != corpus(tmp_path).fingerprint()
    assert len(list(corpus(tmp_path, train_stories=40).train())) == 9


def test_a_story_in_both_files_is_told(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", *many(9))
    write(tmp_path / "valid.txt", *many(3, 7), "Story number 8.")
    opened = corpus(tmp_path)
    assert len(list(opened.validation())) == 4
    assert "3 of the validation stories also occur in the training split" in opened.describe()


# --- hold-out ---


def test_hold_out_is_by_text_and_seed(tmp_path: Path) -> None:
    stories = many(2000)
    path = write(tmp_path / "all.txt", *stories, *stories[:500])
    opened = corpus(path, seed=3)
    train, validation = list(opened.train()), list(opened.validation())
    assert sorted(train + validation) == sorted(stories + stories[:500])
    assert not set(train) & set(validation)
    assert 150 <= len(set(validation)) <= 250  # 200 expected, standard deviation 13
    moved = write(tmp_path / "moved.txt", *reversed(stories))
    assert set(corpus(moved, seed=3).validation()) == set(validation)
    assert set(corpus(path, seed=4).validation()) != set(validation)
    half = corpus(path, seed=3, validation_fraction=0.5)
    assert set(validation) < set(half.validation())
    text = opened.describe()
    assert f"{len(validation):,} other stories" in text
    assert "there is no validation file" in text
    assert "seed 3" in text


def test_hold_out_of_nothing_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "one.txt", "Only one.")
    with pytest.raises(DataError, match=r"no story was held out at data\.validation_fraction"):
        list(corpus(path, validation_fraction=1e-9).validation())
    with pytest.raises(DataError, match=r"no training stories in one\.txt"):
        list(corpus(path, validation_fraction=1 - 1e-12).train())


def test_one_document_is_no_corpus(tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    path.write_text("A first part.\n\nA second part.\n")
    for place in (path, tmp_path):
        opened = corpus(place, text_format="file")
        errors = []
        for side in (opened.train, opened.validation):  # it is on one of them
            try:
                assert list(side()) == ["A first part.\n\nA second part."]
            except DataError as error:
                errors.append(str(error))
        (message,) = errors
        assert f"{path} is one document with" in message and "set it to `blank-line`" in message
    (tmp_path / "valid.txt").write_text("Another.")
    assert len(list(corpus(tmp_path, text_format="file").train())) == 1


# --- formats ---


def test_marker_and_characters_may_straddle_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stories = ["abc", "é" * 10, "<|endof", "text|>", "x" * 40, "😀 <|endoftext", "last"]
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "<|endoftext|>".join(stories).encode())
    for size in range(1, 40):
        monkeypatch.setattr(files, "_CHUNK_BYTES", size)
        opened = corpus(path, text_format="endoftext")
        assert sorted([*opened._items(opened._train_files)]) == sorted(stories)


def test_line_ends_are_normalised(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(b"one\r\ntwo\r\n<|endoftext|>\r\nthree\rfour")
    opened = corpus(path)
    assert list(opened._items(opened._train_files)) == ["one\ntwo", "three\nfour"]


def test_one_document_a_file(tmp_path: Path) -> None:
    for name, text in (("b.txt", "Second.\n\nStill."), ("a.txt", "\ufeffFirst."), ("c.txt", "\n")):
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "valid.txt").write_text("V", "utf-8")
    opened = corpus(tmp_path, text_format="file")
    assert list(opened.train()) == ["First.", "Second.\n\nStill."]
    assert list(opened.validation()) == ["V"]


def test_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(
        b"\xef\xbb\xbf\n\nOne\nline two\n \t\nThree\r\n\r\n\r\nFour"
    )
    (tmp_path / "valid.txt").write_text("V", "utf-8")
    opened = corpus(tmp_path, text_format="blank-line")
    assert list(opened.train()) == ["One\nline two", "Three", "Four"]


def test_auto_asks_for_the_format(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Some text.\n\nMore.", "utf-8")
    with pytest.raises(DataError, match=r"notes\.txt: no <\|endoftext\|> .* data\.text_format"):
        corpus(tmp_path)
    opened = corpus(tmp_path, text_format="endoftext")
    assert list(opened._items(opened._train_files)) == ["Some text.\n\nMore."]


def test_jsonl(tmp_path: Path) -> None:
    rows = [{"text": "One “é”", "story": "Uno"}, {"text": " ", "story": "Dos"}]
    lines = [json.dumps(row, ensure_ascii=number == 0) for number, row in enumerate(rows)]
    path = tmp_path / "train.jsonl"
    path.write_text("\ufeff" + "\n\n".join(lines), "utf-8")
    (tmp_path / "valid.jsonl").write_text('{"text": "V", "story": "W"}\n', "utf-8")
    assert list(corpus(tmp_path).train()) == ["One “é”"]
    opened = corpus(tmp_path, text_field="story")
    assert list(opened.train()) == ["Uno", "Dos"]
    assert opened.fingerprint() != corpus(tmp_path).fingerprint()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"text": ', r"line 3: not JSON \(expecting value at column 10\); mend the line"),
        (b'["text"]', r"line 3: holds \['text'\]: expected keys with values"),
        (b'{"body": "x", "id": 1}', r"line 3: no field 'text' among 'body', 'id'"),
        (b'{"text": null}', r"line 3: field 'text' holds no text: mend it, or set data.text_field"),
        (b'{"text": 3}', r"line 3: field 'text' holds 3, not text"),
        (b'{"text": "a", "text": "b"}', "line 3: the key text stands there twice"),
        (b'{"text": NaN}', "line 3: NaN is no number of JSON"),
        (b"[" * 200_000, "line 3: is nested more than 32 deep"),
        (b'{"text": "\\ud83d"}', r"line 3: holds half of a character \(\\ud83d\)"),
        (b'{"text": "\xff"}', r"train\.jsonl, line 3: not UTF-8 at byte 28"),
    ],
)
def test_bad_jsonl(tmp_path: Path, line: bytes, problem: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    with pytest.raises(DataError, match=problem) as caught:
        list(corpus(path, validation_fraction=1e-9).train())
    assert "\n" not in str(caught.value)


def test_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_BATCH_ROWS", 3)
    table = pa.table({"id": range(10), "text": many(10)})
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet", row_group_size=4)
    large = pa.table({"text": pa.array(["V “é”", ""], pa.large_string())})
    pq.write_table(large, tmp_path / "validation-00000-of-00001.parquet")
    opened = corpus(tmp_path)
    assert list(opened.train()) == many(10)
    assert list(opened.validation()) == ["V “é”"]


def test_bad_parquet(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"text": ["fine", None], "id": [1, 2]}), path)
    with pytest.raises(DataError, match=r"train\.parquet, row 2: field 'text' holds no text"):
        list(corpus(path).train())
    with pytest.raises(DataError, match="row 1: field 'id' holds 1, not text"):
        list(corpus(path, text_field="id").train())
    with pytest.raises(DataError, match="no field 'story' among 'text', 'id'"):
        list(corpus(path, text_field="story").train())
    for content in (b"PAR1 not a parquet file", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable parquet file") as caught:
            list(corpus(path).train())
        assert "\n" not in str(caught.value)


# --- refusals ---


@pytest.mark.parametrize("chunk", [7, 1 << 20])
def test_bytes_that_are_not_utf8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    path = tmp_path / "train.txt"
    content = b"\xef\xbb\xbf" + "é fine".encode() + END.encode() + b"b\xff"
    path.write_bytes(content)
    opened = corpus(path)
    monkeypatch.setattr(files, "_CHUNK_BYTES", chunk)
    for text_format in ("endoftext", "file", "blank-line"):
        opened = corpus(path, text_format=text_format)
        expected = rf"train\.txt(, line 3)?: not UTF-8 at byte {len(content) - 1}[ ,]"
        with pytest.raises(DataError, match=expected):
            list(opened.train())


def test_other_encodings_and_empty_files_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "A story.")
    valid = tmp_path / "valid.txt"
    text = f"A story.{END}"
    for content, problem in (
        (b"", " is empty: give one with text, or take it away"),
        (b" \n\n", " is empty: give one with text, or take it away"),
        (text.encode("utf-16"), ": is UTF-16 text, not UTF-8: save it as UTF-8"),
        (text.encode("utf-32"), ": is UTF-32 text, not UTF-8: save it as UTF-8"),
        ("Größe".encode("latin-1") * 99, ": not UTF-8 at byte 2 (invalid start byte): save it as"),
    ):
        valid.write_bytes(content)
        with pytest.raises(DataError) as caught:
            corpus(tmp_path)
        assert str(caught.value).startswith(f"{valid}{problem}")
    valid.write_bytes(text.encode("utf-16"))
    for text_format in ("file", "blank-line", "endoftext"):
        with pytest.raises(DataError, match="is UTF-16 text, not UTF-8"):
            list(corpus(tmp_path, text_format=text_format).validation())


@pytest.mark.parametrize("name", ["valid.txt.gz", "deep/valid.jsonl.zip", "b.parquet.zst"])
def test_packed_files_are_not_overlooked(tmp_path: Path, name: str) -> None:
    write(tmp_path / "train.txt", "A story.", "Another.")
    packed = tmp_path / name
    packed.parent.mkdir(exist_ok=True)
    packed.write_bytes(b"packed")
    with pytest.raises(DataError, match="is packed: unpack it, or move it out of the folder"):
        corpus(tmp_path)
    write(packed.with_suffix(""), "A held-out story.")
    corpus(tmp_path, text_format="endoftext")
    with pytest.raises(DataError, match="is packed: unpack it first, and give one of"):
        corpus(packed)
    (tmp_path / "notes.gz").touch()  # what it holds is not known
    corpus(tmp_path, text_format="endoftext")


@pytest.mark.parametrize("text_format", ["endoftext", "file", "blank-line"])
def test_a_document_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_format: str
) -> None:
    path = tmp_path / "train.txt"
    path.write_text("word\n" * 100)
    monkeypatch.setattr(files, "_CHUNK_BYTES", 16)
    assert len(list(corpus(path, text_format=text_format, validation_fraction=1e-9).train())) == 1
    monkeypatch.setattr(files, "_MOST_DOCUMENT_BYTES", 499)
    opened = corpus(path, text_format=text_format, validation_fraction=1e-9)
    with pytest.raises(DataError, match=r"train\.txt: a document of more than 499 bytes; set data"):
        list(opened.train())


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs data\.path"):
        FilesCorpus(DataConfig(corpus="files"))
    with pytest.raises(DataError, match="none does not exist: give a folder or a file"):
        corpus(tmp_path / "none")
    with pytest.raises(DataError, match=r"no \.txt, \.jsonl, \.parquet files in this folder"):
        corpus(tmp_path)
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=r"a\.csv: cannot read this kind of file"):
        corpus(tmp_path / "a.csv")
    write(tmp_path / "valid.txt", "V")
    with pytest.raises(DataError, match=r"no training file among valid\.txt"):
        corpus(tmp_path)
    write(tmp_path / "train-valid.txt", "V")
    with pytest.raises(DataError, match="the name says train and validation"):
        corpus(tmp_path)


def test_no_stories(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", " ", "\n")
    write(tmp_path / "valid.txt", "")
    opened = corpus(tmp_path)
    with pytest.raises(DataError, match=r"no training stories in train\.txt"):
        list(opened.train())
    with pytest.raises(DataError, match=r"no stories in valid\.txt"):
        list(opened.validation())


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    path = write(tmp_path / "train.txt", "One.")
    opened = corpus(path)
    path.unlink()
    with pytest.raises(DataError, match=r"train\.txt: cannot be read \(No such file"):
        list(opened.train())
    with pytest.raises(DataError, match=r"train\.txt: cannot be read"):
        opened.fingerprint()


# --- fingerprint and memory ---


def test_fingerprint_binds_content_and_settings_that_matter(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        write(folder / "train.txt", *many(5))
        write(folder / "valid.txt", "V")
    first = corpus(here).fingerprint()
    assert len(first) == 16
    assert corpus(there).fingerprint() == first
    # The field, the hold-out and its seed do nothing here.
    same = corpus(here, text_field="x", seed=9, validation_fraction=0.5, text_format="endoftext")
    assert same.fingerprint() == first
    assert corpus(here, text_format="file").fingerprint() != first
    write(there / "train.txt", *many(4), "Story number 5.")  # the same size
    assert (there / "train.txt").stat().st_size == (here / "train.txt").stat().st_size
    assert corpus(there).fingerprint() != first
    (here / "valid.txt").unlink()
    assert corpus(here, seed=1).fingerprint() != corpus(here, seed=2).fingerprint()


@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_large_files_are_streamed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"train.{kind}"
    story = "Once upon a time there was a girl. " * 30
    piece = story + END if kind == "txt" else json.dumps({"text": story}) + "\n"
    path.write_text(piece * (24_000_000 // len(piece)))
    opened = corpus(path)
    tracemalloc.start()
    try:
        count = sum(1 for _ in opened.train())
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count > 20_000
    assert peak_bytes < 5_000_000


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no TinyStories files in {REAL_DATA}")
def test_real_stories() -> None:
    opened = corpus(REAL_DATA)
    train, validation = list(opened.train()), list(opened.validation())
    assert (len(train), len(validation)) == (5888, 717)
    assert not any("<|" in story or story != story.strip() for story in train)
    assert opened.describe().startswith("5,888 training stories from TinyStories-train.txt and 717")


def test_a_text_without_marker_is_refused_as_such_wherever_its_head_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for length in range(1, 14):
        path.write_text("ä" * 9 + "x" * length + "“", "utf-8")
        with pytest.raises(DataError, match="in its first MB"):
            open_corpus(DataConfig(corpus="files", path=str(path)))
