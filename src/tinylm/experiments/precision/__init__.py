"""The same training in float32 and in bfloat16."""

from tinylm.experiments.experiment import TEXT, Experiment

EXPERIMENT = Experiment(
    name="precision",
    summary="The same training in float32 and in bfloat16",
    chapter="Training",
    depends_on=(*TEXT, "training", "experiments.precision"),
    package=__name__,
    form=2,
    settings=f"{__name__}.settings:PrecisionExperiment",
)
