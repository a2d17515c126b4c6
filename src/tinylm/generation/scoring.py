"""Log-probabilities of given texts, also of texts longer than the context.

A long text is read in windows of ``context_length`` that overlap by half: every token is predicted
from all tokens before it while they fit, and from at least half a context afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.model.loss import at_least_float32
from tinylm.planning.limits import refuse_forward


@torch.no_grad()
def token_log_probabilities(
    model: GenerativeModel,
    texts: Sequence[Sequence[int]],
    batch_size: int = 32,
    given: Sequence[int] | None = None,
) -> list[list[float]]:
    """Return log p(token | tokens before it), in nats, of every token but each text's first.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        texts: token ids, each text beginning with what is given (``<sos>``).
        batch_size: windows in one forward pass.
        given: of each text, how many first tokens are given as a whole, which a model that reads a
            source reads as one; what is returned of these means nothing then. None: the first.

    Returns:
        One list a text, one number shorter than the text.

    Raises:
        ConfigError: if a batch needs more memory than there is.
    """
    context = model.config.context_length
    device = model.embedding.weight.device
    windows = [
        (i, start)
        for i, text in enumerate(texts)
        for start in _window_starts(len(text) - 1, context)
    ]
    if device.type == "cpu":
        rows = min(batch_size, len(windows))
        refuse_forward(model.config, rows, context, "evaluation.batch_size")
    # Windows of like length side by side, so that little is padded.
    windows.sort(key=lambda window: min(context, len(texts[window[0]]) - 1 - window[1]))
    scores = [[0.0] * max(0, len(text) - 1) for text in texts]
    with evaluating(model):
        for first in range(0, len(windows), batch_size):
            chosen = windows[first : first + batch_size]
            inputs = [list(texts[i][start : start + context]) for i, start in chosen]
            labels = [list(texts[i][start + 1 : start + context + 1]) for i, start in chosen]
            longest = max(len(row) for row in labels)
            ids = torch.tensor([(row + [0] * longest)[:longest] for row in inputs], device=device)
            targets = torch.tensor(
                [row + [0] * (longest - len(row)) for row in labels], device=device
            )
            sources = [max(1, (1 if given is None else given[i]) - start) for i, start in chosen]
            # Padding stands behind the text, so that no token before it sees it.
            logits = model(ids, given=torch.tensor(sources, device=device))
            log_probabilities = (
                at_least_float32(logits)
                .log_softmax(-1)
                .gather(-1, targets[:, :, None])[:, :, 0]
                .tolist()
            )
            for (i, start), row, values in zip(chosen, labels, log_probabilities, strict=True):
                # Only the second half of a later window is new.
                skipped = 0 if start == 0 else context - _stride(context)
                scores[i][start + skipped : start + len(row)] = values[skipped : len(row)]
    return scores


def _stride(context: int) -> int:
    return max(1, context // 2)


def _window_starts(num_predicted: int, context: int) -> list[int]:
    """Return where windows start so that every predicted token is covered."""
    if num_predicted <= 0:
        return []
    starts = [0]
    while starts[-1] + context < num_predicted:
        starts.append(starts[-1] + _stride(context))
    return starts
