"""Files of Hugging Face ``tokenizers``: what those of every kind share, written and read.

Such a file names each step of its library: normalizer, pre-tokenizer, model, post-processor,
decoder. What a tokenizer here has no equal of is refused by name, so that ids never differ
silently. Two things are not part of a tokenizer here and are left out: a post-processor that frames
texts with tokens, and offsets.

Ids 0 to 3 are the special tokens of every tokenizer here. A file that has others keeps the order of
its tokens, but not their numbers: ``ids_shift`` says whether they change.

That library takes the name of a special token in a text for the token, unless its property
``encode_special_tokens`` is set; here no text becomes one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict
from typing_extensions import TypedDict

from tinylm.errors import DataError, shown
from tinylm.reading import checked, read_json, refusal
from tinylm.reading.shapes import Refuse
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers.base import SPECIAL_TOKENS, Tokenizer, read_special_tokens
from tinylm.tokenizers.splitting import PATTERNS

ADVICE = "tinylm reads tokenizer.json of the library `tokenizers`"
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
_FRAMING = ("TemplateProcessing", "ByteLevel")
"""Post-processors that change no id of a text: the one frames it, the other counts offsets."""


class AddedToken(TypedDict):
    """A token that stands beside the model's vocabulary."""

    __pydantic_config__ = ConfigDict(extra="ignore")  # type: ignore[misc]
    id: int
    content: str
    special: bool


def written(
    model: Mapping[str, Any],
    special: Sequence[str],
    pre_tokenizer: Mapping[str, Any],
    decoder: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a whole file.

    Args:
        model: the section of that name.
        special: names of the special tokens, by id.
        pre_tokenizer: the section of that name.
        decoder: the section of that name.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": number,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for number, name in enumerate(special)
        ],
        "normalizer": None,
        "pre_tokenizer": dict(pre_tokenizer),
        "post_processor": None,
        "decoder": dict(decoder),
        "model": dict(model),
    }


def byte_level(split: str | None) -> dict[str, Any]:
    """Return the pre-tokenizer that cuts by a rule and then works on bytes; None: no rule."""
    if split == next(iter(PATTERNS)):  # the library's own
        return {**_BYTE_LEVEL, "use_regex": True}
    plain = {**_BYTE_LEVEL, "use_regex": False}
    if split is None:
        return plain
    pattern = {"Regex": PATTERNS[split]}
    cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [cut, plain]}


BYTE_LEVEL_DECODER = {**_BYTE_LEVEL, "use_regex": True}


def rule_of(pre_tokenizer: Any, refuse: Refuse) -> str:
    """Return the rule by which a byte-level file cuts texts into words.

    Raises:
        TinylmError: ``refuse``'s, if it is none of ``splitting.PATTERNS``.
    """
    steps = pre_tokenizer
    if isinstance(steps, dict):
        steps = steps.get("pretokenizers") if steps.get("type") == "Sequence" else [steps]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise refuse(f"pre_tokenizer is {shown(pre_tokenizer)}, but ByteLevel is needed")
    *cuts, last = steps or [{}]
    if last.get("type") != "ByteLevel" or len(cuts) > 1:
        kinds = " and ".join(str(step.get("type")) for step in steps) or "empty"
        raise refuse(
            f"pre_tokenizer is {shown(kinds)}, but ByteLevel is needed, alone or after Split"
        )
    if last.get("add_prefix_space", True) is not False:
        raise refuse(
            "pre_tokenizer.add_prefix_space is true, which adds a space to every text: here texts "
            "stay as they are"
        )
    own_rule = last.get("use_regex", True)
    if not cuts and own_rule is True:
        return next(iter(PATTERNS))
    if not cuts or own_rule is not False:
        raise refuse("pre_tokenizer cuts by no rule, or by two: one is needed")
    cut = cuts[0]
    pattern = cut.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    for name, known in PATTERNS.items():
        if expression == known and cut.get("type") == "Split":
            if cut.get("behavior") != "Isolated" or cut.get("invert", False) is not False:
                raise refuse("pre_tokenizer: Split must be Isolated and not inverted")
            return name
    raise refuse(
        f"pre_tokenizer cuts by {shown(expression or cut.get('type'))}, but only the rules "
        f"{' and '.join(PATTERNS)} are known"
    )


def special_of(
    content: Mapping[str, Any], refuse: Refuse, called: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return the names of a file's special tokens beside the standard ones, by id.

    Args:
        content: of the file.
        refuse: makes the error.
        called: the file's name of a token -> its name here, where it is another.

    Raises:
        TinylmError: ``refuse``'s, for an added token that is not special, or a name that no special
            token can have here.
    """
    added = checked(
        list[AddedToken],
        content.get("added_tokens") or [],
        lambda what: refuse(f"added_tokens {what}"),
    )
    plain = next((token["content"] for token in added if not token["special"]), None)
    if plain is not None:
        raise refuse(f"added_tokens holds {shown(plain)}, which is not special: none is taken")
    by_id = sorted(added, key=lambda token: token["id"])
    names = [(called or {}).get(token["content"], token["content"]) for token in by_id]
    names = [name for name in names if name not in SPECIAL_TOKENS]
    return read_special_tokens(names, refuse)


def refuse_steps(
    content: Mapping[str, Any], expected: Mapping[str, Sequence[Any]], refuse: Refuse
) -> None:
    """Refuse values of a section that change ids in a way that a tokenizer here does not know.

    Args:
        content: a section, or the whole file.
        expected: key -> the values that are taken; a key that is missing is None.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, naming the first such key.
    """
    for key, values in expected.items():
        value = content.get(key)
        kind = value.get("type", "set") if isinstance(value, dict) else value
        if not any(kind is each or (kind == each and type(kind) is type(each)) for each in values):
            needed = " or ".join(
                "nothing" if each is None else shown(each) for each in values if each != ""
            )
            raise refuse(f"{key} is {shown(kind)}, but {needed} is needed")


def refuse_frame(content: Mapping[str, Any], refuse: Refuse) -> None:
    """Refuse the steps around the model that no tokenizer here has."""
    none: tuple[Any, ...] = (None,)
    refuse_steps(
        content,
        {
            "truncation": none,
            "padding": none,
            "normalizer": none,
            "post_processor": (None, *_FRAMING),
        },
        refuse,
    )


def model_of(content: Mapping[str, Any], refuse: Refuse) -> dict[str, Any]:
    """Return the section of the model."""
    if "model" not in content or "added_tokens" not in content:
        raise refuse("not a file of Hugging Face tokenizers (no model with added_tokens)")
    return checked(dict[str, Any], content.get("model"), lambda what: refuse(f"model {what}"))


def vocabulary_of(model: Mapping[str, Any], refuse: Refuse) -> dict[str, int]:
    """Return the tokens of a model with their ids, which differ, by id."""
    vocabulary = checked(
        dict[str, int], model.get("vocab"), lambda what: refuse(f"model.vocab {what}")
    )
    if len(set(vocabulary.values())) != len(vocabulary):
        raise refuse("model.vocab gives an id to two tokens")
    return dict(sorted(vocabulary.items(), key=lambda item: item[1]))


def read(path: str | Path) -> Tokenizer:
    """Read the tokenizer of a file of the library, of the kind that its model is.

    Raises:
        DataError: if it is missing or malformed, or holds what no tokenizer here has.
    """
    refuse = refusal(path, DataError, ADVICE)
    content = read_json(path, dict[str, Any], DataError, ADVICE)
    model = model_of(content, refuse)
    kinds = {
        kind.foreign_model: kind
        for name in TOKENIZERS
        if (kind := TOKENIZERS.load(name)).foreign_model
    }
    if model.get("type") not in kinds:
        raise refuse(
            f"model.type is {shown(model.get('type'))}, but {' or '.join(kinds)} is needed"
        )
    tokenizer: Tokenizer = kinds[model["type"]].from_hugging_face(content, refuse)
    return tokenizer


def ids_shift(path: str | Path, tokenizer: Tokenizer) -> bool:
    """Return whether a tokenizer read from a file has other ids than the file."""
    content = read_json(path, dict[str, Any], DataError, ADVICE)
    ids = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, list):  # of tokens and their scores, by id
        vocabulary = {row[0]: number for number, row in enumerate(vocabulary)}
    ids |= vocabulary
    return any(ids.get(tokenizer.token(i)) != i for i in range(tokenizer.vocab_size))
