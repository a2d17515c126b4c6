"""Tasks as plain text: a prompt, and the answer that follows from it, one family a file.

``TASKS`` names them. A task is a function of random draws and of which facts are withheld; it gives
an item, or None where what was drawn cannot be had in this split, so that it is drawn again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tinylm.data.corpora.skill_grammar import (
    arithmetic,
    copying,
    holders,
    rules,
    summaries,
    translation,
)
from tinylm.data.corpora.skill_grammar.items import Draw, Facts, Item

__all__ = ["TASKS", "Draw", "Facts", "Item"]

TASKS: Final[dict[str, Callable[[Draw, Facts], Item | None]]] = {
    "translation": translation.make,
    "summary": summaries.make,
    "holder": holders.make,
    "rules": rules.make,
    "rules-chain": rules.make_with_chain,
    "copy": copying.make,
    "sum": arithmetic.make,
}
"""Name -> what makes an item; the order of tables and figures."""
