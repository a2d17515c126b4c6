"""Beam search: the ``num_beams`` likeliest beginnings of a text are extended in parallel.

Lowerre 1976 (the HARPY system) for a decoder as in Wu et al. 2016, section 7. At every step the
``2 * num_beams`` best (hypothesis, token) pairs of a prompt are its candidates. One that ends in
``<eos>`` and is among the first ``num_beams`` is a finished hypothesis, with the score

    sum of log-probabilities / generated_length ** length_penalty

where generated_length counts the new tokens, ``<eos>`` included, and not the prompt. Wu et al.
(equation 14) divide by ((5 + length) / 6) ** length_penalty; the plain power is taken because
length_penalty 1 then is exactly the mean log-probability of a token, and because transformers takes
it. The best ``num_beams`` of the other candidates are extended; each hypothesis has one ``<eos>``,
so among twice as many candidates there are always enough. At the maximum length the running
hypotheses count as finished, though not by ``<eos>``.

Probabilities are the model's own, ``log_softmax`` in float32 at least: forbidden tokens are taken
out afterwards and the rest is not renormalised. The repetition penalty multiplies the
log-probabilities of seen tokens in what is ranked; temperature and filters do not apply.

Cost: a step reads ``num_beams`` rows a prompt, so it is ``num_beams`` times the arithmetic and
the cache of greedy decoding,

    num_layers * 2 * prompts * num_beams * num_heads * head_dim * capacity * bytes_per_number,

and chooses among ``num_beams * vocab`` pairs a prompt. The prompt itself is read once and then
spread. Hypotheses that branch copy only the tokens generated so far, at most ``prompts *
num_beams`` rows a step, and none where each hypothesis goes on by one. Prompts whose search has
ended leave the batch.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from tinylm.config import GenerationConfig
from tinylm.errors import ConfigError, GenerationError
from tinylm.generation import filters
from tinylm.generation.forbidden import forbid, forbidden_ids
from tinylm.generation.results import Generated, SpecialIds, slides
from tinylm.generation.stepper import Stepper
from tinylm.generation.strategies import Searcher
from tinylm.model.loss import at_least_float32

_LARGEST_EXPONENT = 700.0  # of e, that float64 holds


class _Candidate(NamedTuple):
    """A running hypothesis of a prompt and the token that it would go on with."""

    row: int
    """Which of the prompt's running hypotheses."""
    token: int
    total: float
    """Sum of log-probabilities, repetition penalty included; -inf keeps a row's place only."""
    log_probability: float
    """The sum under the model itself."""


class _Hypothesis(NamedTuple):
    """A finished text."""

    score: float
    ids: list[int]
    finished: bool
    log_probability: float


class BeamSearch(Searcher):
    """Finds likely whole texts rather than likely next tokens."""

    @staticmethod
    def uses(config: GenerationConfig) -> tuple[str, ...]:
        """Return the settings that have an effect."""
        own = ("num_beams", "length_penalty", "early_stopping", "num_return")
        return (*own, "repetition_penalty")

    def __init__(self, config: GenerationConfig) -> None:
        """Check the settings.

        Raises:
            ConfigError: if more hypotheses are to be returned than are kept, or no float64 holds
                the power of the length.
        """
        if config.num_return > config.num_beams:
            raise ConfigError(
                f"generation.num_return = {config.num_return} is more than generation.num_beams = "
                f"{config.num_beams}: return fewer hypotheses or keep more"
            )
        if abs(config.length_penalty) * math.log(config.max_new_tokens) > _LARGEST_EXPONENT:
            raise ConfigError(
                f"generation.length_penalty = {config.length_penalty} makes the power of "
                f"{config.max_new_tokens} tokens overflow: take a number nearer to 0"
            )
        self.config = config

    def search(self, stepper: Stepper, special: SpecialIds) -> list[Generated]:
        """Return the best hypothesis of each prompt; see ``Searcher.search``."""
        prompt_lengths = [len(row) for row in stepper.rows]
        complete: list[list[_Hypothesis]] = [[] for _ in prompt_lengths]  # best first
        open_prompts = list(range(len(prompt_lengths)))
        beams = _Beams(stepper, self.config, special)
        for length in range(1, self.config.max_new_tokens + 1):
            going_on: list[int] = []  # places in open_prompts
            running: list[list[_Candidate]] = []  # their hypotheses
            for place, candidates in enumerate(beams.candidates(length)):
                prompt = open_prompts[place]
                complete[prompt] += [
                    _Hypothesis(
                        score=self._score(candidate.total, length),
                        ids=[
                            *beams.text(place, candidate)[prompt_lengths[prompt] :],
                            *([candidate.token] if candidate.token != special.eos else []),
                        ],
                        finished=candidate.token == special.eos,
                        log_probability=candidate.log_probability,
                    )
                    for candidate in candidates[: self.config.num_beams]
                    if candidate.token == special.eos or length == self.config.max_new_tokens
                ]
                complete[prompt].sort(key=lambda candidate: candidate.score, reverse=True)
                del complete[prompt][self.config.num_beams :]
                rest = [candidate for candidate in candidates if candidate.token != special.eos]
                if rest and not self._is_done(complete[prompt], rest[0].total, length):
                    going_on.append(place)
                    running.append(rest[: self.config.num_beams])
            if not going_on or length == self.config.max_new_tokens:
                break
            open_prompts = [open_prompts[place] for place in going_on]
            beams.advance(going_on, running)
        context = stepper.model.config.context_length
        return [
            self._result(hypotheses, prompt_length, context)
            for hypotheses, prompt_length in zip(complete, prompt_lengths, strict=True)
        ]

    def _score(self, total: float, length: int) -> float:
        return total / math.pow(length, self.config.length_penalty)

    def _is_done(self, complete: list[_Hypothesis], best_running: float, length: int) -> bool:
        """Return whether a prompt's search ends, its running hypotheses being ``length`` long."""
        if len(complete) < self.config.num_beams:
            return False
        if self.config.early_stopping == "full":
            return True
        if self.config.early_stopping == "never" and self.config.length_penalty > 0:
            # Sums only fall, so the largest divisor bounds what any continuation can reach. With
            # a penalty of 0 or less, the present length does.
            length = self.config.max_new_tokens
        return self._score(best_running, length) <= complete[-1].score

    def _result(self, hypotheses: list[_Hypothesis], prompt_length: int, context: int) -> Generated:
        if not hypotheses:
            raise GenerationError("no token has a probability: the model's logits are not finite")
        best, *others = [
            Generated(
                ids=hypothesis.ids,
                finished=hypothesis.finished,
                log_probability=hypothesis.log_probability,
                slid=slides(prompt_length, len(hypothesis.ids), hypothesis.finished, context),
                score=hypothesis.score,
            )
            for hypothesis in hypotheses[: self.config.num_return]
        ]
        return replace(best, alternatives=tuple(others))


class _Beams:
    """The running hypotheses of all open prompts, ``width`` rows of the stepper each.

    A prompt with fewer hypotheses has rows whose total is -inf, which give no candidate.
    """

    def __init__(self, stepper: Stepper, config: GenerationConfig, special: SpecialIds) -> None:
        self._stepper = stepper
        self._config = config
        self._special = special
        vocab_size = stepper.model.config.resolved_vocab_size
        # The first step reads the prompts alone: equal rows would be equal candidates.
        self._width = 1
        self._totals = [[0.0] for _ in stepper.rows]
        self._log_probabilities = [[0.0] for _ in stepper.rows]
        beams = len(stepper.rows) * config.num_beams
        ranked = min(2 * config.num_beams, vocab_size)
        stepper.refuse_rows(beams, "generation.num_beams or the number of prompts", ranked)
        stepper.reserve(len(stepper.rows) * min(config.num_beams, vocab_size))
        self._seen = None
        if config.repetition_penalty != 1:
            self._seen = filters.seen_tokens(stepper.rows, vocab_size, stepper.device)

    def candidates(self, length: int) -> list[list[_Candidate]]:
        """Make a step and return each prompt's candidates of ``length`` new tokens, best first."""
        logits = self._stepper.logits()  # (prompts * width, vocab)
        # The best of a prompt are among the best of its rows, so only these are added up.
        most = min(2 * self._config.num_beams, logits.shape[-1])
        best_of_rows = self._best_of_rows(logits, most, length - 1)
        ids, values, gains = [part.tolist() for part in best_of_rows]
        of_prompts = []
        for prompt, (totals, own) in enumerate(
            zip(self._totals, self._log_probabilities, strict=True)
        ):
            first = prompt * self._width
            sums = [
                total + value
                for total, row in zip(totals, values[first : first + self._width], strict=True)
                for value in row
            ]
            best = sorted(range(len(sums)), key=sums.__getitem__, reverse=True)
            candidates = []
            for place in best[: 2 * self._config.num_beams]:
                if sums[place] > -math.inf:
                    row, rank = divmod(place, most)
                    gain = own[row] + gains[first + row][rank]
                    token = ids[first + row][rank]
                    candidates.append(_Candidate(row, token, sums[place], gain))
            of_prompts.append(candidates)
        return of_prompts

    def _best_of_rows(self, logits: Tensor, count: int, num_new: int) -> tuple[Tensor, ...]:
        """Return ids, what ranks them, and their log-probabilities, (rows, count) each."""
        if self._seen is None and self._stepper.compiled:
            from tinylm.fast.loops.choosing import likeliest

            never = forbidden_ids(logits.shape[-1], self._config, self._special, num_new)
            ids, log_probability = likeliest(logits, never, count)
            return ids, log_probability, log_probability
        log_probability = ranked = at_least_float32(logits).log_softmax(-1)
        if self._seen is not None:
            penalty = self._config.repetition_penalty
            ranked = filters.repetition_penalty(ranked, self._seen, penalty)
        ranked = forbid(ranked, self._config, self._special, num_new)
        ids = ranked.topk(count).indices
        return ids, ranked.gather(1, ids), log_probability.gather(1, ids)

    def text(self, place: int, candidate: _Candidate) -> list[int]:
        """Return the ids that a candidate of the prompt at this place goes on from."""
        return self._stepper.rows[place * self._width + candidate.row]

    def advance(self, places: list[int], running: list[list[_Candidate]]) -> None:
        """Extend these candidates of the prompts at these places; the others leave."""
        width = max(len(candidates) for candidates in running)
        settled = [_settle(candidates, width) for candidates in running]
        rows = [
            place * self._width + candidate.row
            for place, candidates in zip(places, settled, strict=True)
            for candidate in candidates
        ]
        tokens = [candidate.token for candidates in settled for candidate in candidates]
        self._stepper.keep(rows)
        self._stepper.append(tokens)
        self._width = width
        self._totals = [[candidate.total for candidate in candidates] for candidates in settled]
        self._log_probabilities = [
            [candidate.log_probability for candidate in candidates] for candidates in settled
        ]
        if self._seen is not None:
            self._seen = self._seen[rows]
            self._seen[range(len(rows)), tokens] = True


def _settle(candidates: list[_Candidate], width: int) -> list[_Candidate]:
    """Give each candidate a row, its own hypothesis' if that is free, so that little is copied.

    Rows that are left over get a copy whose total is -inf.
    """
    settled: dict[int, _Candidate] = {}
    movers = []
    for candidate in candidates:
        if candidate.row < width and candidate.row not in settled:
            settled[candidate.row] = candidate
        else:
            movers.append(candidate)
    dead = candidates[0]._replace(total=-math.inf)
    movers += [dead] * (width - len(candidates))
    free = [row for row in range(width) if row not in settled]
    settled.update(zip(free, movers, strict=True))
    return [settled[row] for row in range(width)]
