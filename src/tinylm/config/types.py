"""The number formats and checks that the settings are declared with."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from tinylm import registry
from tinylm.errors import ConfigError

FROZEN = ConfigDict(extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _number(value: Any) -> Any:
    """Refuse true and false, which Python counts as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("expected a number, not true or false")
    return value


Int = Annotated[int, BeforeValidator(_number)]
Float = Annotated[float, BeforeValidator(_number)]
PositiveInt = Annotated[Int, Field(ge=1)]
NonNegativeInt = Annotated[Int, Field(ge=0)]
PositiveFloat = Annotated[Float, Field(gt=0)]
NonNegativeFloat = Annotated[Float, Field(ge=0)]
Fraction = Annotated[Float, Field(ge=0, lt=1)]


def one_of(table: registry.Registry) -> AfterValidator:
    """Accept only names of ``table``."""

    def check(name: str) -> str:
        try:
            return table.check(name)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(check)
