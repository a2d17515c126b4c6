"""Why encoders went out of use, measured: families of models on the same tokens."""

from tinylm.experiments.experiment import Experiment

EXPERIMENT = Experiment(
    name="encoders",
    summary="Decoders, models that read a source, and recurrent ones on the same tokens",
    chapter="Model",
    depends_on=("experiments.encoders",),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    needs_run=False,
    settings=f"{__name__}.settings:EncodersExperiment",
)
