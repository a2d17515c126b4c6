"""Numbers and enumerations as a reader wants them."""

from __future__ import annotations

import math

from tests.report.telling import Phrase
from tinylm.report.formatting import (
    count,
    duration,
    excerpt,
    keyed,
    listed,
    millions,
    open_end,
    percent,
    plural,
    setting,
    significant,
    with_sign,
)


def refused() -> str:
    """Two rows with one name: one would be lost."""
    try:
        keyed([{"name": "lora"}, {"name": "lora"}], "name")
    except ValueError as error:
        return str(error)
    return "not refused"


PHRASES = [
    Phrase("+0.50", lambda: with_sign(0.5, 2)),
    Phrase("−1,200.0", lambda: with_sign(-1200, 1)),
    Phrase("0.00", lambda: with_sign(-0.001, 2)),
    Phrase("1,234,567", lambda: count(1234567)),
    Phrase("999,999", lambda: millions(999_999)),
    Phrase("1.00 million", lambda: millions(1e6)),
    Phrase("1.00 billion", lambda: millions(1e9)),
    Phrase("0.0123", lambda: significant(0.012345)),
    Phrase("1,234", lambda: significant(1234.5)),
    Phrase("9.99", lambda: significant(9.994)),
    Phrase("10.0", lambda: significant(9.996)),
    Phrase("0.000100", lambda: significant(1e-4)),
    Phrase("9.99·10⁻⁵", lambda: significant(9.99e-5)),
    Phrase("0.000100", lambda: significant(9.999e-5)),
    Phrase("0", lambda: significant(0)),
    Phrase("nan", lambda: significant(math.nan)),
    Phrase("0", lambda: setting(0)),
    Phrase("0.001", lambda: setting(1e-3)),
    Phrase("3·10⁻⁴", lambda: setting(3e-4)),
    Phrase("10⁻⁸", lambda: setting(1e-8)),
    Phrase("0.9", lambda: setting(0.9)),
    Phrase("1e+09", lambda: setting(1e9)),
    Phrase("12.3\u202f%", lambda: percent(0.1234)),
    Phrase("0.1\u202f%", lambda: percent(0.001)),
    Phrase("<\u20090.1\u202f%", lambda: percent(0.0004)),
    Phrase("−12.3\u202f%", lambda: percent(-0.1234)),
    Phrase(">\u2009−0.1\u202f%", lambda: percent(-0.0004)),
    Phrase("0\u202f%", lambda: percent(0)),
    Phrase("100\u202f%", lambda: percent(1)),
    Phrase("4.2\u00a0s", lambda: duration(4.21)),
    Phrase("42\u00a0s", lambda: duration(42.1)),
    Phrase("1\u00a0min", lambda: duration(59.7)),
    Phrase("3\u00a0min 12\u00a0s", lambda: duration(192)),
    Phrase("59\u00a0min 59\u00a0s", lambda: duration(3_599)),
    Phrase("1\u00a0h", lambda: duration(3_600)),
    Phrase("2\u00a0h 6\u00a0min", lambda: duration(7530)),
    Phrase("", lambda: listed([])),
    Phrase("a", lambda: listed(["a"])),
    Phrase("a or b", lambda: listed(["a", "b"], "or")),
    Phrase("a, b and c", lambda: listed(["a", "b", "c"])),
    Phrase("0 stories", lambda: plural(0, "story", "stories")),
    Phrase("1 story", lambda: plural(1, "story", "stories")),
    Phrase("2 stories", lambda: plural(2, "story", "stories")),
    Phrase("1,000 tokens", lambda: plural(1_000, "token")),
    Phrase("A boy ran …", lambda: excerpt("A boy\n\nran home.", 10)),
    Phrase("A boy ran home.", lambda: excerpt(" A boy ran\nhome. ", 15)),
    Phrase("A boy ran …", lambda: excerpt("A boy ran", 15)),
    Phrase("“He ran!”", lambda: open_end("“He ran!”")),
    Phrase("He ran, …", lambda: open_end("He ran,")),
    Phrase("", lambda: open_end("")),
    Phrase("two rows with name = 'lora'", refused),
]
