"""Every subset of the model's heads: exact values, and what cheaper methods say of them."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="head-subsets",
    summary="Exact Shapley values of all heads, and cheaper methods graded by them",
    chapter="Interpretability",
    depends_on=(*TEXT, "experiments.head_subsets", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:abstract",
    settings=f"{__name__}.settings:HeadSubsetsExperiment",
    form=2,
)
