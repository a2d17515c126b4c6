"""BLEU by sacrebleu on detokenized text, on its 0 to 100 scale (Papineni et al. 2002; Post 2018).

Corpus BLEU pools the n-gram counts of all pairs before the precisions are taken; it is not the
mean of the sentence scores, which is reported beside it. Sentence BLEU uses the effective order,
so that a short text without any 4-gram is not zero by definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
