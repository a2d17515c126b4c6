"""A model aligned to a rule by several methods, and to a reward that was learned of it."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="alignment",
    summary="What each way of alignment earns and costs, over seeds, and where to stop",
    chapter="Alignment",
    depends_on=(*TEXT, "training", "evaluation", "experiments.alignment", WEIGHTS),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:abstract",
    settings=f"{__name__}.settings:AlignmentExperiment",
)
