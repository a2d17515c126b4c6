"""The code that a run was made with, as files that can be installed again."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import tinylm
from tinylm.errors import ConfigError

_PROJECT = ("pyproject.toml", "requirements.lock", "Makefile", "LICENSE")
"""What stands beside ``src`` where tinylm was installed from its sources, as far as it does."""


def code_files() -> dict[str, bytes]:
    """Return this package's own files and those of its project, by their place in the zip.

    Where it was installed without its project, a ``pyproject.toml`` is made of what the
    installation's metadata say.

    Raises:
        ConfigError: if it is not installed, and its dependencies are not known.
    """
    package = Path(tinylm.__file__).parent
    files = {
        f"src/tinylm/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in package.rglob("*")
        if path.is_file() and not _is_left_behind(path.relative_to(package))
    }
    project = package.parents[1]
    if package.parent.name == "src" and _is_ours(project / "pyproject.toml"):
        beside = [project / name for name in _PROJECT]
        return files | {path.name: path.read_bytes() for path in beside if path.is_file()}
    return files | {"pyproject.toml": project_of_installation().encode("utf-8")}


def project_of_installation() -> str:
    """Return a ``pyproject.toml`` for the package as it is installed.

    Raises:
        ConfigError: if it is not.
    """
    try:
        about = metadata.metadata("tinylm")
        requirements = metadata.requires("tinylm") or []
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "tinylm is not installed, so that nothing tells what its code depends on: install it "
            "(`pip install .`), and try again"
        ) from None
    needed = [text for text in requirements if "extra ==" not in text]
    values = {
        "name": "tinylm",
        "version": about["Version"],
        "readme": "README.md",
        "requires-python": about["Requires-Python"],
        "dependencies": needed,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value]
    return "\n".join(
        [
            "[build-system]",
            'requires = ["hatchling"]',
            'build-backend = "hatchling.build"',
            "",
            "[project]",
            *lines,
            "",
            "[project.scripts]",
            'tinylm = "tinylm.cli:main"',
            "",
            "[tool.hatch.build.targets.wheel]",
            'packages = ["src/tinylm"]',
            "",
        ]
    )


def _is_left_behind(path: Path) -> bool:
    """Return whether a file is a by-product of running the code, and no part of it."""
    return "__pycache__" in path.parts or any(part.startswith(".") for part in path.parts)


def _is_ours(path: Path) -> bool:
    return path.is_file() and '\nname = "tinylm"\n' in path.read_text("utf-8", errors="replace")
