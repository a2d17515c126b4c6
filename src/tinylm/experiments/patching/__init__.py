"""Which parts carry an answer: activation patching between pairs of prompts."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="patching",
    summary="Which parts carry an answer: patches between pairs of prompts",
    chapter="Interpretation",
    depends_on=(*TEXT, "training", "experiments.patching", WEIGHTS),
    package=__name__,
    of_attention=True,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    settings=f"{__name__}.settings:PatchingExperiment",
    places=("pairs_path",),
)
