"""Every quick path on this model, beside a plain one."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="verification",
    summary="Every quick path on this model, beside a plain one",
    chapter="Proof",
    depends_on=(*TEXT, "training", "evaluation", "generation", "report.prompts", WEIGHTS),
    measure=f"{__name__}.measure:run",
    section=f"{__name__}.section:blocks",
    sentence=f"{__name__}.sentence:sentence",
)
