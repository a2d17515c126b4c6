"""The subgraph of the model that answers a question of the story grammar."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="circuit",
    summary="The fewest connections that answer a question as the whole model does",
    chapter="Interpretability",
    depends_on=(*TEXT, "experiments.circuit", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:abstract",
    settings=f"{__name__}.settings:CircuitExperiment",
    form=2,
)
