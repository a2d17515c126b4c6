"""Log-probabilities of responses, with a gradient, and samples of a model.

Sampling and scoring use one distribution: the softmax, over a temperature, of the logits of all
tokens but ``<pad>`` and ``<sos>``, which no response can hold. The probabilities of all responses
thus sum to 1, and no estimate is off by the share of what is never drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tinylm.alignment.rows import by_rows
from tinylm.alignment.samples import Sample
from tinylm.config import GenerationConfig, ModelConfig
from tinylm.data.windows import IGNORED, Batch, story_rows
from tinylm.evaluation.continuations import generate_in_batches
from tinylm.generation.engine import SpecialIds
from tinylm.generation.filters import REMOVED
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.model.loss import at_least_float32
from tinylm.planning.memory import kv_bytes
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID

NEVER = (PAD_ID, SOS_ID)
"""What is never drawn."""
_NUMBERS = 2**20
"""Of logits held at once: 4 MiB in float32."""
_MOST_ROWS, _MOST_CACHE = 256, 1 << 29
"""Texts that are written beside each other at most, and the bytes of their keys and values."""
ROWS = 32
"""Texts that are read at once."""
Text = tuple[tuple[int, ...], tuple[int, ...]]
"""A prompt, ``<sos>`` first, and a response to it."""
SPECIAL = SpecialIds(pad=PAD_ID, sos=SOS_ID, eos=EOS_ID, unk=UNK_ID)


def text_rows(texts: Sequence[Text]) -> Batch:
    """Return texts as padded rows whose labels are the responses, (texts, longest - 1)."""
    return story_rows([[*a, *b] for a, b in texts], [len(prompt) for prompt, _ in texts])


def response_rows(samples: Sequence[Sample]) -> Batch:
    """Return samples as rows; see ``text_rows``."""
    return text_rows([(sample.prompt, sample.response) for sample in samples])


def token_log_probabilities(
    model: GenerativeModel,
    batch: Batch,
    temperature: float = 1.0,
    never: Sequence[int] = NEVER,
) -> Tensor:
    """Return log p(label) of every label that counts, in nats, and 0 elsewhere.

    Args:
        model: gets a gradient where gradients are computed.
        batch: inputs, labels and what is padding, (rows, seq).
        temperature: that the logits are divided by.
        never: ids that are never drawn, so that their probability is 0.

    Returns:
        (rows, seq), in float32 at least.
    """
    counted = batch.labels != IGNORED  # (rows, seq)
    x = model.read(batch)  # (rows, seq, hidden)
    return at_labels(of_labels(model, x[counted], batch.labels[counted], temperature, never), batch)


def of_labels(
    model: GenerativeModel,
    x: Tensor,
    labels: Tensor,
    temperature: float = 1.0,
    never: Sequence[int] = NEVER,
) -> Tensor:
    """Return log p(label) of labels, (targets,), in float32 at least.

    Args:
        model: whose unembedding it is.
        x: of the residual stream, what stands before each label, (targets, hidden).
        labels: (targets,), int64.
        temperature: that the logits are divided by.
        never: ids that are never drawn.
    """
    parameters = [p for p in model.unembedding.parameters() if p.requires_grad]

    def of_rows(rows: Tensor, part: slice) -> Tensor:
        logits = at_least_float32(model.unembed(rows))  # (rows, vocab)
        if never:
            logits = logits.index_fill_(-1, torch.tensor(never, device=logits.device), REMOVED)
        if temperature != 1:
            logits = logits / temperature
        return logits.log_softmax(-1).gather(-1, labels[part, None])[:, 0]

    return by_rows(of_rows, x, parameters, max(64, _NUMBERS // model.config.resolved_vocab_size))


def at_labels(numbers: Tensor, batch: Batch) -> Tensor:
    """Put numbers of labels, (targets,), to their places, (rows, seq), with 0 elsewhere."""
    counted = batch.labels != IGNORED
    return numbers.new_zeros(counted.shape).masked_scatter(counted, numbers)


@torch.no_grad()
def summed_log_probabilities(
    model: GenerativeModel,
    texts: Sequence[Text],
    temperature: float = 1.0,
    rows: int = ROWS,
    progress: Callable[[float], None] = lambda texts: None,
) -> Tensor:
    """Return the log-probability of each response, in nats, (texts,), in float64, on the CPU.

    Texts of a length are read together, so that little is computed for padding.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        texts: prompts and responses.
        temperature: of the distribution.
        rows: texts that are read at once.
        progress: called with the number of texts that are read.
    """
    device = model.embedding.weight.device
    order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
    sums = torch.zeros(len(texts), dtype=torch.float64)
    with evaluating(model):
        for first in range(0, len(order), rows):
            places = order[first : first + rows]
            batch = text_rows([texts[i] for i in places]).to(device)
            logs = token_log_probabilities(model, batch, temperature)
            sums[places] = logs.double().sum(1).cpu()
            progress(first + len(places))
    return sums


def sample_responses(
    model: GenerativeModel,
    prompts: Sequence[Sequence[int]],
    most: int,
    seed: int,
    temperature: float = 1.0,
    progress: Callable[[float], None] = lambda responses: None,
) -> list[Sample]:
    """Draw a response to every prompt; equal prompts get different ones.

    As many as fit are drawn beside each other: 256 take half the time of eight times 32.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        prompts: token ids, ``<sos>`` first.
        most: new tokens; a response that has not ended by then is cut off.
        seed: the same one, model and prompts give the same responses.
        temperature: of the distribution.
        progress: called with the number of responses that are drawn.
    """
    config = GenerationConfig(
        strategy="sampling",
        max_new_tokens=most,
        temperature=temperature,
        top_p=1.0,
        allow_unk=True,
        seed=seed,
    )
    size = _rows_at_once(model.config)
    texts = generate_in_batches(
        *(model, [list(prompt) for prompt in prompts], config, size),
        lambda share: progress(share * len(prompts)),
    )
    return [
        Sample(tuple(prompt), tuple(text.ids), text.finished)
        for prompt, text in zip(prompts, texts, strict=True)
    ]


def _rows_at_once(config: ModelConfig) -> int:
    """Return how many texts are written beside each other, as many as their cache allows."""
    return max(1, min(_MOST_ROWS, _MOST_CACHE // kv_bytes(config, 1, config.context_length)))
