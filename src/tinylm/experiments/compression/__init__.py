"""Every way to make the run's model smaller, side by side: bytes, time and perplexity."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="compression",
    summary="Perplexity against bytes and time of every method, width and combination",
    chapter="Compression",
    depends_on=(*TEXT, "training", "experiments.compression", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:abstract",
    settings=f"{__name__}.settings:CompressionExperiment",
)
