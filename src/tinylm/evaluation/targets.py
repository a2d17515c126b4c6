"""Pairs of a source and a target: whether a model writes the target, and how near it comes.

Exact match is over every pair that fits into the context, with the source as prompt
(``exact_match``). BLEU is that of greedy texts against whole targets: where a source fixes what is
to be written, the likeliest text is what is judged, and not one that is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinylm.config import EvaluationConfig, GenerationConfig
from tinylm.data.token_files import TokenFile
from tinylm.data.windows import PairRows
from tinylm.evaluation.bleu import bleu, bleu_result
from tinylm.evaluation.continuations import compared_texts, generate_in_batches, story_prompts
from tinylm.evaluation.exact_match import Question, exact_matches
from tinylm.generation.results import SpecialIds
from tinylm.measurement import mean_replicates
from tinylm.model.base import GenerativeModel
from tinylm.tokenizers.base import EOS_ID, PAD_ID, SOS_ID, UNK_ID, Tokenizer

_SPECIAL = SpecialIds(pad=PAD_ID, sos=SOS_ID, eos=EOS_ID, unk=UNK_ID)


def questions(tokens: TokenFile, context_length: int) -> list[Question]:
    """Return the pairs of a file that fit into a context, each as prompt and answer.

    Raises:
        DataError: if none fits.
    """
    assert tokens.pairs is not None
    asked = []
    for index in PairRows(tokens, context_length).texts:
        row, given = tokens.story(int(index)).tolist(), int(tokens.pairs[index, 0])
        asked.append(Question(row[:given], row[given:]))
    return asked


def measure_targets(
    model: GenerativeModel,
    tokenizer: Tokenizer,
    validation: TokenFile,
    config: EvaluationConfig,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Return exact match of all pairs, and BLEU of the greedy targets of some, as JSON values.

    Args:
        model: any mode; it is evaluated without dropout and put back.
        tokenizer: of the file.
        validation: pairs.
        config: says how many targets are written, of how many tokens at most.
        progress: called with the share of the writing that is done.

    Returns:
        ``pairs``, ``exact_match`` and its ``interval``; ``bleu`` with its signatures and its
        interval; ``max_new_tokens``; and ``texts``: each source with its greedy and true target,
        and whether they are ``equal`` to the end.

    Raises:
        DataError: if no pair fits into the context.
    """
    context_length = model.config.context_length
    right = exact_matches(model, questions(validation, context_length), _SPECIAL)
    prompts = story_prompts(validation, config, context_length)
    greedy = GenerationConfig(strategy="greedy", max_new_tokens=prompts.most)
    texts = prompts.continued(
        generate_in_batches(model, prompts.prompts, greedy, config.batch_size, progress)
    )
    hypotheses, references = compared_texts(tokenizer, texts)
    scores = bleu(hypotheses, references)
    exact = mean_replicates([float(each) for each in right])
    return {
        "pairs": len(right),
        "exact_match": exact.value,
        "interval": exact.interval.as_result(),
        "bleu": bleu_result(scores, hypotheses, references),
        "max_new_tokens": prompts.most,
        "texts": [
            {
                "source": tokenizer.decode(texts.prompts[i]),
                "generated": hypotheses[i],
                "true": references[i],
                "equal": texts.finished[i] and texts.generated[i] == texts.true[i],
            }
            for i in range(len(hypotheses))
        ],
    }
