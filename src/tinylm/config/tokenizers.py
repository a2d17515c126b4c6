"""The settings of the tokenizers: each keeps its own, and ``kind`` says which are meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from tinylm.registry import TOKENIZERS


def settings_of(kind: object) -> Any:
    """Return the dataclass of a tokenizer's settings; of the default one for an unknown name."""
    return TOKENIZERS.load(_known(kind)).Settings


def _known(kind: object) -> str:
    # A wrong name is then refused by the field ``kind``, which says what there is.
    return kind if isinstance(kind, str) and kind in TOKENIZERS else next(iter(TOKENIZERS))


def _kind_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return _known(value.get("kind"))
    return _known(getattr(value, "kind", None))


class _OfKind:
    """Checks a section by the settings of the tokenizer that it names."""

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {kind: handler.generate_schema(settings_of(kind)) for kind in TOKENIZERS}
        return core_schema.tagged_union_schema(choices, _kind_of)


DEFAULT_TOKENIZER: Any = settings_of(None)()

if TYPE_CHECKING:
    TokenizerConfig = Any
else:
    TokenizerConfig = Annotated[Any, _OfKind()]
