"""How far a student's next-token distribution is from its teacher's.

Both are softened by a temperature T, ``softmax(logits / T)`` (Hinton, Vinyals and Dean 2015). The
gradient of such a divergence shrinks as 1 / T^2, so each is multiplied by T^2: what it weighs
beside the loss of the true labels is then the same at every temperature.

Every function gives the divergence of each row, a sum over the vocabulary and no mean: who adds the
rows of the real tokens up divides by their number. (``kl_div(..., reduction="batchmean")`` over
(batch, seq, vocab) divides by the batch alone, and counts padding.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from tinylm.model.loss import at_least_float32

Divergence = Callable[[Tensor, Tensor, float], Tensor]
"""Gets the logits of the student and of the teacher, (rows, vocab), and the temperature."""


def forward_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(teacher || student): ``sum p (log p - log q)``, p the teacher's, q the
    student's.

    It asks the student for probability wherever the teacher has some (Hinton et al. 2015; word by
    word, Kim and Rush 2016, section 3.1).

    Args:
        student: logits, (rows, vocab); computed with in float32 at least.
        teacher: logits, (rows, vocab).
        temperature: T, above 0.

    Returns:
        (rows,), in nats times T^2.
    """
    log_q, log_p = _softened(student, temperature), _softened(teacher, temperature)
    return temperature**2 * _kl(log_p, log_q)


def reverse_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(student || teacher): ``sum q (log q - log p)``; as ``forward_kl`` otherwise.

    It asks the student for no probability where the teacher has none (Gu et al. 2024).
    """
    log_q, log_p = _softened(student, temperature), _softened(teacher, temperature)
    return temperature**2 * _kl(log_q, log_p)


def jensen_shannon(
    student: Tensor, teacher: Tensor, temperature: float = 1.0, beta: float = 0.5
) -> Tensor:
    """Return T^2 times the generalised Jensen-Shannon divergence; as ``forward_kl`` otherwise.

    ``beta KL(p || m) + (1 - beta) KL(q || m)`` with ``m = beta p + (1 - beta) q`` (Agarwal et al.
    2024, equation 1). Divided by beta it goes to KL(p || q) as beta goes to 0, and divided by
    1 - beta to KL(q || p) as beta goes to 1.

    Args:
        student: logits, (rows, vocab).
        teacher: logits, (rows, vocab).
        temperature: T, above 0.
        beta: share of the teacher in the mixture, above 0 and below 1.
    """
    log_q, log_p = _softened(student, temperature), _softened(teacher, temperature)
    log_m = (log_p + math.log(beta)).logaddexp(log_q + math.log1p(-beta))
    return temperature**2 * (beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m))


def _softened(logits: Tensor, temperature: float) -> Tensor:
    """Return log-probabilities, (rows, vocab), in float32 at least."""
    return (at_least_float32(logits) / temperature).log_softmax(-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p || q), (rows,), of log-probabilities; a type without probability adds 0."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
