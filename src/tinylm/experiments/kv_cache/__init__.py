"""What generation costs with and without a key-value cache."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="kv-cache",
    summary="What generation costs with and without a key-value cache",
    chapter="Text",
    depends_on=(*TEXT, "training", "generation", "experiments.kv_cache", "report.prompts", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    sentence=f"{__name__}.sentence:sentence",
    settings=f"{__name__}.settings:KVCacheExperiment",
)
