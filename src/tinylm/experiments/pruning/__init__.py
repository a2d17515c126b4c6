"""What pruning costs in perplexity, what it saves in time and bytes, and which heads can go."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="pruning",
    summary="Perplexity, time and bytes of pruned models, and the heads that go",
    chapter="Compression",
    depends_on=(*TEXT, "training", "experiments.pruning", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:abstract",
    settings=f"{__name__}.settings:PruningExperiment",
)
