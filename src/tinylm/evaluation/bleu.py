"""BLEU by sacrebleu on detokenized text, on its 0 to 100 scale (Papineni et al. 2002; Post 2018).

Corpus BLEU pools the n-gram counts of all pairs before the precisions are taken; it is not the
mean of the sentence scores, which is reported beside it. Sentence BLEU uses the effective order,
so that a short text without any 4-gram is not zero by definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinylm.measurement import Indices, Replicates

_ORDER = 4


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU and mean sentence BLEU, with sacrebleu's signatures."""

    corpus: float
    signature: str
    sentences: list[float]
    """BLEU of each pair alone."""
    sentence_signature: str

    @property
    def sentence_mean(self) -> float:
        """Mean of the sentence scores."""
        return sum(self.sentences) / len(self.sentences) if self.sentences else 0.0


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> Bleu:
    """Compare texts with one reference each.

    Raises:
        ValueError: if there is not one reference a hypothesis, or none at all.
    """
    from sacrebleu.metrics.bleu import BLEU

    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(f"{len(hypotheses)} hypotheses and {len(references)} references")
    corpus = BLEU()
    score = corpus.corpus_score(list(hypotheses), [list(references)])
    sentence = BLEU(effective_order=True)
    sentences = [
        float(sentence.sentence_score(hypothesis, [reference]).score)
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]
    return Bleu(
        corpus=float(score.score),
        signature=str(corpus.get_signature()),
        sentences=sentences,
        sentence_signature=str(sentence.get_signature()),
    )


def bleu_counts(hypotheses: Sequence[str], references: Sequence[str]) -> npt.NDArray[np.float64]:
    """Return what corpus BLEU adds up over texts with one reference each.

    Returns:
        (texts, 10): matches of 1- to 4-grams, all 1- to 4-grams, and the lengths in tokens of text
        and reference.
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)
    rows = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        score = metric.sentence_score(hypothesis, [reference])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=np.float64).reshape(-1, 2 * _ORDER + 2)


def bleu_replicates(counts: npt.NDArray[np.float64] | None) -> Replicates:
    """Return the corpus BLEU of texts, and of the texts without each one.

    Args:
        counts: as ``bleu_counts`` returns them.
    """
    from sacrebleu.metrics.bleu import BLEU

    def corpus(kept: Indices) -> float:
        assert counts is not None
        *grams, length, wanted = (int(value) for value in counts[kept].sum(0))
        score = BLEU.compute_bleu(grams[:_ORDER], grams[_ORDER:], length, wanted, "exp")
        return float(score.score)

    return Replicates.of(corpus, 0 if counts is None else len(counts))


def bleu_result(
    scores: Bleu, hypotheses: Sequence[str], references: Sequence[str]
) -> dict[str, Any]:
    """Return the scores of texts as JSON values, with the interval of corpus BLEU."""
    return {
        "corpus": scores.corpus,
        "signature": scores.signature,
        "sentence_mean": scores.sentence_mean,
        "sentence_signature": scores.sentence_signature,
        "interval": bleu_replicates(bleu_counts(hypotheses, references)).interval.as_result(),
    }
