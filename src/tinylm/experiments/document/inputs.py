"""What the report is made of: a run's configuration and the results that its experiments left."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tinylm.config import RunConfig, as_options, load_config, overrides_between
from tinylm.experiments.compressing import has_training
from tinylm.experiments.results import read_result
from tinylm.registry import EXPERIMENTS
from tinylm.report.blocks import Block, Figure, Paragraph


@dataclass(frozen=True)
class ReportInputs:
    """Everything that a section may read.

    Attributes:
        config: the run's whole configuration.
        results: experiment name -> what it measured; a missing experiment is a missing key.
        folder: the run's folder; figures live in its folder ``figures``.
        environment: where the run was made (``python``, ``torch``, ``cpu``, …).
        commands: the commands that repeat the run, in order.
        date: when the newest result was written.
    """

    config: RunConfig
    results: dict[str, dict[str, Any]]
    folder: Path
    environment: dict[str, Any] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    date: datetime = datetime(1970, 1, 1, tzinfo=UTC)

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.folder / "figures"

    def has_figure(self, path: str) -> bool:
        """Whether the run's folder holds the figure ``path`` (relative, and inside the folder)."""
        whole = (self.folder / path).resolve()
        return whole.is_relative_to(self.folder.resolve()) and whole.is_file()

    def told_figure(self, name: str, before: str, caption: str, alt: str) -> list[Block]:
        """Return a figure after the sentence that points to it; nothing if it was not drawn.

        Args:
            name: of its file, and of its label.
            before: inline markup of the sentence.
            caption: under it.
            alt: what it shows, for who does not see it.
        """
        path = f"figures/{name}.svg"
        if not self.has_figure(path):
            return []
        return [Paragraph(before), Figure(f"fig:{name}", path, caption, alt)]


def load_inputs(
    run_folder: str | Path,
    config: RunConfig | None = None,
    commands: Sequence[str] | None = None,
    experiments: Sequence[str] | None = None,
) -> ReportInputs:
    """Read ``results/*.json`` of a run, and its configuration.

    Args:
        run_folder: the run's folder.
        config: what the results were made with; empty: ``config.yaml``.
        commands: the commands that repeat the run and its report; empty: those that follow from
            the folder and the configuration.
        experiments: whose results are read; empty: those in ``report.experiments``.

    Raises:
        TinylmError: one line, if there is no configuration, or a file cannot be read or used.
    """
    folder = Path(run_folder)
    stored = load_config(folder / "config.yaml")
    used = config or stored
    results = {}
    wanted = used.report.experiments if experiments is None else experiments
    for name in EXPERIMENTS:  # in the registry's order, whatever the file system's is
        result = read_result(folder / "results" / f"{name}.json") if name in wanted else None
        if result is not None:
            results[name] = result
    environments = [results[name].get("environment") for name in ("training", *results)
                    if name in results]  # fmt: skip
    environment = next((kept for kept in environments if isinstance(kept, Mapping)), {})
    return ReportInputs(
        config=used,
        results=results,
        folder=folder,
        environment=dict(environment),
        commands=list(
            repeating(folder, overrides_between(stored, used)) if commands is None else commands
        ),
        date=_date(folder),
    )


def repeating(folder: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Return the commands that repeat a run beside the first one and make its report.

    Args:
        folder: the run's.
        overrides: ``key=value`` settings of the report that ``config.yaml`` does not have.

    Returns:
        Nothing for a run that was made of another: training by its configuration makes another
        model.
    """
    if not has_training(folder):
        return []
    name = f"{folder.absolute().name}-again"
    options = as_options(overrides)
    return [
        shlex.join(
            ["tinylm", "train", "--config", f"{folder.as_posix()}/config.yaml", "--name", name]
        ),
        shlex.join(["tinylm", "report", "--run", f"runs/{name}", *options]),
    ]


def _date(folder: Path) -> datetime:
    """Return the date that the report bears; the same results always give the same one."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdigit():  # the convention of reproducible-builds.org
        return datetime.fromtimestamp(int(epoch), UTC)
    files = [*(folder / "results").glob("*.json"), folder / "config.yaml"]
    newest = max((path.stat().st_mtime for path in files if path.is_file()), default=0.0)
    return datetime.fromtimestamp(int(newest), UTC)
