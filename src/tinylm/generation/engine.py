"""From prompts to texts: the loop over the steps of a chooser, and the call of a searcher.

Prompts may differ in length and outgrow the model's context (``stepper``); the result says whether
the beginning of a text was no longer seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import torch

from tinylm.config import GenerationConfig
from tinylm.errors import GenerationError
from tinylm.fast import Numbers, for_decoding
from tinylm.generation import filters
from tinylm.generation.forbidden import forbid, forbidden_ids
from tinylm.generation.results import Generated, SpecialIds, slides
from tinylm.generation.stepper import Stepper
from tinylm.generation.strategies import Chooser
from tinylm.generation.streams import equal_before, streams_of
from tinylm.model.base import GenerativeModel
from tinylm.model.decoder import evaluating
from tinylm.model.hooks import NO_HOOKS, Hooks
from tinylm.model.loss import at_least_float32
from tinylm.registry import MODELS, STRATEGIES

__all__ = ["Generated", "SpecialIds", "Stepper", "generate", "generate_steps"]

_NUMBERS: dict[str, Numbers] = {
    "packed": "float32",
    "packed-bf16": "bfloat16",
    "packed-int8": "int8",
}
Steps = Generator[list[tuple[int, int]], None, list[Generated]]


def generate(
    model: GenerativeModel,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    special: SpecialIds,
    use_cache: bool = True,
    numbers: Sequence[int] | None = None,
    progress: Callable[[int], None] = lambda steps: None,
    hooks: Hooks = NO_HOOKS,
) -> list[Generated]:
    """Continue every prompt until ``<eos>`` or the maximum length.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        prompts: token ids, framing ``<sos>`` included; none may be empty.
        config: the strategy and its settings.
        special: ``<pad>`` and ``<sos>`` are never generated, ``<unk>`` only if allowed.
        use_cache: false reads the whole window at every step (the slow, plain way).
        numbers: of each prompt, how many equal prompts come before it; empty: in this batch. A
            text is drawn by the seed, its prompt and this number, so that it is the same alone and
            in any batch.
        progress: called after every step with the number of steps so far, at most
            ``max_new_tokens``.
        hooks: see and replace the activations of the tokens that each step reads.

    Returns:
        One result a prompt, in order.

    Raises:
        ConfigError: if the strategy's settings contradict each other.
        GenerationError: if there is no prompt or an empty one, or no token may be generated.
    """
    steps = generate_steps(model, prompts, config, special, use_cache, numbers, progress, hooks)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            results: list[Generated] = end.value
            return results


def generate_steps(
    model: GenerativeModel,
    prompts: Sequence[Sequence[int]],
    config: GenerationConfig,
    special: SpecialIds,
    use_cache: bool = True,
    numbers: Sequence[int] | None = None,
    progress: Callable[[int], None] = lambda steps: None,
    hooks: Hooks = NO_HOOKS,
) -> Steps:
    """Generate step by step, for streaming: yields each step's new ``(prompt, id)`` pairs.

    Arguments, result and errors are those of ``generate``; ``<eos>`` is not yielded. A searcher
    has no token before it ends, so it yields all steps then.
    """
    if not prompts or any(len(prompt) == 0 for prompt in prompts):
        raise GenerationError("every prompt needs at least one token; begin with <sos>")
    strategy = STRATEGIES.load(config.strategy)(config)
    search = getattr(strategy, "search", None)
    with evaluating(model):
        used = _laid_out(model, config, use_cache)
        stepper = Stepper(used, prompts, special.pad, use_cache, progress, hooks)
        if search is None:
            streams = streams_of(prompts, equal_before(prompts) if numbers is None else numbers)
            return (yield from _choose_steps(stepper, strategy, config, special, streams))
        results: list[Generated] = search(stepper, special)
    for step in range(max(len(result.ids) for result in results)):
        yield [(i, result.ids[step]) for i, result in enumerate(results) if step < len(result.ids)]
    return results


def _laid_out(model: GenerativeModel, config: GenerationConfig, use_cache: bool) -> GenerativeModel:
    """Return the model with its linear maps in the configured form."""
    whole = not use_cache or MODELS.load(model.config.kind).rereads
    if config.linear not in _NUMBERS or (config.linear == "packed" and whole):
        # Where all is read again every step has a number of rows that no step had before. oneDNN
        # gains nothing on so many rows, and caches a primitive for each number of rows: 3 GB after
        # 256 steps of a model of 6.5 million weights.
        return model
    return for_decoding(model, _NUMBERS[config.linear])


def _choose_steps(
    stepper: Stepper,
    chooser: Chooser,
    config: GenerationConfig,
    special: SpecialIds,
    streams: Sequence[int],
) -> Steps:
    """Let a chooser continue each prompt token by token."""
    lengths = [len(prompt) for prompt in stepper.rows]
    context = stepper.model.config.context_length
    own = torch.tensor(streams, device=stepper.device)  # (prompts,)
    seen = None
    if config.repetition_penalty != 1:  # only the penalty needs it
        vocab_size = stepper.model.config.resolved_vocab_size
        seen = filters.seen_tokens(stepper.rows, vocab_size, stepper.device)
    # Where nothing but a temperature decides, one compiled loop computes token and probability.
    temperature = chooser.temperature_alone if stepper.compiled else None
    if temperature is not None:
        from tinylm.fast.loops import choosing
    new: list[list[int]] = [[] for _ in lengths]
    finished = [False] * len(lengths)
    log_probability = [0.0] * len(lengths)
    active = list(range(len(lengths)))  # prompts still growing; row r of the stepper is active[r]

    for step in range(config.max_new_tokens):
        logits = stepper.logits()  # (active, vocab)
        if temperature is not None:
            never = forbidden_ids(logits.shape[-1], config, special, step)
            if temperature == 0:
                best, of_best = choosing.likeliest(logits, never, 1)
                chosen, log_probabilities = best[:, 0], of_best[:, 0]
            else:
                uniform = chooser.uniform(own[torch.tensor(active)])
                chosen, log_probabilities = choosing.drawn(logits, never, uniform, temperature)
        else:
            logits = at_least_float32(logits)
            _refuse_not_finite([float(logits.sum())])
            rows = torch.tensor(active, device=stepper.device)
            allowed = forbid(logits, config, special, step)
            seen_rows = None if seen is None else seen[rows]
            chosen = chooser.choose(allowed, seen_rows, own[rows])  # (active,)
            if seen is not None:
                seen[rows, chosen] = True
            log_probabilities = logits.log_softmax(-1).gather(-1, chosen[:, None])[:, 0]
        gained, tokens = log_probabilities.tolist(), chosen.tolist()
        _refuse_not_finite(gained)
        going_on = []
        for r, i in enumerate(active):
            log_probability[i] += gained[r]
            if tokens[r] == special.eos:
                finished[i] = True
            else:
                new[i].append(tokens[r])
                going_on.append(r)
        yield [(active[r], tokens[r]) for r in going_on]
        if not going_on:
            break
        stepper.append(tokens)
        if len(going_on) < len(active):
            stepper.keep(going_on)
            active = [active[r] for r in going_on]

    return [
        Generated(
            ids=new[i],
            finished=finished[i],
            log_probability=log_probability[i],
            slid=slides(length, len(new[i]), finished[i], context),
        )
        for i, length in enumerate(lengths)
    ]


def _refuse_not_finite(numbers: Sequence[float]) -> None:
    """Refuse to choose by numbers that are not all finite.

    Raises:
        GenerationError: if one is not.
    """
    if not all(map(math.isfinite, numbers)):
        raise GenerationError(
            "the model's logits are not finite: its weights are damaged, or an adapter's are"
        )
