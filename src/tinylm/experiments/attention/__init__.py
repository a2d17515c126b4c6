"""What every attention head does and is worth; sentences drawn."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="attention",
    summary="What every attention head does and is worth; sentences drawn",
    chapter="Interpretation",
    depends_on=(*TEXT, "training", "experiments.attention", "report.attention_sentences", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.drawing:draw",
    pages=f"{__name__}.drawing:pages",
    sentence=f"{__name__}.sentence:sentence",
    settings=f"{__name__}.settings:AttentionExperiment",
)
