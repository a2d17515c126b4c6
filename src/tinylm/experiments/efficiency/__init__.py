"""What the model costs, planned and measured, and how that grows."""

from tinylm.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    name="efficiency",
    summary="What the model costs, planned and measured, and how that grows",
    chapter="Training",
    depends_on=("model", "training", "experiments.efficiency"),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    settings=f"{__name__}.settings:EfficiencyExperiment",
)
