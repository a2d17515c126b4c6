"""The zip that is handed in: code, commands, report, results, and the link of the checkpoint."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import tinylm
from tinylm.checkpoint import FILES, find_checkpoint, refuse_damaged
from tinylm.config import dump_yaml, load_config
from tinylm.errors import ConfigError
from tinylm.experiments.compressing import has_training
from tinylm.experiments.context import refuse_no_run
from tinylm.experiments.document.record import Record, changed_since, read_record
from tinylm.experiments.results import read_result
from tinylm.fingerprints import file_sha256
from tinylm.handin.archive import refuse_other, write_archive
from tinylm.handin.code import code_files
from tinylm.handin.readme import METRICS, CheckpointFile, Subject, readme
from tinylm.names import checked_name, checked_path

_LONGEST_URL = 2_000


@dataclass(frozen=True)
class HandIn:
    """What was written."""

    path: Path
    num_files: int
    num_bytes: int
    checkpoint: Path
    """Folder of the checkpoint, which is not in it."""


def hand_in(
    run: Path, entry: str, out: Path | None = None, checkpoint_url: str | None = None
) -> HandIn:
    """Write what is handed in of a run; the same run and code give the same bytes.

    Args:
        run: the run's folder, with its report.
        entry: name of the zip and of the folder in it.
        out: the file; empty: ``ENTRY.zip`` in the current folder.
        checkpoint_url: where the checkpoint can be downloaded; empty: its place and checksums are
            named, and what is still to be filled in.

    Raises:
        ConfigError: if a name or the address cannot be used, the folder is no run, its report is
            missing or older than its results, or the file is something else.
        CheckpointError: if there is no checkpoint, or it is damaged.
        DataError: if a result or the record of the report cannot be read.
    """
    checked_name(entry, "--entry")
    out = checked_path(Path(f"{entry}.zip") if out is None else out, "--out")
    if checkpoint_url is not None:
        _check_url(checkpoint_url)
    stored = refuse_no_run(run)
    record = _record(run)
    config = load_config(stored, overrides=record["settings"])
    checkpoint = find_checkpoint(run).resolve()
    refuse_damaged(checkpoint)
    results = {name: run / "results" / f"{name}.json" for name in sorted(record["results"])}
    data = read_result(results["data"]) if "data" in results else None
    refuse_other(out)
    code = code_files()
    subject = Subject(
        entry=entry,
        config=config,
        text=None if data is None else str(data.get("corpus", "")),
        has_metrics=(run / METRICS).is_file(),
        checkpoint=checkpoint.name,
        # Without the folders above, which are private.
        place="/".join((*run.resolve().parts[-2:], "checkpoints", checkpoint.name)),
        files=tuple(
            CheckpointFile(path.name, path.stat().st_size, file_sha256(path))
            for path in (checkpoint / name for name in sorted(FILES))
        ),
        url=checkpoint_url,
        version=tinylm.__version__,
        is_locked="requirements.lock" in code,
        has_training=has_training(run),
    )
    files = {
        **code,
        "README.md": readme(subject).encode("utf-8"),
        "config.yaml": dump_yaml(config).encode("utf-8"),
        "report.pdf": (run / "report.pdf").read_bytes(),
        **{f"results/{name}.json": path.read_bytes() for name, path in results.items()},
    }
    if subject.has_metrics:
        files[METRICS] = (run / METRICS).read_bytes()
    write_archive(out, entry, files)
    return HandIn(out, len(files), out.stat().st_size, checkpoint)


def _record(run: Path) -> Record:
    """Return what the run's report was made of, if it still is.

    Raises:
        ConfigError: if there is no report, or something has changed since.
    """
    again = shlex.join(["tinylm", "report", "--run", str(run)])
    if not (run / "report.pdf").is_file():
        raise ConfigError(f"{run} has no report.pdf: make it: {again}")
    record = read_record(run, f"write the report again: {again}")
    if record is None:
        raise ConfigError(
            f"{run}/report.pdf was written by an earlier version, which did not say of which "
            f"results: write it again: {again}"
        )
    options = [word for setting in record["settings"] for word in ("-o", setting)]
    changed = changed_since(run, record)
    if changed is not None:
        raise ConfigError(
            f"{run}/{changed} has changed since report.pdf was written: write it again: "
            f"{shlex.join(['tinylm', 'report', '--run', str(run), *options])}"
        )
    return record


def _check_url(url: str) -> None:
    """Refuse what is no address of the web, or could end the link that it stands in.

    Raises:
        ConfigError: naming it.
    """
    try:
        parts = urlsplit(url)
        # Nothing before an @, which could be a password.
        usable = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    except ValueError:
        usable = False
    plain = url.isascii() and url.isprintable() and not set(url) & set(' <>"\\^`{|}')
    if not (usable and plain and len(url) <= _LONGEST_URL):
        shown = ascii(url if len(url) <= 60 else f"{url[:60]}…")
        raise ConfigError(f"--checkpoint {shown}: give an address that begins with https://")
