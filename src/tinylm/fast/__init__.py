"""The model's parts once more, quick: the same numbers to rounding, in less time.

``install`` puts quick parts on a model and ``remove`` takes them off (``forms``); ``for_decoding``
gives a copy for decoding that shares the parameters (``copies``). Nothing here is switched for the
whole process, and no reader of ``model`` need know it.
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
