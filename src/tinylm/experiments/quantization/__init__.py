"""What quantized weights and inputs cost, and what texts to calibrate by are good for."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="quantization",
    summary="What weights and inputs in few bits cost, by method and calibration text",
    chapter="Compression",
    depends_on=(*TEXT, "experiments.quantization", WEIGHTS),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:abstract",
    settings=f"{__name__}.settings:QuantizationExperiment",
)
