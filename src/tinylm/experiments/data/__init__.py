"""What the corpus is, how it is cut into tokens, what its vectors know."""

from tinylm.experiments.experiment import TEXT, Experiment

EXPERIMENT = Experiment(
    name="data",
    summary="What the corpus is, how it is cut into tokens, what its vectors know",
    chapter="Model",
    depends_on=(*TEXT,),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    sentence=f"{__name__}.sentence:sentence",
)
