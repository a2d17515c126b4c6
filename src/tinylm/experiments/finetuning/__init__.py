"""The model adapted to another kind of text by every method."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="finetuning",
    summary="The model adapted to another kind of text by every method",
    chapter="Adaptation",
    depends_on=(
        *TEXT,
        "training",
        "generation",
        "experiments.finetuning",
        "report.prompts",
        WEIGHTS,
    ),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    sentence=f"{__name__}.sentence:sentence",
    settings=f"{__name__}.settings:FinetuningExperiment",
)
