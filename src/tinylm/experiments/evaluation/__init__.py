"""Continuations of validation stories, and the loss of the whole split."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="evaluation",
    summary="Continuations of validation stories, and the loss of the whole split",
    chapter="Text",
    depends_on=(*TEXT, "training.device", "training.threads", "evaluation", WEIGHTS),
    package=__name__,
    sentence=f"{__name__}.sentence:sentence",
)
