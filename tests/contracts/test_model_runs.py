"""A whole run of every kind of model: trained, verified, written up; refusals in a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.tiny import SETTINGS
from tinylm.config import load_config
from tinylm.errors import ConfigError
from tinylm.experiments.context import SilentConsole, create_run, run_experiment
from tinylm.experiments.document.build import build_report
from tinylm.experiments.preparation import prepare_data, resolve
from tinylm.language_model import LanguageModel
from tinylm.registry import CHECKS, EXPERIMENTS, MODELS


@pytest.mark.parametrize("name", MODELS)
def test_a_run_is_trained_verified_and_written_up(name: str, tmp_path: Path) -> None:
    heads = ("model.num_heads", "model.context_length")
    own = [setting for setting in SETTINGS if not setting.startswith(heads)]
    config = load_config(
        overrides=[
            *own,
            f"model.kind={name}",
            "model.context_length=24",
            "report.experiments=[training,verification]",
            f"data.cache_folder={tmp_path / 'cache'}",
        ]
    )
    console = SilentConsole()
    context = create_run(tmp_path / "run", resolve(config, prepare_data(config, console)), console)
    trained = run_experiment("training", context)
    assert trained["steps"] == 12
    result = run_experiment("verification", context)
    assert result["failed"] == []
    kind = MODELS.load(name)
    assert (len(result["rows"]) == len(CHECKS)) is kind.attends
    assert LanguageModel.load(context.folder).generate("the dog", max_new_tokens=30).text
    paths = build_report(context.folder, context.config)
    text = paths["html"].read_text("utf-8")
    outline = kind.outline(context.config.model, 100)
    assert (outline is None) is kind.attends
    assert outline is None or outline.phrase in text
    for other in EXPERIMENTS:
        experiment = EXPERIMENTS.load(other)
        assert experiment.suits(config) is (kind.attends or not experiment.of_attention)
    if not kind.attends:
        message = (
            f"the experiment attention is about .*, and model.kind = {name} is built otherwise"
        )
        with pytest.raises(ConfigError, match=message) as refused:
            run_experiment("attention", context)
        assert "\n" not in str(refused.value)
