"""The word tokenizer: its rule, its two paths, its file and its readable text."""

import itertools
import json
import random
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.errors import DataError
from tinylm.reading import signed
from tinylm.tokenizers import word, word_arrays, word_counts
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, SPECIAL_TOKENS, UNK_ID, Tokenizer
from tinylm.tokenizers.word import WordSettings, WordTokenizer
from tinylm.tokenizers.word_case import Place
from tinylm.tokenizers.word_rule import NAMED, OPENING, Rule, normalise

REAL_DATA = Path(__file__).parents[3] / "shared/data/tinystories"

STORY = (
    "Once upon a time there was a girl. One day Lily's mom saw Lily and Tom. Tom ran to Lily! "
    '"Hi!" she said to Tom. "I don\'t know," Tom said, "but I\'ll help Lily." The dog ran, and '
    "the well-known dog had 12 balls. 'Yes,' said mom; the boys' ball was red (very red)."
)

RULES = (Rule(), Rule(line_breaks=False), Rule(version=1))

any_text = st.text(
    alphabet=st.one_of(
        st.sampled_from("abzAZ019 '\"-.,!?\n\r\v\t\x1c\x00<>()_/â€œ™é\u0301\u2028İΣ😀²…—“"),
        st.characters(),
    ),
    max_size=80,
)


def with_all_words(*texts: str) -> WordTokenizer:
    return WordTokenizer.train(texts, WordSettings(min_frequency=1, max_size=1_000_000))


def split_words(text: str, rule: Rule = RULES[0]) -> list[str]:
    return rule.split(text)


def rewrite(text: str, tokenizer: WordTokenizer | None = None) -> str:
    tokenizer = tokenizer or with_all_words(text)
    return tokenizer.decode(tokenizer.encode(text))


# --- the rule ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", ["hello", ",", "world", "!"]),
        ("don't mom's rock'n'roll", ["don't", "mom's", "rock'n'roll"]),
        ("'tis the boys' 'x'", ["‘", "tis", "the", "boys", "’", "‘", "x", "’"]),
        ("a''b a'1 1'a", ["a", "’", "’", "b", "a", "’", "1", "1", "’", "a"]),
        ('"Hi," he said. "Go', ["“", "hi", ",", "”", "he", "said", ".", "“", "go"]),
        ('"\'No!\' he said." ("x")', [*"“‘", "no", *"!’", "he", "said", *".”(“x”)"]),
        ('he said,"Hi" -"b" b-"', ["he", "said", *",“", "hi", *"”-“b”b-”"]),
        ('"a"b" 5\'6" a" "', [*"“a”b”5’6”a”“"]),
        ("cafe\u0301's 'e\u0301'", ["cafe\u0301's", "‘", "e\u0301", "’"]),
        ("a - b -- c--d -e f- g\n- h", [*"a–b––c--d-ef-g\n–h"]),
        ("a\nb \nc\r\nd\u2028e\t\r\r f\v\n", [*"a\nb", " \n", *"c\nd\ne", " \n", *"\nf", " \n"]),
        ("abc123 3.50", ["abc", "123", "3", ".", "50"]),
        ("well-known...", ["well", "-", "known", ".", ".", "."]),
        ("a_b\x1cc\u00a0d\u200be", ["a", "_", "b", "c", "d", "\u200b", "e"]),
        ("Café CAFE\u0301 Ñandú", ["café", "cafe\u0301", "ñandú"]),
        ("हिन्दी 東京 ١٢ x²", ["हिन्दी", "東京", "١٢", "x", "²"]),
        ("<eos> <pad>", ["<", "eos", ">", "<", "pad", ">"]),
        ("", []),
        (" \t ", []),
        (" \n \n", [" \n", " \n"]),
    ],
)
def test_split_words(text: str, expected: list[str]) -> None:
    assert split_words(text) == expected


def test_without_line_breaks_they_are_white_space() -> None:
    assert split_words("a \n- b\n\n'c", Rule(line_breaks=False)) == [*"a–b‘c"]
    assert split_words("a \n- b\n\n'c", Rule(version=1)) == [*"a-b'c"]


def test_version_1_takes_marks_as_they_stand() -> None:
    text = "\"Hi,\" 'tis - a''b well-known--\nx\r\n"
    expected = ['"', "hi", ",", '"', "'", "tis", "-", "a", "'", "'", "b", "well", "-", "known"]
    assert split_words(text, Rule(version=1)) == [*expected, "-", "-", "x"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("“Hi,” it’s ‘ok’…", "\"Hi,\" it's 'ok'..."),
        ("5–6 yes—no", "5-6 yes--no"),
        ("â€œMommy, look!â€\x9d it’s Iâ€™m", "\"Mommy, look!\" it's I'm"),
        ("said, â€œlook!â€ and", 'said, "look!" and'),  # the last byte was dropped
        ("upâ€“downâ€”leftâ€¦", "up-down--left..."),
        ("â\x80\x9cHiâ\x80\x9d â\x80\x99", '"Hi" \''),
        ("châteaux â", "châteaux â"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


@settings(max_examples=300)
@given(any_text)
def test_split_agrees_with_a_scanner_written_from_the_rule(text: str) -> None:
    """The patterns, and their character classes, against a loop over characters."""

    def scan(text: str) -> list[str]:
        kinds = [unicodedata.category(character) for character in text]
        tokens: list[str] = []
        place = 0
        while place < len(text):
            end = place + 1
            if kinds[place][0] == "L":
                while end < len(text) and (
                    kinds[end][0] in "LM"
                    or (text[end] == "'" and end + 1 < len(text) and kinds[end + 1][0] == "L")
                ):
                    end += 1
            elif kinds[place] == "Nd":
                while end < len(text) and kinds[end] == "Nd":
                    end += 1
            if not text[place].isspace():
                tokens.append(text[place:end])
                starts.append(place)
            elif text[place] == "\n":
                tokens.append(text[place])
                starts.append(place)
            place = end
        return tokens

    def marked(text: str, tokens: list[str], starts: list[int]) -> list[str]:
        def space(place: int) -> bool:
            return not 0 <= place < len(text) or text[place].isspace()

        result = list(tokens)
        for i, token in enumerate(tokens):
            first = last = starts[i]
            if token in ("'", '"'):
                while first > 0 and text[first - 1] in "'\"":
                    first -= 1
                while last + 1 < len(text) and text[last + 1] in "'\"":
                    last += 1
                before, after = text[first - 1 : first], text[last + 1 : last + 2]
                opens = space(first - 1) or before in "([{"
                word_before = before.isalnum() or unicodedata.category(before or " ")[0] == "M"
                opens |= not word_before and after.isalnum()
                result[i] = (OPENING if opens else NAMED)[token]
            elif token == "-":
                while first > 0 and text[first - 1] == "-":
                    first -= 1
                while last + 1 < len(text) and text[last + 1] == "-":
                    last += 1
                result[i] = "–" if space(first - 1) and space(last + 1) else "-"
            elif token == "\n" and first > 0 and text[first - 1] != "\n" and space(first - 1):
                result[i] = " \n"
        return result

    starts: list[int] = []
    normal = normalise(text).lower()
    assert split_words(text) == marked(normal, scan(normal), starts)


# --- training ---


def test_vocabulary_order_thresholds_and_specials() -> None:
    texts = ["b b b a a a c c d <eos>", "e e e e ."]
    tokenizer = WordTokenizer.train(texts, WordSettings(min_frequency=2, max_size=100))
    assert tokenizer.words == ["e", "a", "b", "c"]
    assert [tokenizer.token(index) for index in range(8)] == [*SPECIAL_TOKENS, *"eabc"]
    assert tokenizer.vocab_size == 8
    small = WordTokenizer.train(texts, WordSettings(min_frequency=1, max_size=6))
    assert small.words == ["e", "a"]
    assert small.encode("e d") == [4, UNK_ID]


def test_training_does_not_depend_on_order_or_batching(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [STORY, "Tom saw Lily. The “dog” ran.", "café Lily é", "we saw Lily and Tom"] * 3
    first = WordTokenizer.train(texts, WordSettings(min_frequency=1))
    monkeypatch.setattr(word_counts, "_CHARACTERS_AT_ONCE", 50)
    monkeypatch.setattr(word_arrays, "WINDOW_BYTES", 16)
    random.Random(0).shuffle(texts)
    second = WordTokenizer.train(iter(texts), WordSettings(min_frequency=1))
    assert second.words == first.words
    assert second.case == first.case
    assert second.fingerprint() == first.fingerprint()


def test_training_reads_a_stream_without_holding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_counts, "_CHARACTERS_AT_ONCE", 100)
    alive = peak = 0

    class Text(str):
        def __init__(self, *_: object) -> None:
            nonlocal alive, peak
            alive += 1
            peak = max(peak, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    texts: Iterator[str] = (Text("the dog ran home") for _ in range(200))
    tokenizer = WordTokenizer.train(texts, WordSettings())
    assert tokenizer.words == ["dog", "home", "ran", "the"]
    assert peak < 20


def test_training_on_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="occurs 2 times: give more text"):
        WordTokenizer.train(["each word here only once"], WordSettings())


def test_names_are_counted_where_no_sentence_starts() -> None:
    texts = ['The cat saw Lily. The dog met Lily! "Dog" ran, and Lily saw the Cat.', "Lily: Dog"]
    tokenizer = with_all_words(*texts)
    # "Dog" has capitals after a quote, where speech starts, and after a colon, which is a place of
    # its own; "The" only at starts, "Cat" once of two.
    assert tokenizer.case.forms == {Place.INSIDE: {"lily": "Lily"}, Place.COLON: {"dog": "Dog"}}
    assert tokenizer.case.names == {"lily"}
    assert rewrite("the dog met lily", tokenizer) == "The dog met Lily"


@settings(max_examples=200)
@given(st.lists(any_text, max_size=6))
def test_compiled_counts_equal_reference_counts(texts: list[str]) -> None:
    reference, compiled = word_counts.WordCounts(), word_counts.WordCounts()
    for text in texts:
        reference.add_reference(text)
    compiled.add(texts)
    assert compiled == reference
    for rule in RULES:
        assert compiled.of(rule) == Counter(piece for text in texts for piece in rule.split(text))


# --- encoding: two paths, one result ---


def test_encode_and_lookups() -> None:
    tokenizer = WordTokenizer(["the", "dog", "."])
    assert tokenizer.encode("The DOG ran. <unk> <eos>") == [4, 5, 1, 6, 1, 1, 1, 1, 1, 1]
    assert tokenizer.pieces("The DOG.") == ["the", "dog", "."]
    assert [tokenizer.token(i) for i in (5, UNK_ID, EOS_ID)] == ["dog", "<unk>", "<eos>"]
    assert tokenizer.encode_batch(["dog", "", "the ."]) == [[5], [], [4, 6]]


def test_special_names_in_text_never_become_special_ids() -> None:
    text = "a <pad> <unk> <sos> <eos> b"
    tokenizer = with_all_words(text)
    ids = tokenizer.encode(text)
    assert [tokenizer.token(i) for i in ids] == split_words(text)
    assert tokenizer.encode_flat([text])[0].tolist() == ids
    assert not {PAD_ID, UNK_ID, SOS_ID, EOS_ID} & set(ids)
    # Even a vocabulary made from such text gives "<eos>" no second meaning.
    assert rewrite(text) == "A < pad > < unk > < sos > < eos > b"


@settings(max_examples=300)
@given(st.lists(any_text, max_size=6), st.integers(1, 40), st.sampled_from(RULES))
def test_compiled_path_equals_reference(texts: list[str], window: int, rule: Rule) -> None:
    known = sorted({piece for text in texts for piece in rule.split(text)})[::2]
    tokenizer = WordTokenizer(known, rule_version=rule.version)
    expected = [tokenizer._encode_reference(text) for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word, "_COMPILED_MIN_CHARS", 0)
        patch.setattr(word_arrays, "WINDOW_BYTES", window)
        assert tokenizer.encode_batch(texts) == expected
        ids, bounds = tokenizer.encode_flat(texts)
        assert [tokenizer.encode(text) for text in texts] == expected
    assert [ids[a:b].tolist() for a, b in itertools.pairwise(bounds)] == expected


def test_compiled_path_on_large_texts() -> None:
    tokenizer = with_all_words(STORY)
    texts = [STORY * 2000, "x" * 600_000, "", "é " + STORY * 40, " " * 300_000 + "dog", "“Hi”"]
    expected = [tokenizer._encode_reference(text) for text in texts]
    assert tokenizer.encode_batch(texts) == expected
    assert tokenizer.encode(texts[0]) == expected[0]
    ids, bounds = tokenizer.encode_flat(texts)
    assert ids.tolist() == [index for row in expected for index in row]
    assert bounds.tolist()[-1] == len(ids)
    assert str(ids.dtype) == "int32"


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no TinyStories files in {REAL_DATA}")
def test_real_stories() -> None:
    stories = (REAL_DATA / "TinyStories-valid.txt").read_text("utf-8").split("<|endoftext|>")
    tokenizer = WordTokenizer.train(stories, WordSettings(min_frequency=1, max_size=1_000_000))
    rows = tokenizer.encode_batch(stories)
    assert rows == [tokenizer._encode_reference(story) for story in stories]
    assert tokenizer.encode_flat(stories)[0].tolist() == [index for row in rows for index in row]
    readable = tokenizer.decode_batch(rows)
    assert tokenizer.encode_batch(readable) == rows
    words = same = 0
    for story, shown in zip(stories, readable, strict=True):
        pair = normalise(story).split(), shown.split()
        if len(pair[0]) == len(pair[1]):  # else a join differs and the words do not line up
            words += len(pair[0])
            same += sum(a == b for a, b in zip(*pair, strict=True))
    assert words > 45_000
    assert same / words > 0.99
    reference = word_counts.WordCounts()
    for story in stories:
        reference.add_reference(story)
    compiled = word_counts.WordCounts()
    compiled.add(stories)
    assert compiled == reference


# --- the file ---


def test_save_and_load(tmp_path: Path) -> None:
    tokenizer = with_all_words(STORY, "é \ud800")
    path = tmp_path / "tokenizer.json"
    path.write_text("old")
    tokenizer.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
    loaded: Tokenizer = WordTokenizer.load(path)
    assert isinstance(loaded, WordTokenizer)
    assert loaded.words == tokenizer.words
    assert loaded.case == tokenizer.case
    assert loaded.case.names == {"lily", "tom", "lily's"}
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert loaded.encode(STORY) == tokenizer.encode(STORY)
    before = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == before


def test_fingerprint_is_of_what_decides_ids() -> None:
    assert len(WordTokenizer(["a"]).fingerprint()) == 16
    assert WordTokenizer(["a", "b"]).fingerprint() != WordTokenizer(["b", "a"]).fingerprint()
    assert WordTokenizer(["a"], ["a"], min_frequency=3).fingerprint() == (
        WordTokenizer(["a"]).fingerprint()
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "other"}, "not a tokenizer file"),
        ({"version": 9}, "version is 9, but 1 is needed"),
        ({"kind": "bpe"}, "kind is 'bpe', but 'word' is needed"),
        ({"rule_version": 0}, "rule_version is 0, but 1 or 2 is needed"),
        ({"rule_version": 1}, "capitalised is not a list of strings"),
        ({"rule_version": 1, "capitalised": ["zebra"]}, "capitalised holds 'zebra'"),
        ({"rule_version": 1, "capitalised": ["a"]}, "unknown key forms"),
        ({"vocabulary": "abc"}, "vocabulary is not a list of strings"),
        ({"vocabulary": [*SPECIAL_TOKENS, 3]}, "vocabulary is not a list of strings"),
        ({"vocabulary": [*SPECIAL_TOKENS, "a", "a"]}, "vocabulary holds 'a' twice"),
        ({"vocabulary": ["<unk>", "<pad>", "<sos>", "<eos>", "a"]}, "does not start with <pad>"),
        ({"vocabulary": [*SPECIAL_TOKENS, "b", "a"]}, "fingerprint .* does not fit"),
        ({"fingerprint": None}, "fingerprint None does not fit"),
        ({"forms": {"inside": {"zebra": "Zebra"}}}, "forms holds 'zebra'"),
        ({"forms": {"inside": {"a": "B"}}}, "forms writes 'a' as 'B', which is another word"),
        ({"forms": {"outside": {"a": "A"}}}, "forms has no place 'outside': it has start, speech"),
        ({"forms": {"inside": ["a"]}}, r"forms inside = \['a'\]: expected keys with values"),
        ({"forms": None}, "forms holds None: expected keys with values"),
        ({"capitalised": ["a"]}, "unknown key capitalised"),
        ({"min_frequency": "two"}, "min_frequency or max_size"),
    ],
)
def test_load_refuses(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    path = tmp_path / "tokenizer.json"
    WordTokenizer(["a", "b"], ["a"]).save(path)
    written = json.loads(path.read_text())
    del written["checksum"]
    WordTokenizer.load(path)
    for content in ({**written, **change}, signed({**written, **change})):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=problem) as caught:
            WordTokenizer.load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)


def test_a_file_without_a_checksum_is_read_and_a_changed_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    WordTokenizer(["a", "b"], ["a"], types_seen=20).save(path)
    written = json.loads(path.read_text())
    path.write_text(json.dumps({**written, "types_seen": 21}))  # nothing else would show it
    with pytest.raises(DataError, match="has changed since it was written"):
        WordTokenizer.load(path)
    del written["checksum"]
    path.write_text(json.dumps(written))
    assert WordTokenizer.load(path).types_seen == 20
    path.write_text(json.dumps({**written, "checksun": "1"}))
    with pytest.raises(DataError, match="unknown key checksun"):
        WordTokenizer.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
def test_load_refuses_what_is_not_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        WordTokenizer.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).endswith("; train the tokenizer again, or give another file")


def test_missing_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read \(No such file"):
        WordTokenizer.load(tmp_path / "none.json")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write the tokenizer"):
        WordTokenizer(["a"]).save(tmp_path / "file" / "tokenizer.json")


def test_a_vocabulary_with_repeats_is_refused() -> None:
    for words in (["a", "a"], ["<eos>"]):
        with pytest.raises(DataError, match="twice"):
            WordTokenizer(words)


def test_types_that_were_cut_are_counted_and_kept_for_the_record(tmp_path: Path) -> None:
    tokenizer = WordTokenizer.train(["a a b b c d"], WordSettings(min_frequency=2))
    assert tokenizer.words == ["a", "b"]
    assert tokenizer.types_seen == 4
    tokenizer.save(tmp_path / "tokenizer.json")
    assert WordTokenizer.load(tmp_path / "tokenizer.json").types_seen == 4
    assert WordTokenizer(["a", "b"]).types_seen == 2
    content = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    del content["checksum"]
    for wrong in ("4", 1):
        changed = signed(content | {"types_seen": wrong})
        (tmp_path / "wrong.json").write_text(json.dumps(changed), "utf-8")
        with pytest.raises(DataError, match="types_seen"):
            WordTokenizer.load(tmp_path / "wrong.json")
