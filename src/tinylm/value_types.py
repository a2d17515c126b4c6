"""The number formats and checks that the settings are declared with."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from tinylm import registry
from tinylm.errors import ConfigError
from tinylm.reading import plain_word

FROZEN = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


Precision = Literal["fp32", "bf16"]
"""Number format of matrix products."""

_ODD = re.compile(r"[-+]?[0-9][0-9_]{0,30}")
_LARGEST = 2**63 - 1


def _number(value: Any) -> Any:
    """Refuse true and false, which Python counts as 1 and 0, and numbers that can be misread."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    if isinstance(value, str):
        word = plain_word(value.strip())
        if isinstance(word, str) and _ODD.fullmatch(word):
            digits = word.replace("_", "")
            whole = digits.lstrip("-+0") or "0"
            how = "without _" if "_" in word else "without a zero in front"
            raise ValueError(f"a number is written {how}: {'-' * (word[0] == '-')}{whole}")
        if isinstance(word, (int, float)) and not isinstance(word, bool):
            return word
    return value


Int = Annotated[int, BeforeValidator(_number), Field(le=_LARGEST)]
Float = Annotated[float, BeforeValidator(_number)]
PositiveInt = Annotated[Int, Field(ge=1)]
NonNegativeInt = Annotated[Int, Field(ge=0)]
PositiveFloat = Annotated[Float, Field(gt=0)]
NonNegativeFloat = Annotated[Float, Field(ge=0)]
Fraction = Annotated[Float, Field(ge=0, lt=1)]
Sizes = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


def one_of(table: registry.Registry) -> AfterValidator:
    """Accept only names of ``table``."""

    def check(name: str) -> str:
        try:
            return table.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(check)
