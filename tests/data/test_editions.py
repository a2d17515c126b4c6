"""The embedded corpora are called by the texts that they hold, not by how their sources look."""

import hashlib
import itertools
from pathlib import Path

import pytest

from tinylm.config import DataConfig
from tinylm.data.corpora import editions, open_corpus

TEXTS = {
    "stories": ("5d961e7d01", "71b517f4843ed9399922b484cad7a4e8d9c22d063bc838b46cf62a416c8144ac"),
    "letters": ("b0cf9606c3", "2b386f9e24c7bcd610dfab77c33237b92c01e47794b417214d76bdde63c41b26"),
    "skills": ("c2c405b496", "15d4f320c56f0801b21eb0e747270d4770ece938747acb6bf8899453ad12fc2d"),
}
"""Edition, and SHA-256 of the first 200 texts of both splits. Who changes texts writes both anew;
who changes names or comments alone adds the new digest of the sources to ``SAME_TEXTS``."""


@pytest.mark.parametrize("name", TEXTS)
def test_the_same_texts_have_the_same_name(name: str) -> None:
    corpus = open_corpus(DataConfig(corpus=name))
    digest = hashlib.sha256()
    for split in (corpus.train(), corpus.validation()):
        for text in itertools.islice(split, 200):
            digest.update(text.encode() + b"\0")
    assert (corpus.fingerprint().split("-")[1], digest.hexdigest()) == TEXTS[name]


def test_an_edit_renames_the_texts_unless_they_are_said_to_be_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(editions, "__file__", str(tmp_path / "editions.py"))
    source = tmp_path / "grammar.py"
    names = []
    for content in ("words = 1\n", "words = 2\n"):
        source.write_text(content)
        names.append(editions.edition([source]))
    assert names[0] != names[1]
    monkeypatch.setitem(editions.SAME_TEXTS, names[1], names[0])
    assert editions.edition([source]) == names[0]
