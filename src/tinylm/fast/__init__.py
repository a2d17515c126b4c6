"""Quick forms of the model's parts: the same numbers to rounding, in less time.

``install`` puts quick parts on a model and ``remove`` takes them off (``forms``); ``for_decoding``
gives a copy for decoding that shares the parameters (``copies``). There is no process-wide switch,
and nothing in ``model`` refers to this package.
"""

from tinylm.fast.copies import for_decoding
from tinylm.fast.decoding import Numbers
from tinylm.fast.forms import DECODING, PLAIN, WHOLE, Form, install, is_quick, remove
from tinylm.fast.layers import in_turn_with_copies

__all__ = [
    "DECODING",
    "PLAIN",
    "WHOLE",
    "Form",
    "Numbers",
    "for_decoding",
    "in_turn_with_copies",
    "install",
    "is_quick",
    "remove",
]
