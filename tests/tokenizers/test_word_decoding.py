"""Readable text from the ids of the word tokenizer: ``decode(encode(text))``."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylm.errors import DataError
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID
from tinylm.tokenizers.word import WordSettings, WordTokenizer
from tinylm.tokenizers.word_rule import Rule, normalise

from .test_word import REAL_DATA, any_text, rewrite, with_all_words

# --- spacing ---


@pytest.mark.parametrize(
    "text",
    [
        "Once upon a time, there was a girl. She was sad. Why? She lost it!",
        '"Hi!" she said. "I\'m Lily," said Tom.',
        'Tom said, "I want to help you, mom." He left.',
        'She said the word "love" and he ran.',
        'He saw a "big red" dog. It barked.',
        "I don't know if I'll go; I've time: it's 10:30, I paid $1,000 or 3.5 (all).",
        "The well-known dog, forty-two years-old. No way--yes.",
        "The boys' ball was red. 'Yes,' said mom. The 'big' dog's ball.",
        "He ate 1 and/or 2, or 50% of it [all]",
        # Quotes that are not closed, or never opened, leave those after them where they were.
        '"Go," said the goat. "You can go." "No. "You can," she said. "Yes."',
        'Tom said, "Hi. Mom said, "Come here." He came." "Go now." He left.',
        # Dashes, hyphens and apostrophes.
        "It was amazing - a big key. It was fun -- and red--and well-known.",
        "Tim's 'big' dog said, ''No''. 'Tis the boys' ball, or 'the girls''.",
        'She said, "\'No\' is a word," and ("Yes") \'A "b" c\'.',
        # Lines.
        "One day.\nThe end.\n\nTom ran. \nHe ran.\n- One\n- Two",
        '"Hi."\n"Ho."\n\n"He." \n\n',
    ],
)
def test_text_comes_back(text: str) -> None:
    assert rewrite(text) == text


def test_line_breaks_are_spaces_if_they_are_not_kept() -> None:
    text = "One day.\n\nTom ran. \nHe ran.\n- One"
    config = WordSettings(min_frequency=1, line_breaks=False)
    tokenizer = WordTokenizer.train([text], config)
    assert "\n" not in tokenizer.words
    assert rewrite(text, tokenizer) == "One day. Tom ran. He ran. - One"
    # Nor does a text of several lines become <unk> where training had one line a text.
    assert UNK_ID not in with_all_words("one day").encode("one\n\nday")


def test_a_mark_that_training_had_in_one_form_only_stands_for_both() -> None:
    tokenizer = with_all_words("It's the boys' ball.\nA - b.")
    ids = tokenizer.encode("'boys \n-")
    assert [tokenizer.token(i) for i in ids] == ["’", "boys", "\n", "–"]
    long = "'boys' a-b \n" * 2000
    assert tokenizer.encode(long) == tokenizer._encode_reference(long)
    assert UNK_ID not in tokenizer.encode(long)


# --- case ---


def test_the_commonest_form_of_a_word_is_written() -> None:
    text = "They watched TV. It is OK. The OK sign, McDonald and I'm on TV. OK, on tv."
    assert rewrite("tv IS ok on the Tv, MCDONALD.", with_all_words(text)) == (
        "TV is OK on the TV, McDonald."
    )


def test_names_alone_are_capitals_but_after_a_determiner() -> None:
    text = "We saw Mom and Tom in Mom's house. His mom met Tom's mom."
    words = with_all_words(text).words
    assert rewrite(text, WordTokenizer(words, {"mom", "tom"})) == text


@pytest.mark.parametrize(
    "text",
    [
        # After a determiner and beside what follows one, and anywhere else.
        "We saw Mom and Dad. So Mom ran. His mom and dad saw the mom.",
        "So Tim met Spot. So Spot ran, and it was a nice spot. It was the spot.",
        # After speech the sentence goes on or not.
        '"Hi!" she said. "Why?" Tom asked. "No!" The dog ran. "Go?" asked he. "Yes!" Then.',
        # In a quotation within a sentence, and in one after a comma.
        'He said the word "love" to her. He said, "No love."',
    ],
)
def test_case_depends_on_the_place(text: str) -> None:
    assert rewrite(text) == text


def test_a_text_decides_what_is_a_name() -> None:
    training = "We saw Spot. So Spot ran to us. It was the spot. A dog ran to a ball, the blue"
    tokenizer = with_all_words(f"{training} ball, in blue's home. A dog named Tom was so blue.")
    for text in (
        "A dog named Blue ran. So Blue saw the blue ball, in Blue's home.",
        "A blue ball ran. So blue ran.",
        "It was a spot. So we saw spot.",
        "We saw Spot.",
    ):
        assert rewrite(text, tokenizer) == text
    # And the next text again.
    first = tokenizer.encode("A dog named Blue.")
    assert tokenizer.decode([SOS_ID, *first, EOS_ID, SOS_ID, *tokenizer.encode("So blue.")]) == (
        "A dog named Blue. So blue."
    )


# --- special tokens, and prefixes ---


def test_decode_of_special_tokens() -> None:
    tokenizer = WordTokenizer(["the", "dog", "ran", "."])
    assert tokenizer.decode([SOS_ID, 4, 5, PAD_ID, UNK_ID, 7, EOS_ID, SOS_ID, 4]) == (
        "The dog <unk>. The"
    )
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode_batch([[4], [EOS_ID]]) == ["The", ""]
    for wrong in (8, -1):
        with pytest.raises(DataError, match="ids run from 0 to 7"):
            tokenizer.decode([wrong])


@settings(max_examples=200)
@given(st.data())
def test_decode_of_a_prefix_is_a_prefix(data: st.DataObject) -> None:
    words = [*".,!?;:“”‘’–-()[]$%/_@<>#\n", " \n", "the", "boys", "i", "named", "said", "lily", "3"]
    tokenizer = WordTokenizer(words, {"lily"})
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    shown = ""
    for count in range(len(ids) + 1):
        part = tokenizer.decode(ids[:count])
        assert part.startswith(shown)
        shown = part


@settings(max_examples=500)
@given(any_text, st.booleans())
def test_readable_text_has_the_same_ids(text: str, line_breaks: bool) -> None:
    rule = Rule(line_breaks=line_breaks)
    tokenizer = WordTokenizer(sorted(set(rule.split(text))))
    ids = tokenizer.encode(text)
    assert UNK_ID not in ids
    assert tokenizer.encode(tokenizer.decode(ids)) == ids


MARKS = ["“hi”", "“no!”", "‘oh’", "boys’", "well-known", "a – b", "end.", "and,", "(so)", "3.5"]


@settings(max_examples=300)
@given(st.lists(st.lists(st.sampled_from([*MARKS, "dog", "don't"]), min_size=1), min_size=1))
def test_text_of_usual_spacing_comes_back(lines: list[list[str]]) -> None:
    """Any words and marks with one space between them, in any lines: as they were, but for case."""
    text = normalise("\n".join(" ".join(words) for words in lines))
    assert rewrite(text).lower() == text


# --- real stories ---


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason=f"no TinyStories files in {REAL_DATA}")
def test_most_real_stories_come_back() -> None:
    """Line breaks and all; TinyStories' own quotes are typographic in some."""
    train, validation = (
        [story.strip() for story in path.read_text("utf-8").split("<|endoftext|>")[:-1]]
        for path in (REAL_DATA / "TinyStories-train.txt", REAL_DATA / "TinyStories-valid.txt")
    )
    tokenizer = WordTokenizer.train(train, WordSettings())
    rows = zip(validation, tokenizer.encode_batch(validation), strict=True)
    known = [(story, ids) for story, ids in rows if UNK_ID not in ids]
    assert len(known) > 450
    same = sum(tokenizer.decode(ids) == normalise(story) for story, ids in known)
    assert same / len(known) > 0.85
