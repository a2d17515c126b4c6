"""Values read from a file are checked against a type; the messages of a misfit are our own.

The checks are pydantic's. Its wording is made for programmers (``Input should be a valid tuple``),
so each kind of problem is worded here as what the file must hold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tinylm.errors import DataError, TinylmError, key_shown, shown

Shape = TypeVar("Shape")
Refuse = Callable[[str], TinylmError]
"""Makes the error of a problem, with the place before it and the advice behind it."""


def refusal(place: object, error: type[TinylmError] = DataError, advice: str = "") -> Refuse:
    """Return what makes the errors of one place.

    Args:
        place: a file, and a line in it.
        error: the class.
        advice: what to do; it ends the message.
    """
    return lambda problem: error(f"{place}: {problem}" + (f"; {advice}" if advice else ""))


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def checked(kind: type[Shape], value: Any, refuse: Refuse) -> Shape:
    """Return a value if it has exactly the type; nothing is converted.

    Args:
        kind: a type, with the types of its keys and items: ``dict[str, str]``, or a TypedDict.
        value: as JSON gives it.
        refuse: makes the error.

    Raises:
        TinylmError: ``refuse``'s, naming the first key that does not fit and what belongs there.
    """
    try:
        result: Shape = _adapter(kind).validate_python(value, strict=True)  # type: ignore[arg-type]
    except ValidationError as error:
        raise refuse(problem(error)) from None
    return result


def problem(error: ValidationError) -> str:
    """Return the first problem in words: the key, what stands there and what belongs there."""
    details = error.errors(include_url=False)[0]
    place = ".".join(path_of(details))
    if details["type"] == "missing":
        return f"{key_shown(place)} is missing"
    if is_unknown_key(details):
        return f"unknown key {key_shown(place)}"
    held = f"{key_shown(place)} =" if place else "holds"
    return f"{held} {shown(details['input'])}: {wording(details)}"


def path_of(details: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the keys that lead to the value of a problem of pydantic's."""
    return tuple(str(part) for part in details["loc"] if not str(part).startswith("dataclass"))


def is_unknown_key(details: Mapping[str, Any]) -> bool:
    """Return whether a problem of pydantic's is a key that does not exist."""
    return details["type"] in ("unexpected_keyword_argument", "extra_forbidden", "invalid_key")


def wording(details: Mapping[str, Any]) -> str:
    """Return what belongs in the place of a value, from a problem of pydantic's."""
    kind, context = details["type"], details.get("ctx", {})
    for name, words in _BOUNDS.items():
        if kind == name:
            return f"must be {words} {context[_BOUND_KEYS[name]]}"
    if kind == "literal_error":
        names = str(context["expected"]).replace("'", "")
        return f"expected {names.replace('True', 'true').replace('False', 'false')}"
    if kind == "tuple_type" and isinstance(details["input"], str):
        return f"expected a list, such as [{key_shown(details['input'])}]"
    if kind == "string_type":
        if isinstance(details["input"], (str, int, float, bool, type(None))):
            return "expected text; a number or a word such as null stands in quotes to be text"
        return "expected text"
    if kind in ("too_short", "too_long"):
        least = context.get("min_length", context.get("max_length"))
        few = "at least" if kind == "too_short" else "at most"
        return f"expected {few} {least} {'entry' if least == 1 else 'entries'}"
    for start, words in _EXPECTED.items():
        if kind.startswith(start):
            return f"expected {words}"
    message = str(details["msg"]).removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"


_EXPECTED = {
    "int_": "a whole number",
    "float_": "a number",
    "finite_number": "a finite number",
    "bool_": "true or false",
    "tuple_type": "a list, such as [a, b]",
    "list_type": "a list, such as [a, b]",
    "dict_type": "keys with values",
    "dataclass_": "keys with values",
    "none_required": "nothing",
}
_BOUNDS = {
    "greater_than": "greater than",
    "greater_than_equal": "at least",
    "less_than": "less than",
    "less_than_equal": "at most",
}
_BOUND_KEYS = {
    "greater_than": "gt",
    "greater_than_equal": "ge",
    "less_than": "lt",
    "less_than_equal": "le",
}
