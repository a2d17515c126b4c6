"""ZeRO's stages on processes of this machine: memory and traffic, measured beside planned."""

from tinylm.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    name="zero",
    summary="The stages of ZeRO: what each rank holds and sends, beside the formulas",
    chapter="Training",
    depends_on=("experiments.zero",),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    needs_run=False,
    settings=f"{__name__}.settings:ZeroExperiment",
)
