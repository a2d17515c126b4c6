"""All kinds of models with all tokenizers at one budget, in bits a byte."""

from tinylm.experiments.experiment import DATA, Experiment

EXPERIMENT = Experiment(
    name="leaderboard",
    summary="All kinds of models and all tokenizers at equal FLOPs",
    chapter="Model",
    depends_on=(DATA, "experiments.leaderboard"),
    package=__name__,
    figures=f"{__name__}.figures:draw",
    abstract=f"{__name__}.section:summary",
    needs_run=False,
    settings=f"{__name__}.settings:LeaderboardExperiment",
)
