"""The tokenizer: real stories come back from ids, and its fast paths give the ids of its plain one.

Unknown words come back as unknown: a word that is not in the vocabulary is written in their place.
The batch and flat paths are compared on the stories, and on the words of each as texts of their
own, which are too short for anything compiled.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinylm.experiments.checks import Finding, Subject
from tinylm.experiments.checks.material import spread_texts
from tinylm.tokenizers.base import UNK_ID, Tokenizer

_STORIES = 200
_UNKNOWN = "zqxjkvb"


def run(subject: Subject) -> Finding:
    """Count the validation stories whose ids differ after a round trip or between paths."""
    tokenizer = subject.lm.tokenizer
    stories = spread_texts(subject.validation, _STORIES)
    if tokenizer.encode(_UNKNOWN) != [UNK_ID]:  # no word of its own is unknown to this tokenizer
        stories = [story for story in stories if UNK_ID not in story]
    unknown = tokenizer.token(UNK_ID)
    texts = [text.replace(unknown, _UNKNOWN) for text in tokenizer.decode_batch(stories)]
    encoded = [tokenizer.encode(text) for text in texts]
    lost = {i for i, story in enumerate(stories) if encoded[i] != story}
    apart = _apart(tokenizer, texts, encoded)
    return Finding(
        compared="ids of stories decoded and encoded again, against the token file's; encode_batch "
        "and encode_flat, against encode (stories that differ)",
        cases=len(stories),
        unit="stories",
        difference=float(len(lost | apart)),
        bound=0.0,
        note=f"changed: {len(lost)}; paths differ: {len(apart)}" if lost or apart else "",
    )


def _apart(
    tokenizer: Tokenizer, texts: Sequence[str], encoded: Sequence[Sequence[int]]
) -> set[int]:
    """Return the texts whose ids differ between encoding one by one, a batch, and flat."""
    batch = tokenizer.encode_batch(texts)
    ids, bounds = tokenizer.encode_flat(texts)
    differing = set()
    for i, expected in enumerate(encoded):
        words = texts[i].split()
        by_word = [tokenizer.encode(word) for word in words]
        if (
            list(expected) != batch[i]
            or list(expected) != ids[bounds[i] : bounds[i + 1]].tolist()
            or by_word != tokenizer.encode_batch(words)
        ):
            differing.add(i)
    return differing
