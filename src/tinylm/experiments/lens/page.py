"""A reading of one text as a page: a table, no script, nothing that is loaded.

Words are a user's, a corpus's or a model's: each is escaped, and has no control characters.
"""

from __future__ import annotations

import html
import re
from importlib import resources

from tinylm.experiments.lens.reading import Cell, Reading, share
from tinylm.printable import in_line


def lens_html(reading: Reading, title: str, read: str) -> str:
    """Return the page.

    Args:
        reading: of a text.
        title: its heading.
        read: a sentence that says what is applied at each place.
    """
    rows = []
    for position, (word, following) in enumerate(
        zip(reading["words"], reading["next"], strict=True)
    ):
        below = "" if following is None else f"<small>→ {_escaped(following)}</small>"
        cells = "".join(_td(place[position]) for place in reading["cells"])
        rows.append(f'<tr><th scope="row">{_escaped(word)}{below}</th>{cells}</tr>')
    parts = {
        "TITLE": _escaped(title),
        "READ": _escaped(read),
        "HEAD": "".join(f'<th scope="col">{_escaped(place)}</th>' for place in reading["places"]),
        "ROWS": "\n".join(rows),
    }
    # One pass, so that a word that looks like a placeholder is left alone.
    page = resources.files("tinylm.experiments.lens").joinpath("page.html").read_text("utf-8")
    return re.sub("@@(TITLE|READ|HEAD|ROWS)@@", lambda match: parts[match[1]], page)


def _td(cell: Cell) -> str:
    word, probability = cell["top"][0]
    below = "" if cell["next"] is None else f"<small>{_next(cell['next'])}</small>"
    words = "<br>".join(
        f"<b>{_escaped(share(p))}</b>{_escaped(candidate)}" for candidate, p in cell["top"]
    )
    same = ' class="same"' if cell["agrees"] else ""
    return (
        f'<td{same} tabindex="0" style="--p:{probability:.3f}">{_escaped(word)} '
        f"{_escaped(share(probability))}{below}"
        f'<div class="more">{words}<br>divergence {cell["divergence"]:.3f} nats</div></td>'
    )


def _next(following: tuple[float, int]) -> str:
    probability, rank = following
    return f"#{rank:,} {_escaped(share(probability))}"


def _escaped(text: str) -> str:
    return html.escape(in_line(text))
