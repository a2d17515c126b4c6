"""A finished run's folder, made once for all tests of the report."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from tests.report import figure_check, fixtures
from tinylm.experiments.document.build import build_report


@pytest.fixture(scope="session", autouse=True)
def looked_at() -> Iterator[None]:
    """Let every figure that a test of the report writes be looked at: nothing covers anything."""
    write = Figure.savefig
    seen: set[bytes] = set()

    def look(figure: Figure, file: BytesIO, **options: Any) -> None:
        write(figure, file, **options)
        # The last form that is written. What is drawn to the same points again looks the same.
        if options.get("format") == "png" and (drawn := file.getvalue()) not in seen:
            faults = figure_check.faults(figure)
            assert not faults, "; ".join(faults)
            seen.add(drawn)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", look)
        yield


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fixtures.write_run(folder, fixtures.results())
    build_report(folder)
    return folder
