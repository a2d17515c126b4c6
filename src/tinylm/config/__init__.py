"""Every setting of a run: frozen dataclasses, YAML in and out, overrides, presets."""

from tinylm.config.experiments import ExperimentsConfig
from tinylm.config.methods import from_overrides, method_settings
from tinylm.config.places import absolute, with_absolute_paths
from tinylm.config.reading import (
    PRESETS,
    as_options,
    dump_yaml,
    field_help,
    from_dict,
    load_config,
    overrides_between,
    to_dict,
)
from tinylm.config.settings import (
    DataConfig,
    EvaluationConfig,
    GenerationConfig,
    ModelConfig,
    ReportConfig,
    RunConfig,
    TrainingConfig,
    VectorsConfig,
)

__all__ = [
    "PRESETS",
    "DataConfig",
    "EvaluationConfig",
    "ExperimentsConfig",
    "GenerationConfig",
    "ModelConfig",
    "ReportConfig",
    "RunConfig",
    "TrainingConfig",
    "VectorsConfig",
    "absolute",
    "as_options",
    "dump_yaml",
    "field_help",
    "from_dict",
    "from_overrides",
    "load_config",
    "method_settings",
    "overrides_between",
    "to_dict",
    "with_absolute_paths",
]
