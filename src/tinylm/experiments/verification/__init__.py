"""Optimised parts on this model, compared with plain versions."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="verification",
    summary="Optimised parts on this model, compared with plain versions",
    chapter="Proof",
    depends_on=(*TEXT, "training", "evaluation", "generation", "report.prompts", WEIGHTS),
    measure=f"{__name__}.measure:run",
    section=f"{__name__}.section:blocks",
    sentence=f"{__name__}.sentence:sentence",
)
