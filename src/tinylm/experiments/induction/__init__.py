"""How induction heads form in a small model, and which heads of the run's own are such."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="induction",
    summary="How induction heads form in a small model, and which the run has",
    chapter="Interpretation",
    depends_on=(*TEXT, "training", "experiments.induction", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    settings=f"{__name__}.settings:InductionExperiment",
)
