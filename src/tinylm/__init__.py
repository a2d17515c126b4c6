"""Small decoder-only language models on one machine, from raw text to a finished report.

The names below are imported when first used, so that ``import tinylm`` costs nothing:
``tinylm.LanguageModel`` loads a run and generates, scores and saves.
"""

from typing import Any

from tinylm.native import cache_fewer_products, sleep_while_waiting

__version__ = "0.1.0"
__all__ = ["LanguageModel", "RunConfig", "TinylmError", "__version__", "load_config"]

_LAZY = {
    "LanguageModel": "tinylm.language_model",
    "RunConfig": "tinylm.config",
    "load_config": "tinylm.config",
    "TinylmError": "tinylm.errors",
}


sleep_while_waiting()  # both before anything loads torch
cache_fewer_products()


def __dir__() -> list[str]:
    """Return the public names, those that are not imported yet among them."""
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'tinylm' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
