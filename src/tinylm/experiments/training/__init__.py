"""A model trained from the configuration, measured as it learns."""

from tinylm.experiments.experiment import CHECKPOINTS, TEXT, Experiment

EXPERIMENT = Experiment(
    name="training",
    summary="A model trained from the configuration, measured as it learns",
    chapter="Model",
    depends_on=(*TEXT, "training", CHECKPOINTS),
    package=__name__,
    trains_run=True,
    figures=f"{__name__}.figures:draw",
    sentence=f"{__name__}.sentence:sentence",
)
