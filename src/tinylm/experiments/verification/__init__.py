"""Optimised parts on this model, compared with plain versions."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="verification",
    summary="Optimised parts on this model, compared with plain versions",
    chapter="Proof",
    depends_on=(*TEXT, "training", "evaluation", "generation", "report.prompts", WEIGHTS),
    package=__name__,
    sentence=f"{__name__}.sentence:sentence",
)
