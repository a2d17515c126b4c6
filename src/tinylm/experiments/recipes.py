"""Whether a folder was made by the recipe that is asked for now.

Settings that a newer version has added are not in an older folder. They had no other value then
than the one that is now the default, so that is what they count as.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def difference(
    before: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
) -> str | None:
    """Say where two recipes differ first, in the order of the present one.

    Args:
        before: as it was written down.
        now: as it would be written down.
        defaults: what keys that ``before`` lacks count as, in the same form.

    Returns:
        Such as ``settings.rank (8, now 2)``, or None if they are the same.
    """
    before, now, defaults = (json.loads(json.dumps(one)) for one in (before, now, defaults))
    for key in (*now, *(key for key in before if key not in now)):
        if key not in now:
            return f"{key} ({_shown(before[key])}, which is no longer known)"
        old = before.get(key, defaults.get(key))
        if isinstance(old, dict) and isinstance(now[key], dict):
            inner = difference(old, now[key], defaults.get(key) or {})
            if inner is not None:
                return f"{key}.{inner}"
        elif old != now[key]:
            return f"{key} ({_shown(old)}, now {_shown(now[key])})"
    return None


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False).strip('"')
