"""LoRA on a classifier of digits, for the classes that it is worst at."""

from tinylm.experiments.experiment import IMAGES, Experiment

EXPERIMENT = Experiment(
    name="lab-mnist",
    summary="LoRA on a classifier of digits, for the classes that it is worst at",
    chapter="Labs",
    depends_on=("experiments.lab_mnist", IMAGES),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    needs_run=False,
    settings=f"{__name__}.settings:MnistLab",
    places=("data",),
    fingerprint=f"{__name__}.measure:fingerprint",
)
