"""Trained weights and a fine-tuning update, factorised by SVD."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="lab-svd",
    summary="Trained weights and a fine-tuning update, factorised by SVD",
    chapter="Labs",
    depends_on=(*TEXT, "training", "experiments.lab_svd", WEIGHTS),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    form=2,
    settings=f"{__name__}.settings:SvdLab",
)
