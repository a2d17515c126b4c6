"""The figures of a run: each experiment draws what its result allows."""

from __future__ import annotations

from tinylm.atomic import write_text
from tinylm.experiments.document.inputs import ReportInputs
from tinylm.registry import EXPERIMENTS
from tinylm.report.drawing import save_figure


def draw_figures(inputs: ReportInputs) -> None:
    """Write the figures that the results allow into the run's folder ``figures``."""
    for name, result in inputs.results.items():
        experiment = EXPERIMENTS.load(name)
        for file, figure in experiment.draw(result, inputs.config):
            save_figure(figure, inputs.figures, file)
        for file, text in experiment.write(result):
            write_text(inputs.figures / file, text)
