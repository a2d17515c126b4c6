"""Numbers and enumerations as a reader wants them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ENDED = re.compile(r"(^|[.!?…][\"'”’)\]]*)\s*$")


def count(value: float) -> str:
    """Return a whole number with thousands separators: ``1,234,567``."""
    return f"{round(value):,}"


def millions(value: float) -> str:
    """Return a large number: ``999,999``, ``3.31 million`` or ``1.20 billion``."""
    if value >= 1e9:
        return f"{significant(value / 1e9)} billion"
    return f"{significant(value / 1e6)} million" if value >= 1e6 else count(value)


def significant(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, never in powers of ten above 0.0001.

    ``significant(0.01234) == "0.0123"``, ``significant(1234.5) == "1,234"``,
    ``significant(3e-5) == "3.00·10⁻⁵"``.
    """
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if exponent < -4:
        return f"{value / 10**exponent:.{digits - 1}f}·10{_superscript(exponent)}"
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def setting(value: float) -> str:
    """Return a setting without superfluous zeros: ``0.9``, ``3·10⁻⁴``, ``1``."""
    if value == 0:
        return "0"
    if abs(value) >= 1e-3:
        return f"{value:,.10g}" if abs(value) < 1e9 else f"{value:g}"
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10{_superscript(int(exponent))}"
    return power if mantissa == "1" else f"{mantissa}·{power}"


def percent(share: float, digits: int = 1) -> str:
    """Return a share of 1 in percent: ``12.3 %``, or ``< 0.1 %`` for what would round to 0."""
    value = 100 * share
    smallest: float = 10**-digits
    if 0 < abs(value) < smallest:
        beyond = "<\u2009" if value > 0 else ">\u2009−"
        return f"{beyond}{smallest:g}\u202f%"
    places = 0 if value in (0, 100) else digits
    return f"{value:.{places}f}\u202f%".replace("-", "−")


def head_name(layer: int, head: int) -> str:
    """Return the name of a head for a reader, who counts from 1: ``1.3`` for layer 0, head 2."""
    return f"{layer + 1}.{head + 1}"


def duration(seconds: float) -> str:
    """Return seconds as ``0.42 s``, ``12 s``, ``3 min 12 s`` or ``2 h 5 min``."""
    if seconds < 10:
        return f"{significant(seconds, 2)}\u00a0s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}\u00a0s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}\u00a0min {rest}\u00a0s" if rest else f"{minutes}\u00a0min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}\u00a0h {minutes}\u00a0min" if minutes else f"{hours}\u00a0h"


def with_sign(value: float, digits: int) -> str:
    """Return a number with its sign; 0 has none: ``+0.50``, ``−1,200.0``, ``0.00``."""
    text = f"{value:+,.{digits}f}".replace("-", "−")
    return text if float(f"{value:.{digits}f}") else text[1:]


def listed(items: Sequence[str], last: str = "and") -> str:
    """Return ``a, b and c``."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def excerpt(text: str, length: int) -> str:
    """Return a text on one line, with … where it is cut after a number of characters."""
    text = " ".join(text.split())
    return open_end(text if len(text) <= length else text[:length].rsplit(" ", 1)[0])


def open_end(text: str) -> str:
    """Return a text with … behind it if it stops in the middle of a sentence."""
    return text if _ENDED.search(text) else f"{text} …"


def plural(value: float, singular: str, many: str = "") -> str:
    """Return ``1 story``, ``2 stories``."""
    whole = round(value)
    return f"{whole:,} {singular if whole == 1 else many or singular + 's'}"


def keyed(rows: Iterable[Mapping[str, Any]], key: str) -> dict[Any, Mapping[str, Any]]:
    """Return rows of a result by a value that each has for itself.

    Raises:
        ValueError: if two rows have the same one, of which one would be lost.
    """
    by_value: dict[Any, Mapping[str, Any]] = {}
    for row in rows:
        if row[key] in by_value:
            raise ValueError(f"two rows with {key} = {row[key]!r}")
        by_value[row[key]] = row
    return by_value


def _superscript(value: int) -> str:
    return str(value).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
