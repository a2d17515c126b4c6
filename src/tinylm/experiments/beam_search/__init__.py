"""Beam search compared with greedy decoding and sampling."""

from tinylm.experiments.experiment import TEXT, WEIGHTS, Experiment

EXPERIMENT = Experiment(
    name="beam-search",
    summary="Beam search compared with greedy decoding and sampling",
    chapter="Text",
    depends_on=(*TEXT, "training", "evaluation", "experiments.beam_search", WEIGHTS),
    measure=f"{__name__}.measure:run",
    section=f"{__name__}.section:blocks",
    figures=f"{__name__}.figures:draw",
    settings=f"{__name__}.settings:BeamSearchExperiment",
)
