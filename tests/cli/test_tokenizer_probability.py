"""``tinylm tokenizer probability``: what it prints is what the sum over segmentations is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tinylm.config import ModelConfig
from tinylm.evaluation.segmentations import text_probability
from tinylm.language_model import LanguageModel
from tinylm.model.base import build
from tinylm.tokenizers.bpe import BPESettings, BPETokenizer

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["The dog ran home and the cat ran after the dog."] * 9
    tokenizer = BPETokenizer.train(texts, BPESettings(vocab_size=290))
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_size": 8, "context_length": 16}
    model = build(ModelConfig(vocab_size=tokenizer.vocab_size, **sizes))
    return LanguageModel(model, tokenizer).save(tmp_path_factory.mktemp("pieces"))


def test_json_holds_what_the_function_returns(tinylm: Command, pieces: Path) -> None:
    lm = LanguageModel.load(pieces)
    for flags, ended in (((), True), (("--begins",), False)):
        status, out, err = tinylm("tokenizer", "probability", pieces, "The dog", "--json", *flags)
        assert status == 0, err
        printed = json.loads(out)
        expected = text_probability(lm.model, lm.tokenizer, "The dog", ended)
        assert printed["log_probability"] == pytest.approx(expected.total)
        assert printed["canonical"]["log_probability"] == pytest.approx(expected.usual)
        assert printed["missed_bits"] == pytest.approx(expected.missed_bits)
        assert printed["segmentations"] == len(expected.paths)
        assert len(printed["likeliest"]) == 5
        assert printed["bytes"] == 7
        if ended:
            score = lm.score("The dog").log_probability
            assert printed["canonical"]["log_probability"] == pytest.approx(score, abs=1e-4)


def test_it_says_how_much_the_usual_number_misses(tinylm: Command, pieces: Path) -> None:
    lm = LanguageModel.load(pieces)
    result = text_probability(lm.model, lm.tokenizer, "The dog")
    status, out, err = tinylm("tokenizer", "probability", pieces, "The dog", "--show", "9999")
    assert status == 0, err
    first, second, third, *rows = out.splitlines()
    assert first == f"all {len(result.paths)} segmentations  {-result.total / math.log(2):.4f} bits"
    assert f"{-result.usual / math.log(2):.4f} bits" in second
    assert third == f"missed by it  {result.missed_bits:.4f} bits"
    assert len(rows) == len(result.paths)
    assert sum(row.endswith("(canonical)") for row in rows) == 1
    assert sum(float(row.split()[0]) for row in rows) == pytest.approx(100, abs=0.01 * len(rows))


def test_what_cannot_be_summed_is_refused_in_a_line(
    tinylm: Command, pieces: Path, tiny_run: Path
) -> None:
    status, out, err = tinylm("tokenizer", "probability", pieces, "The dog ran", "--most", "10")
    assert (status, out) == (1, "")
    assert "segmentations" in err
    assert "give a shorter text" in err
    assert len(err.splitlines()) == 1
    status, out, err = tinylm("tokenizer", "probability", tiny_run, "The dog ran")
    assert (status, out) == (1, "")
    assert "a tokenizer of words has no segmentations to sum over" in err
    assert "tokenizer.kind=bpe" in err
