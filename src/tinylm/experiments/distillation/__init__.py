"""What a student gains from its teacher, by method, beside one that learns alone."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="distillation",
    summary="What a smaller model gains from a teacher, by method, over seeds",
    chapter="Compression",
    depends_on=(*TEXT, "training", "evaluation", "experiments.distillation", WEIGHTS),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:abstract",
    settings=f"{__name__}.settings:DistillationExperiment",
)
