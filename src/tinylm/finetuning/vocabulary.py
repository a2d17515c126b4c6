"""More words for a trained model: rows of the embedding and the unembedding after those it has.

A new row begins as the mean of the old ones, so that a new word is neither likelier nor stranger
than a word is on average (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language
Models"): before a step is taken, the new words together get the share of the probability that their
number and the mean of the logits give them, and the order of the old words is what it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from tinylm.errors import AdapterError
from tinylm.model.base import GenerativeModel, build
from tinylm.model.weights import model_weights

Grown = TypeVar("Grown", bound=GenerativeModel)


def with_vocabulary(model: Grown, vocab_size: int) -> Grown:
    """Return a model like another, of a larger vocabulary.

    Args:
        model: as its configuration builds it; it is not changed.
        vocab_size: of the new one; the ids that the model has stay what they are.

    Returns:
        A new model, in the same mode; the model itself where it has so many words.

    Raises:
        AdapterError: if it was changed since it was built, or has more words.
    """
    old = model.embedding.num_embeddings
    if vocab_size == old:
        return model
    if vocab_size < old:
        raise AdapterError(f"a vocabulary of {vocab_size:,} words is smaller than {old:,}")
    if model.changes:
        raise AdapterError(
            "the model was changed since it was built, and its vocabulary cannot grow: give the "
            "run that it was made of, or write one without an adapter with `tinylm merge RUN "
            "ADAPTER --out FOLDER`"
        )
    with torch.random.fork_rng(devices=[]):  # what is drawn is replaced
        grown = build(replace(model.config, vocab_size=vocab_size))
    weights = model_weights(model)
    with torch.no_grad():
        for name, tensor in model_weights(grown).items():
            given = weights[name]
            if tensor.shape == given.shape:
                tensor.copy_(given)
            else:
                tensor[:old] = given
                tensor[old:] = given.mean(0)
    grown.train(model.training)
    return grown  # type: ignore[return-value]
