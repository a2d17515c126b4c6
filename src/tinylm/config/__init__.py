"""Every setting of a run: frozen dataclasses, YAML in and out, overrides, presets."""

from tinylm.config.experiments import (
    AccumulationExperiment,
    BeamSearchExperiment,
    EfficiencyExperiment,
    ExperimentsConfig,
    GradientCheckpointingExperiment,
    KVCacheExperiment,
    PrecisionExperiment,
)
from tinylm.config.reading import (
    PRESETS,
    dump_yaml,
    field_help,
    from_dict,
    load_config,
    to_dict,
)
from tinylm.config.settings import (
    DataConfig,
    EvaluationConfig,
    GenerationConfig,
    ModelConfig,
    ReportConfig,
    RunConfig,
    TokenizerConfig,
    TrainingConfig,
    VectorsConfig,
)

__all__ = [
    "PRESETS",
    "AccumulationExperiment",
    "BeamSearchExperiment",
    "DataConfig",
    "EfficiencyExperiment",
    "EvaluationConfig",
    "ExperimentsConfig",
    "GenerationConfig",
    "GradientCheckpointingExperiment",
    "KVCacheExperiment",
    "ModelConfig",
    "PrecisionExperiment",
    "ReportConfig",
    "RunConfig",
    "TokenizerConfig",
    "TrainingConfig",
    "VectorsConfig",
    "dump_yaml",
    "field_help",
    "from_dict",
    "load_config",
    "to_dict",
]
