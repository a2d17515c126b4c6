"""One model budget with each tokenizer: what a byte of held-out text costs, and what all else."""

from tinylm.experiments.experiment import DATA, Experiment

EXPERIMENT = Experiment(
    name="tokenizers",
    summary="Equal training FLOPs with each tokenizer, in bits per byte",
    chapter="Data",
    depends_on=(DATA, "experiments.tokenizers"),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    needs_run=False,
    settings=f"{__name__}.settings:TokenizersExperiment",
)
