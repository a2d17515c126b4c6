"""Memory and time of a step with recomputation and without."""

from tinylm.experiments.experiment import TEXT, Experiment

EXPERIMENT = Experiment(
    name="gradient-checkpointing",
    summary="Memory and time of a step with recomputation and without",
    chapter="Training",
    depends_on=(*TEXT, "training", "experiments.gradient_checkpointing"),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    settings=f"{__name__}.settings:GradientCheckpointingExperiment",
)
