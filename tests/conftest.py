"""What several tests share: one CPU thread, small models, and one tiny trained run."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tinylm.config import ModelConfig, RunConfig, load_config
from tinylm.experiments.context import Context, SilentConsole, create_run, run_experiment
from tinylm.experiments.preparation import prepare_data, resolve
from tinylm.language_model import LanguageModel
from tinylm.model.decoder import DecoderLM

# No time is ever asserted, and the same examples are tried everywhere.
settings.register_profile("tinylm", deadline=None, derandomize=True)
settings.load_profile("tinylm")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mutations", type=int, default=500, help="Damaged files in tests/robustness."
    )
    parser.addoption("--case", default="", help="Only this one of them, as a failure names it.")
    parser.addoption("--table", action="store_true", help="Print what came of them.")


@pytest.fixture(scope="session", autouse=True)
def frozen() -> None:
    """Let the garbage collector, which every experiment calls, leave out all that is imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def keep_threads() -> Iterator[None]:
    """Put back the number of threads that a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_model() -> Callable[..., DecoderLM]:
    """Make a random model in eval mode; sharp logits, so that its choices differ."""

    def make(seed: int = 0, sharpness: float = 4.0, **settings: object) -> DecoderLM:
        values: dict[str, object] = {
            "vocab_size": 23,
            "context_length": 10,
            "num_layers": 2,
            "num_heads": 2,
            "hidden_size": 12,
            "ffn_size": 20,
            "dropout": 0.3,
        }
        torch.manual_seed(seed)
        model = DecoderLM(ModelConfig(**{**values, **settings}))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "bias" in name:  # zero at the start, which would hide a forgotten one
                    parameter.normal_(std=0.1)
            model.unembedding.weight.mul_(sharpness)
        return model.eval()

    return make


def tiny_settings(cache_folder: Path) -> list[str]:
    """Return overrides that make a run of a few seconds."""
    return [
        f"data.cache_folder={cache_folder}",
        "data.train_stories=200",
        "data.validation_stories=20",
        "vectors.source=none",
        "model.hidden_size=16",
        "model.num_layers=1",
        "model.num_heads=2",
        "model.context_length=24",
        "training.threads=1",
        "training.precision=fp32",
        "training.tensorboard=false",
        "training.max_steps=30",
        "training.batch_size=8",
        "training.learning_rate=1e-2",
        "training.validation_interval=15",
        "training.validation_windows=20",
        "training.log_interval=5",
        "evaluation.num_stories=6",
    ]


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The configuration of the tiny run, its cache in a folder of the session."""
    return load_config(overrides=tiny_settings(tmp_path_factory.mktemp("tiny") / "cache"))


@pytest.fixture(scope="session")
def tiny_context(tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A tiny run, trained once a session; tests must not change its folder."""
    console = SilentConsole()
    resolved = resolve(tiny_config, prepare_data(tiny_config, console))
    context = create_run(tmp_path_factory.mktemp("runs") / "tiny", resolved, console)
    run_experiment("training", context)
    return context


@pytest.fixture(scope="session")
def tiny_run(tiny_context: Context) -> Path:
    """The folder of the tiny run."""
    return tiny_context.folder


@pytest.fixture(scope="session")
def tiny_lm(tiny_run: Path) -> LanguageModel:
    """The model of the tiny run."""
    return LanguageModel.load(tiny_run)
