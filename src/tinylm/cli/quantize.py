"""``tinylm quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tinylm.cli.options import Data, RunFolder, method_option, text_overrides
from tinylm.cli.output import say
from tinylm.registry import QUANTIZERS


def quantize(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the quantized run goes.")],
    method: Annotated[str, typer.Option(help=f"{', '.join(QUANTIZERS)}.")] = "rtn",
    bits: Annotated[
        int | None, typer.Option(help="Of a weight: 8, 4, 3 or 2. Empty: the method's own.")
    ] = None,
    data: Data = None,
    option: Annotated[
        list[str],
        method_option(
            "Of the method, such as group_size=32, or how --data is read: data.text_format=file."
        ),
    ] = [],  # noqa: B006
) -> None:
    """Keep a run's weights in fewer bits, and write the smaller run.

    --data is other text to calibrate by, for methods that read any; its training split is taken.
    """
    from tinylm.cli.console import TerminalConsole
    from tinylm.config import load_config, method_settings, with_absolute_paths
    from tinylm.errors import ConfigError
    from tinylm.experiments.context import open_run
    from tinylm.experiments.quantizing import quantize_run

    if bits is not None and any(each.partition("=")[0].strip() == "bits" for each in option):
        raise ConfigError("--bits and -o bits say the same: give one of them")
    of_text, own = text_overrides(data, option)
    settings = method_settings(
        QUANTIZERS, method, [*([] if bits is None else [f"bits={bits}"]), *own]
    )
    console = TerminalConsole()
    context = open_run(run, console)
    source = None
    if data is not None:
        source = with_absolute_paths(load_config(run / "config.yaml", overrides=of_text)).data
    written = quantize_run(context, out, method, settings, source)
    before, after = written["before"]["bytes"], written["after"]["bytes"]
    console.note(
        f"{out}: {written['after']['weights']:,} weights in {after / 2**20:.2f} MiB, "
        f"{8 * after / written['after']['weights']:.2f} bits each; before {before / 2**20:.2f} MiB"
    )
    say(str(out))
