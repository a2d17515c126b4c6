"""Interactive pages: one HTML file that holds its data, style and script, and loads nothing.

Words come from a corpus or a user and are data: they reach a page through JSON whose ``<``, ``>``
and ``&`` are escaped, and the page writes them with ``textContent`` only, so none can close the
script or become markup.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from tinylm.printable import in_line, printable


def assembled(package: str, title: str, data: Mapping[str, object]) -> str:
    """Return the page whose parts lie in a package: ``page.html``, ``page.css``, ``*.js``.

    Args:
        package: such as ``tinylm.experiments.attention``; style and script may be in page.html,
            where ``@@SHARED@@`` stands for the script of this folder that all pages have, and
            ``@@SCRIPT@@`` for the package's own ones in the order of their names.
        title: of the page, any text.
        data: JSON values, any text in them.

    Raises:
        ValueError: if a number is not finite.
    """
    folder = resources.files(package)
    parts = {"TITLE": html.escape(printable(title)), "DATA": script_json(_shown(data))}
    parts["SHARED"] = resources.files(__package__).joinpath("pages.js").read_text("utf-8")
    for name, ending in (("STYLE", ".css"), ("SCRIPT", ".js")):
        files = sorted((f for f in folder.iterdir() if f.name.endswith(ending)), key=_name)
        parts[name] = "".join(file.read_text("utf-8") for file in files)
    # One pass, so that a title or word that looks like a placeholder is left alone.
    page = folder.joinpath("page.html").read_text("utf-8")
    return re.sub(f"@@({'|'.join(parts)})@@", lambda match: parts[match[1]], page)


def _name(file: Traversable) -> str:
    return file.name


def _shown(value: object) -> object:
    """Return values as they were, but every text in them without control characters."""
    if isinstance(value, str):
        return in_line(value)
    if isinstance(value, Mapping):
        return {key: _shown(item) for key, item in value.items()}
    return [_shown(item) for item in value] if isinstance(value, (list, tuple)) else value


def script_json(data: object) -> str:
    """Return JSON that means the same inside <script>, whatever its strings hold.

    Raises:
        ValueError: if a number is not finite.
    """
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
