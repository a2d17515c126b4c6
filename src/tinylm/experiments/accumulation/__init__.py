"""Gradients accumulated over different numbers of mini-batches."""

from tinylm.experiments.experiment import TEXT, Experiment

EXPERIMENT = Experiment(
    name="accumulation",
    summary="Gradients accumulated over different numbers of mini-batches",
    chapter="Training",
    depends_on=(*TEXT, "training", "experiments.accumulation"),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    form=2,
    settings=f"{__name__}.settings:AccumulationExperiment",
)
