"""What next-token prediction alone learns: tasks in plain text, and the state of a small world."""

from tinylm.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    name="autocomplete",
    summary="Tasks that next-token prediction alone learns, and the state behind them",
    chapter="Model",
    depends_on=("experiments.autocomplete",),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    needs_run=False,
    settings=f"{__name__}.settings:AutocompleteExperiment",
)
