"""The same prompts at several decoding settings."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="samples",
    summary="The same prompts at several decoding settings",
    chapter="Text",
    depends_on=(*TEXT, "training", "evaluation", "generation", "report.prompts", WEIGHTS),
    measure=f"{__name__}.measure:run",
    section=f"{__name__}.section:blocks",
)
