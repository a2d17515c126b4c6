"""Files of Hugging Face tokenizers: read as they encode, refused by name where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from tests.tokenizers.test_bpe import HARD, STORIES, theirs_trained
from tinylm.errors import DataError
from tinylm.tokenizers import hugging_face
from tinylm.tokenizers.base import SPECIAL_TOKENS
from tinylm.tokenizers.bpe import BPESettings, BPETokenizer


def gpt2_like(merges_as_text: bool = False) -> dict[str, Any]:
    """Return a file as that of GPT-2 is: its only special token comes last."""
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    theirs.post_processor = processors.ByteLevel(trim_offsets=False)
    theirs.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    theirs.train_from_iterator(iter(STORIES), trainer)
    theirs.add_special_tokens(["<|endoftext|>"])
    content: dict[str, Any] = json.loads(theirs.to_str())
    content["model"].update(continuing_subword_prefix="", end_of_word_suffix="")
    content["model"]["vocab"]["<|endoftext|>"] = 600
    if merges_as_text:  # as earlier versions of the library wrote them
        content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    return content


def written(content: Any, tmp_path: Path) -> Path:
    path = tmp_path / "hf.json"
    path.write_text(json.dumps(content), "utf-8")
    return path


@pytest.mark.parametrize("merges_as_text", [False, True])
def test_a_file_like_that_of_gpt2_encodes_the_same_tokens(
    tmp_path: Path, merges_as_text: bool
) -> None:
    path = written(gpt2_like(merges_as_text), tmp_path)
    theirs, ours = tokenizers.Tokenizer.from_file(str(path)), hugging_face.read(path)
    assert ours.special_tokens == (*SPECIAL_TOKENS, "<|endoftext|>")
    assert hugging_face.ids_shift(path, ours)
    for text in STORIES[:50] + HARD:
        expected = theirs.encode(text)
        ids = ours.encode(text)
        assert [ours.token(i) for i in ids] == expected.tokens
        assert ids == [i + 5 for i in expected.ids]  # the order of the tokens is the file's
        assert ours.decode(ids) == text


@pytest.mark.parametrize("split", ["gpt2", "cl100k"])
def test_a_file_trained_by_the_library_with_our_special_tokens_keeps_its_ids(
    tmp_path: Path, split: str
) -> None:
    theirs = theirs_trained(STORIES, 900, 2, split)
    theirs.decoder = decoders.ByteLevel()
    path = tmp_path / "hf.json"
    theirs.save(str(path))
    ours = hugging_face.read(path)
    assert not hugging_face.ids_shift(path, ours)
    texts = STORIES + HARD
    assert ours.encode_batch(texts) == [theirs.encode(text).ids for text in texts]
    trained = BPETokenizer.train(STORIES, BPESettings(vocab_size=900, split=split))  # type: ignore[arg-type]
    assert trained.fingerprint() == ours.fingerprint()


def test_transformers_takes_what_is_exported(tmp_path: Path) -> None:
    ours = BPETokenizer.train(STORIES, BPESettings(vocab_size=700, special_tokens=("<user>",)))
    path = written(ours.to_hugging_face(), tmp_path)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="<pad>", eos_token="<eos>")
    texts = STORIES[:50] + [text for text in HARD if "<" not in text]
    assert theirs(texts, add_special_tokens=False)["input_ids"] == ours.encode_batch(texts)
    assert theirs.pad_token_id == 0
    assert theirs.eos_token_id == 3
    assert (
        theirs.decode([2, *ours.encode("So it was."), 3], skip_special_tokens=True) == "So it was."
    )
    # The difference that is documented: there the name of a special token in a text becomes it.
    assert theirs("<user>", add_special_tokens=False)["input_ids"] == [4]
    assert 4 not in ours.encode("<user>")


def put(content: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    *sections, key = place.split(".")
    inner = content
    for section in sections:
        inner = inner[section]
    inner[key] = value
    return content


MISFITS: list[tuple[str, Any, str]] = [
    (
        "model.type",
        "WordLevel",
        "model.type is 'WordLevel', but BPE or Unigram or WordPiece is needed",
    ),
    ("model.dropout", 0.1, "model.dropout is 0.1, but nothing or 0.0 is needed"),
    ("model.continuing_subword_prefix", "##", "model.continuing_subword_prefix is '##'"),
    ("model.end_of_word_suffix", "</w>", "model.end_of_word_suffix is '</w>', but nothing"),
    ("model.byte_fallback", True, "model.byte_fallback is True"),
    ("model.ignore_merges", True, "model.ignore_merges is True, but nothing or False is needed"),
    ("model.vocab", {"a": 0, "b": 0}, "model.vocab gives an id to two tokens"),
    ("model.vocab", {"a": 0}, "lacks the byte 0x00"),
    ("model.vocab", ["a"], "model.vocab holds"),
    ("model.merges", [["a"]], "is not a pair"),
    ("model.merges", [["zzq", "a"]], "takes 'zzq', which the vocabulary lacks"),
    ("model.merges", [], "which no merge makes"),
    ("model", [], "model holds"),
    ("normalizer", {"type": "NFC"}, "normalizer is 'NFC', but nothing is needed"),
    ("truncation", {"max_length": 8}, "truncation is 'set', but nothing is needed"),
    ("post_processor", {"type": "BertProcessing"}, "post_processor is 'BertProcessing'"),
    ("decoder", None, "decoder is None, but 'ByteLevel' is needed"),
    ("decoder", {"type": "Metaspace"}, "decoder is 'Metaspace', but 'ByteLevel' is needed"),
    ("pre_tokenizer", None, "pre_tokenizer is None, but ByteLevel is needed"),
    ("pre_tokenizer", {"type": "Metaspace"}, "pre_tokenizer is 'Metaspace', but ByteLevel"),
    ("pre_tokenizer.add_prefix_space", True, "add_prefix_space is true, which adds a space"),
    ("pre_tokenizer.use_regex", False, "cuts by no rule, or by two"),
    (
        "pre_tokenizer",
        {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated"},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        },
        r"cuts by '\\\\w\+', but only the rules gpt2 and cl100k are known",
    ),
    (
        "added_tokens",
        [{"id": 600, "content": "cat", "special": False}],
        "added_tokens holds 'cat', which is not special",
    ),
    ("added_tokens", [{"id": 600, "content": "[CLS]", "special": True}], r"special_tokens\.0 = "),
    ("added_tokens", [{"content": "<s>"}], "added_tokens 0.id is missing"),
]


@pytest.mark.parametrize(("place", "value", "message"), MISFITS)
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, place: str, value: Any, message: str
) -> None:
    path = written(put(gpt2_like(), place, value), tmp_path)
    with pytest.raises(DataError, match=message) as error:
        hugging_face.read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [{}, {"model": {}}, [], {"added_tokens": [], "model": {}}])
def test_another_file_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DataError, match=r"hf\.json"):
        hugging_face.read(written(content, tmp_path))
