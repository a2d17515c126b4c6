"""fastText vectors: both file formats against gensim, every malformed form, training, the cache."""

from __future__ import annotations

import dataclasses
import gzip
import os
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.data import vectors
from tinylm.data.fasttext_bin import ngram_buckets
from tinylm.data.vectors import (
    VectorTable,
    embedding_matrix,
    load_table,
    read_vectors,
    save_table,
    train_vectors,
)
from tinylm.errors import DataError

DIMENSION = 12
BUCKETS = 500
TEXT = """the dog saw the little cat in the garden
Tom and the cat ran to the big house
the naïve kitten drank über milk ünd slept
日本語 の 猫 is the word for a cat"""
SENTENCES = [line.split() for line in TEXT.splitlines()] * 10
LISTED = ["the", "dog", "cat", "naïve", "über", "日本語", "a"]
UNLISTED = ["dogs", "kittens", "naïveté", "日本", "zzz", "!", "x"]


@pytest.fixture(autouse=True)
def few_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "BUCKETS", BUCKETS)


def pack(path: Path, form: str) -> Path:
    """Return a copy of a file as it is, as .gz or as .zip."""
    packed = path.with_name(path.name + form)
    if form == ".gz":
        packed.write_bytes(gzip.compress(path.read_bytes()))
    elif form == ".zip":
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(path, path.name)
    return packed


FORMS = pytest.mark.parametrize("form", ["", ".gz", ".zip"])


# --- .vec -----------------------------------------------------------------------------------------

VEC = "5 3\nthe 1 2 3\nDog 0.5 -0.25 1e-3 \nDOG 9 9 9\ndog's 4 5 6\ncat -1 -2 -3\n"


def write(tmp_path: Path, text: str | bytes, name: str = "small.vec") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@FORMS
def test_vec_rows_are_those_of_the_words(tmp_path: Path, form: str) -> None:
    path = pack(write(tmp_path, VEC), form)
    table = read_vectors(path, ["cat", "the", "bird", "dog"], 3)
    assert table.matrix.dtype == np.float32
    expected = [[-1, -2, -3], [1, 2, 3], [0, 0, 0], [0.5, -0.25, 1e-3]]
    np.testing.assert_array_equal(table.matrix, np.array(expected, np.float32))
    assert table.has_vector.tolist() == [True, True, False, True]
    assert not table.subword.any()
    assert table.coverage == 0.75
    assert table.describe() == "fastText vectors of dimension 3 for 3 of 4 words (75.0 %)"


def test_exact_row_goes_before_cased_rows_wherever_it_stands(tmp_path: Path) -> None:
    text = "6 1\nTom 1\ntom 2\nTOM 3\nANNA 4\nAnna 5\ntom 6\n"
    table = read_vectors(write(tmp_path, text), ["tom", "anna"], 1)
    assert table.matrix[:, 0].tolist() == [2, 4]


@pytest.mark.parametrize(
    "space", ["\u00a0", "\u2028", "\x85", "\u3000", "\x1c", "\x0b", "\r", "a b", "1/2 of", ""]
)
def test_words_with_odd_spaces_do_not_break_rows(tmp_path: Path, space: str) -> None:
    text = f"3 2\nthe 1 2\n{space} 3 4\ncat 5 6\n"
    table = read_vectors(write(tmp_path, text), ["cat", "the"], 2)
    assert table.matrix.tolist() == [[5, 6], [1, 2]]


@pytest.mark.parametrize("end", ["\n", " \n", "\r\n", " \r\n"])
def test_line_ends(tmp_path: Path, end: str) -> None:
    text = end.join(["2 2", "the 1 2", "cat 5 6", ""])
    assert read_vectors(write(tmp_path, text), ["cat"], 2).matrix.tolist() == [[5, 6]]
    without_last = text.removesuffix(end)
    assert read_vectors(write(tmp_path, without_last), ["cat"], 2).matrix.tolist() == [[5, 6]]
    assert read_vectors(write(tmp_path, text + "\n\n"), ["cat"], 2).matrix.tolist() == [[5, 6]]


def test_zero_row_is_not_found(tmp_path: Path) -> None:
    table = read_vectors(write(tmp_path, "2 2\nthe 0 0\ncat 1 0\n"), ["the", "cat"], 2)
    assert table.has_vector.tolist() == [False, True]


def test_bytes_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    path = write(tmp_path, b"2 2\n\xff\xfe 1 2\nca\xc3\xa9 3 4\n")
    assert read_vectors(path, ["caé"], 2).matrix.tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: expected the header"),
        ("the 1 2 3\ncat 1 2 3\n", "line 1: expected the header"),
        ("two 3\nthe 1 2 3\n", "line 1: expected the header"),
        ("-2 3\nthe 1 2 3\n", "line 1: expected the header"),
        ("9" * 5000 + " 3\nthe 1 2 3\n", "line 1: expected the header"),
        ("1 " + "3" * 5000 + "\nthe 1 2 3\n", "line 1: expected the header"),
        ("1\t3\nthe\t1\t2\t3\n", "line 1: its fields are separated by tabs: one space stands"),
        ("1 3\nthe\t1\t2\t3\n", "line 2: its fields are separated by tabs: one space stands"),
        ("1 3\nthe 1 2 3\n".encode("utf-16"), "line 1: is UTF-16 text, not UTF-8: save it"),
        ("1 3\nthe 1 2 3" + "\n" * 100, "line 3: more rows than the 1"),
        ("1 2\nthe 1 2\n", "line 1: vectors of dimension 2, but 3 was asked for"),
        ("2 3\nthe 1 2 3\ncat 1 2\n", "line 3: 2 values, but the header says 3"),
        ("2 3\nother 1 2\nthe 1 2 3\n", "line 2: 2 values"),
        ("2 3\nother 1 2 3 4\nthe 1 2 3\n", "line 2: 4 values"),
        ("2 3\nthe 1 2  3\ncat 1 2 3\n", "line 2: 4 values"),
        ("2 3\n\nthe 1 2 3\n", "line 2: 0 values"),
        ("2 3\nthe 1 2 3\ncat 1 2", "line 3: 2 values.*truncated"),
        ("2 3\nthe 1 2 3\ncat 1 x 3\n", "line 3: 'x' is not a number"),
        ("2 3\nthe 1 2 3\ncat 1 1_0 3\n", "line 3: '1_0' is not a number"),
        ("2 3\nthe 1 2 3\ncat 1 nan 3\n", "line 3: value 2 is nan"),
        ("2 3\nthe 1 2 3\ncat 1 2 -inf\n", "line 3: value 3 is -inf"),
        ("2 3\nthe 1 2 3\ncat 1e99 2 3\n", "line 3: value 1 is 1e\\+99"),
        ("3 3\nthe 1 2 3\ncat 1 2 3\n", "line 4: the file ends after 2 rows, .* says 3"),
        ("1 3\nthe 1 2 3\ncat 1 2 3\n", "line 3: more rows than the 1"),
        ("1 3\n" + "x" * 200_000, "line 2: 0 values.*far too long"),
    ],
)
def test_malformed_vec_is_refused_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(DataError, match=rf"small\.vec, {expected}") as caught:
        read_vectors(write(tmp_path, text), ["the", "cat"], 3)
    assert "\n" not in str(caught.value)


def test_wrong_dimension_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dimension 3, but 300 .* model\.hidden_size .* to 3,"):
        read_vectors(write(tmp_path, VEC), ["the"], 300)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.dictionaries(
        st.text(st.characters(exclude_characters=" \n\r", exclude_categories=["Cs"]), min_size=1),
        st.lists(
            st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2
        ),
        min_size=1,
        max_size=8,
    ),
    data=st.data(),
)
def test_vec_round_trip(
    tmp_path_factory: pytest.TempPathFactory, rows: dict[str, list[float]], data: st.DataObject
) -> None:
    lines = [f"{len(rows)} 2", *(f"{word} {a!r} {b!r}" for word, (a, b) in rows.items()), ""]
    path = write(tmp_path_factory.mktemp("vec"), "\n".join(lines))
    words = data.draw(st.permutations(sorted(rows)))
    table = read_vectors(path, words, 2)
    np.testing.assert_array_equal(table.matrix, np.array([rows[word] for word in words]))


def peak_bytes(function: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_vec_memory_is_that_of_the_vocabulary(tmp_path: Path) -> None:
    from gensim.models import KeyedVectors

    row = " ".join(["0.125"] * 60)
    path = tmp_path / "large.vec"
    path.write_text("5000 60\n" + "".join(f"word{i} {row}\n" for i in range(5000)))
    words = [f"word{i}" for i in range(0, 5000, 100)]
    matrix_bytes = 5000 * 60 * 4
    assert peak_bytes(lambda: read_vectors(path, words, 60)) < matrix_bytes / 10
    # The eager form breaks the claim, so that the test can tell.
    assert peak_bytes(lambda: KeyedVectors.load_word2vec_format(path)) > matrix_bytes


# --- .bin -----------------------------------------------------------------------------------------


def train_gensim(path: Path, **settings: int) -> Path:
    from gensim.models import FastText
    from gensim.models.fasttext import save_facebook_model

    options = {"bucket": BUCKETS, "min_n": 2, "max_n": 5} | settings
    model = FastText(
        SENTENCES, vector_size=DIMENSION, min_count=1, epochs=2, sg=1, workers=1, seed=1, **options
    )
    save_facebook_model(model, str(path))
    return path


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_gensim(tmp_path_factory.mktemp("bin") / "small.bin")


@FORMS
@pytest.mark.parametrize(
    "options", [{}, {"min_n": 1, "max_n": 3}, {"min_n": 5, "max_n": 5}, {"max_n": 0}]
)
def test_bin_equals_gensim(tmp_path: Path, form: str, options: dict[str, int]) -> None:
    from gensim.models.fasttext import load_facebook_vectors

    path = train_gensim(tmp_path / "small.bin", **options)
    reference = load_facebook_vectors(str(path))
    words = [*UNLISTED, *LISTED]
    reports: list[float] = []
    table = read_vectors(pack(path, form), words, DIMENSION, reports.append)
    has_subwords = reference.bucket > 0
    for index, word in enumerate(words):
        if word in reference.key_to_index or has_subwords:
            expected = reference.get_vector(word)
        else:
            expected = np.zeros(DIMENSION)
        np.testing.assert_allclose(table.matrix[index], expected, atol=1e-7, rtol=1e-5)
        assert table.has_vector[index] == expected.any()
        assert table.subword[index] == (expected.any() and word not in reference.key_to_index)
    assert table.has_vector[len(UNLISTED) :].all()
    assert reports == sorted(reports)
    assert reports[-1] == 1.0


def test_archives_give_the_same_bits(model_path: Path) -> None:
    tables = [
        read_vectors(pack(model_path, form), [*LISTED, *UNLISTED], DIMENSION)
        for form in ("", ".gz", ".zip")
    ]
    for table in tables[1:]:
        np.testing.assert_array_equal(table.matrix, tables[0].matrix)


def test_bin_takes_the_cased_row_before_subwords(model_path: Path) -> None:
    from gensim.models.fasttext import load_facebook_vectors

    table = read_vectors(model_path, ["tom"], DIMENSION)
    expected = load_facebook_vectors(str(model_path)).get_vector("Tom")
    np.testing.assert_allclose(table.matrix[0], expected, atol=1e-7)
    assert not table.subword[0]


def test_describe_counts_subwords(model_path: Path) -> None:
    line = read_vectors(model_path, ["the", "dogs"], DIMENSION).describe()
    assert line.endswith("2 of 2 words (100.0 %), 1 of them by subwords only")


@given(st.text(max_size=8), st.integers(1, 4), st.integers(0, 3), st.integers(1, 3_000_000))
def test_ngram_buckets_equal_gensim(word: str, min_n: int, extra: int, buckets: int) -> None:
    from gensim.models.fasttext import ft_ngram_hashes

    try:
        expected = ft_ngram_hashes(word, min_n, min_n + extra, buckets)
    except UnicodeEncodeError:
        return
    assert sorted(ngram_buckets(word, min_n, min_n + extra, buckets)) == sorted(expected)


def test_end_of_sentence_has_no_ngrams() -> None:
    assert ngram_buckets("</s>", 3, 6, 100) == []


@dataclasses.dataclass(frozen=True)
class Layout:
    """Byte offsets in a .bin written by gensim."""

    data: bytes
    words: int
    dictionary: int  # of the first entry
    quantized: int
    matrix: int
    output: int

    def patched(self, offset: int, layout: str, value: float) -> bytes:
        new = struct.pack(f"<{layout}", value)
        return self.data[:offset] + new + self.data[offset + len(new) :]


@pytest.fixture(scope="module")
def layout(model_path: Path) -> Layout:
    data = model_path.read_bytes()
    (num_words,) = struct.unpack_from("<i", data, 68)
    position = dictionary = 64 + 12 + 16
    for _ in range(num_words):
        position = data.index(b"\0", position) + 10
    matrix = position + 17
    output = matrix + (num_words + BUCKETS) * DIMENSION * 4
    return Layout(data, num_words, dictionary, position, matrix, output)


def nan_row(layout: Layout, row: int) -> bytes:
    return layout.patched(layout.matrix + row * DIMENSION * 4 + 8, "f", float("nan"))


@pytest.mark.parametrize("form", ["", ".gz"])
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: f.patched(0, "i", 12345), "not a fastText .bin.*12345"),
        (lambda f: f.patched(4, "i", 13), "version 13 at byte 4"),
        (
            lambda f: f.patched(8, "i", 100),
            "byte 8: vectors of dimension 100, but 12 .*hidden_size",
        ),
        (lambda f: f.patched(8 + 4 * 7, "i", 3), "supervised"),
        (lambda f: f.patched(72, "i", 2), "supervised"),
        (lambda f: f.patched(84, "q", 5), "pruned"),
        (lambda f: f.patched(68, "i", 5), "contradictory header before byte 92"),
        (lambda f: f.patched(f.quantized, "?", True), "quantized"),
        (lambda f: f.patched(f.quantized + 1, "q", 7), r"before byte \d+ is 7 x 12"),
        (lambda f: f.patched(f.quantized - 1, "b", 1), r"dictionary entry \d+ has type 1"),
        (lambda f: f.data[:40], "truncated: it ends at byte 40, in the header"),
        (lambda f: f.data[: f.dictionary + 30], r"truncated: .*, in dictionary entry \d"),
        (lambda f: f.data[: f.matrix - 3], "truncated: .* in the input matrix's header"),
        (lambda f: f.data[: f.matrix + 1000], r"truncated: it ends at byte \d+, in matrix row"),
        (lambda f: f.data[: f.output + 5], "truncated: .* in the output matrix's header"),
        (lambda f: f.data[:-1], r"truncated: it ends at byte \d+, in the output matrix"),
        (lambda f: f.data + b"more", r"goes on behind byte \d+"),
        (lambda f: f.data[: f.dictionary] + b"x" * 2_000_000, "no end of the word at byte 92"),
        (lambda f: nan_row(f, 0), r"matrix row 0 \(byte \d+\) is not finite"),
        (lambda f: nan_row(f, f.words + ngram_buckets("the", 2, 5, BUCKETS)[0]), "not finite"),
    ],
)
def test_malformed_bin_is_refused(
    tmp_path: Path, layout: Layout, form: str, damage: Callable[[Layout], bytes], expected: str
) -> None:
    path = pack(write(tmp_path, damage(layout), "bad.bin"), form)
    with pytest.raises(DataError, match=rf"bad\.bin.*{expected}") as caught:
        read_vectors(path, ["the", "cat"], DIMENSION)
    assert "\n" not in str(caught.value)


def test_every_truncation_of_a_bin_is_refused(tmp_path: Path, layout: Layout) -> None:
    for length in range(0, len(layout.data), 977):
        with pytest.raises(DataError, match="truncated"):
            read_vectors(write(tmp_path, layout.data[:length], "cut.bin"), ["the"], DIMENSION)


def test_a_row_that_is_not_needed_may_be_anything(tmp_path: Path, layout: Layout) -> None:
    needed = ngram_buckets("the", 2, 5, BUCKETS)
    spare = next(row for row in range(BUCKETS) if row not in needed)
    path = write(tmp_path, nan_row(layout, layout.words + spare), "spare.bin")
    assert read_vectors(path, ["the"], DIMENSION).has_vector.all()


def test_bin_memory_is_that_of_the_vocabulary(tmp_path: Path) -> None:
    buckets = 400_000
    path = train_gensim(tmp_path / "large.bin", bucket=buckets)
    matrix_bytes = buckets * DIMENSION * 4
    for form in ("", ".gz"):
        packed = pack(path, form)
        peak = peak_bytes(lambda packed=packed: read_vectors(packed, LISTED, DIMENSION))
        assert peak < matrix_bytes / 6


# --- archives and names ---------------------------------------------------------------------------


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def test_zip_with_one_vector_file_among_others(tmp_path: Path) -> None:
    members = {"LICENSE.txt": "no", "deep/x.vec": VEC, "__MACOSX/deep/._x.vec": "shadow"}
    assert read_vectors(zipped(tmp_path / "x.zip", members), ["cat"], 3).has_vector.all()


def test_zip_with_bin_and_vec(tmp_path: Path, layout: Layout, model_path: Path) -> None:
    for name, subwords in (("wiki.en.zip", True), ("wiki.en.vec.zip", False)):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("wiki.en.vec", f"1 {DIMENSION}\nthe{' 1' * DIMENSION}\n")
            archive.write(model_path, "wiki.en.bin")
        table = read_vectors(tmp_path / name, ["the", "dogs"], DIMENSION)
        assert table.has_vector.tolist() == [True, subwords]


def test_zip_that_leaves_a_choice_or_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"two\.zip: holds 2 \.vec files \(a\.vec, b\.vec\)"):
        read_vectors(zipped(tmp_path / "two.zip", {"a.vec": VEC, "b.vec": VEC}), ["cat"], 3)
    with pytest.raises(DataError, match=r"none\.zip: holds no vector file"):
        read_vectors(zipped(tmp_path / "none.zip", {"a.csv": VEC}), ["cat"], 3)
    with pytest.raises(DataError, match=r"x\.bin\.zip: holds no vector file \(\.bin\)"):
        read_vectors(zipped(tmp_path / "x.bin.zip", {"a.vec": VEC}), ["cat"], 3)


def test_encrypted_zip(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "x.zip", {"a.vec": VEC}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DataError, match="encrypted"):
        read_vectors(write(tmp_path, bytes(data), "x.zip"), ["cat"], 3)


def test_zip_with_unknown_compression(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "x.zip", {"a.vec": VEC}).read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = 99
    data[data.index(b"PK\x03\x04") + 8] = 99
    with pytest.raises(DataError, match="unpack it first"):
        read_vectors(write(tmp_path, bytes(data), "x.zip"), ["cat"], 3)


@pytest.mark.parametrize("form", [".gz", ".zip"])
@pytest.mark.parametrize("kind", ["vec", "bin"])
def test_damaged_archives(tmp_path: Path, model_path: Path, form: str, kind: str) -> None:
    """Cut anywhere, or with any byte changed, an archive gives the same table or a DataError."""
    if kind == "vec":
        rng = np.random.default_rng(0)
        rows = (f"w{i} {a} {b} {c}\n" for i, (a, b, c) in enumerate(rng.normal(size=(200, 3))))
        path, words, dimension = write(tmp_path, "200 3\n" + "".join(rows)), ["w7", "w199"], 3
    else:
        path, words, dimension = (
            write(tmp_path, model_path.read_bytes(), "s.bin"),
            LISTED,
            DIMENSION,
        )
    packed = pack(path, form)
    data = packed.read_bytes()
    expected = read_vectors(packed, words, dimension).matrix
    for length in range(1, len(data), len(data) // 10):
        packed.write_bytes(data[:length])
        with pytest.raises(DataError, match=r"damaged archive|truncated") as caught:
            read_vectors(packed, words, dimension)
        assert "\n" not in str(caught.value)
    for position in [*range(40), *range(0, len(data), len(data) // 60), *range(-100, 0)]:
        changed = bytearray(data)
        changed[position] ^= 0x55
        packed.write_bytes(changed)
        try:
            matrix = read_vectors(packed, words, dimension).matrix
        except DataError as error:
            assert "\n" not in str(error)
        else:
            np.testing.assert_array_equal(matrix, expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("missing.vec", "cannot be read .*check vectors.path"),
        ("missing.vec.gz", "cannot be read"),
        ("missing.zip", "cannot be read"),
        ("model.ftz", "quantized"),
        ("model.npy", "does not tell the format; allowed: .vec"),
        ("model.gz", "does not tell the format"),
    ],
)
def test_names_that_cannot_be_read(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        read_vectors(tmp_path / name, ["the"], 3)


def test_repeated_words_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="different"):
        read_vectors(write(tmp_path, VEC), ["the", "the"], 3)


# --- training -------------------------------------------------------------------------------------

WORDS = ["the", "cat", "dog", "little", "neverseen", "日本語"]


def train(seed: int = 3, words: list[str] = WORDS) -> VectorTable:
    return train_vectors(lambda: SENTENCES, words, DIMENSION, 2, 3, seed)


def test_training_gives_every_word_a_vector() -> None:
    reports: list[float] = []
    table = train_vectors(lambda: SENTENCES, WORDS, DIMENSION, 2, 3, 3, reports.append)
    assert table.matrix.shape == (len(WORDS), DIMENSION)
    assert table.matrix.dtype == np.float32
    assert table.coverage == 1.0
    assert table.subword.tolist() == [word == "neverseen" for word in WORDS]
    assert reports == sorted(reports)
    assert reports[-1] == 1.0
    np.testing.assert_array_equal(table.matrix, train().matrix)
    assert (table.matrix != train(seed=4).matrix).any()


def test_training_gives_the_same_bits_in_every_process() -> None:
    program = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); import test_vectors as t;"
        "t.vectors.BUCKETS = t.BUCKETS;"
        "print(hashlib.sha256(t.train().matrix.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    digests = [
        subprocess.run(
            command,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1]


def test_training_learns_which_words_go_together() -> None:
    rng = np.random.default_rng(0)
    groups = [["red", "blue", "pink"], ["seven", "three", "five"]]
    sentences = [list(rng.choice(groups[i % 2], 8)) for i in range(600)]
    words = [word for group in groups for word in group]
    unit = embedding_matrix(
        train_vectors(lambda: sentences, words, DIMENSION, 5, 5, 0), 6, 0, DIMENSION, 0
    )[1:]
    similarity = unit @ unit.T
    assert similarity[:2, :2].min() > similarity[:2, 2:].max()


def test_long_sentences_are_used_to_their_end() -> None:
    tail = ["rare"] * 5
    table = train_vectors(lambda: [["the"] * 10_001 + tail], ["the", "rare"], 4, 1, 2, 0)
    assert not table.subword.any()


def test_training_without_known_words() -> None:
    with pytest.raises(DataError, match="no word of the vocabulary"):
        train_vectors(lambda: [["a"]], ["b"], 4, 1, 2, 0)


def test_errors_of_the_text_come_out_of_training() -> None:
    calls = 0

    def sentences() -> Iterator[list[str]]:
        nonlocal calls
        calls += 1
        yield from SENTENCES
        if calls == 2:
            raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        train_vectors(sentences, WORDS, 4, 2, 2, 0)


def test_text_that_cannot_be_read_twice_is_refused() -> None:
    once = iter(SENTENCES)
    with pytest.raises(ValueError, match="start anew"):
        train_vectors(lambda: once, WORDS, 4, 1, 2, 0)


# --- cache ----------------------------------------------------------------------------------------


@pytest.fixture
def table() -> VectorTable:
    rng = np.random.default_rng(0)
    has_vector = np.array([True, True, False, True])
    matrix = rng.normal(size=(4, 8)).astype(np.float32) * has_vector[:, None]
    return VectorTable(matrix, has_vector, np.array([False, True, False, False]))


NAMES = ["a", "b", "c", "d"]


def test_cache_round_trip(tmp_path: Path, table: VectorTable) -> None:
    path = tmp_path / "deep" / "vectors.safetensors"
    with pytest.raises(DataError, match=r"vectors\.safetensors: cannot be read \(No such file"):
        load_table(path, NAMES, "key")
    save_table(table, NAMES, path, "key")
    loaded = load_table(path, NAMES, "key")
    np.testing.assert_array_equal(loaded.matrix, table.matrix)
    np.testing.assert_array_equal(loaded.has_vector, table.has_vector)
    np.testing.assert_array_equal(loaded.subword, table.subword)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_cache_keeps_strided_tables(tmp_path: Path, table: VectorTable) -> None:
    strided = dataclasses.replace(table, matrix=np.asfortranarray(table.matrix))
    save_table(strided, NAMES, tmp_path / "v", "key")
    loaded = load_table(tmp_path / "v", NAMES, "key")
    np.testing.assert_array_equal(loaded.matrix, table.matrix)


def test_cache_of_something_else_is_not_used(tmp_path: Path, table: VectorTable) -> None:
    path = tmp_path / "v.safetensors"
    save_table(table, NAMES, path, "key")
    for words, key, problem in (
        (NAMES, "other", "was made from something else"),
        (["a", "b", "d", "c"], "key", "has changed since it was written"),
        (NAMES[:3], "key", "holds no vectors of these words"),
    ):
        with pytest.raises(DataError, match=problem):
            load_table(path, words, key)


def test_vectors_that_are_not_finite_are_not_used(tmp_path: Path, table: VectorTable) -> None:
    table.matrix[0, 0] = np.inf
    save_table(table, NAMES, tmp_path / "v", "key")  # its checksum is right
    with pytest.raises(DataError, match="has changed"):
        load_table(tmp_path / "v", NAMES, "key")


def test_damaged_cache_is_not_used(tmp_path: Path, table: VectorTable) -> None:
    path = tmp_path / "v.safetensors"
    save_table(table, NAMES, path, "key")
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DataError) as error:
            load_table(path, NAMES, "key")
        assert "\n" not in str(error.value)
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x04
        path.write_bytes(changed)
        with pytest.raises(DataError) as error:
            load_table(path, NAMES, "key")
        assert "\n" not in str(error.value)


# --- embedding ------------------------------------------------------------------------------------


def test_embedding_matrix(table: VectorTable) -> None:
    matrix = embedding_matrix(table, 8, 4, 8, seed=1)
    assert matrix.shape == (8, 8)
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(matrix[0], 0)
    np.testing.assert_allclose(np.linalg.norm(matrix[[4, 5, 7]], axis=1), 1, rtol=1e-6)
    for row, source in ((4, 0), (5, 1), (7, 3)):
        cosine = matrix[row] @ table.matrix[source] / np.linalg.norm(table.matrix[source])
        assert cosine == pytest.approx(1)
    assert matrix[[1, 2, 3, 6]].any(axis=1).all()
    np.testing.assert_array_equal(matrix, embedding_matrix(table, 8, 4, 8, seed=1))
    other = embedding_matrix(table, 8, 4, 8, seed=2)
    assert (matrix != other).any(axis=1).tolist() == [i in (1, 2, 3, 6) for i in range(8)]


def test_random_rows_are_as_long_as_the_others() -> None:
    none = VectorTable(np.zeros((2000, 300), np.float32), np.ones(2000, bool), np.zeros(2000, bool))
    norms = np.linalg.norm(embedding_matrix(none, 2004, 4, 300, 0)[1:], axis=1)
    assert np.mean(norms**2) == pytest.approx(1, abs=0.01)


def test_table_of_another_shape_is_refused(table: VectorTable) -> None:
    with pytest.raises(DataError, match=r"\(4, 8\) do not fit 5 words"):
        embedding_matrix(table, 9, 4, 8, 0)
    with pytest.raises(DataError, match="hidden_size 16"):
        embedding_matrix(table, 8, 4, 16, 0)
