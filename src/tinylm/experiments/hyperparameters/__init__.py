"""Short trainings that differ from the run in one setting."""

from tinylm.experiments.experiment import TEXT, Experiment

EXPERIMENT = Experiment(
    name="hyperparameters",
    summary="Short trainings that differ from the run in one setting",
    chapter="Model",
    depends_on=(*TEXT, "training", "experiments.hyperparameters"),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    settings=f"{__name__}.settings:HyperparametersExperiment",
)
