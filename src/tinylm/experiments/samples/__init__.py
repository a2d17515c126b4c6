"""The same prompts at several decoding settings."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="samples",
    summary="The same prompts at several decoding settings",
    chapter="Text",
    depends_on=(*TEXT, "training", "evaluation", "generation", "report.prompts", WEIGHTS),
    package=__name__,
)
