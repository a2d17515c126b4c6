"""Memory and time of a step with recomputation and without."""

from tinylm.experiments.experiment import TEXT, Experiment

EXPERIMENT = Experiment(
    name="gradient-checkpointing",
    summary="Memory and time of a step with recomputation and without",
    chapter="Training",
    depends_on=(*TEXT, "training", "experiments.gradient_checkpointing"),
    measure=f"{__name__}.measure:run",
    section=f"{__name__}.section:blocks",
    figures=f"{__name__}.figures:draw",
    settings=f"{__name__}.settings:GradientCheckpointingExperiment",
)
