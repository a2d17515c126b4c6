"""What each place of the residual stream says of the next word, and which part adds how much."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="lens",
    summary="What each layer says of the next word, and what each part adds",
    chapter="Interpretation",
    depends_on=(*TEXT, "training", "experiments.lens", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    sentence=f"{__name__}.section:sentence",
    settings=f"{__name__}.settings:LensExperiment",
)
