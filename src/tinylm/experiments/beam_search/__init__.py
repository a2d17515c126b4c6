"""Beam search compared with greedy decoding and sampling."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="beam-search",
    summary="Beam search compared with greedy decoding and sampling",
    chapter="Text",
    depends_on=(*TEXT, "training", "evaluation", "experiments.beam_search", WEIGHTS),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    settings=f"{__name__}.settings:BeamSearchExperiment",
)
