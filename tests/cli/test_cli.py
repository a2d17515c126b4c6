"""The command line: results on stdout, progress on stderr, each error one line."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import tiny_settings
from tinylm import __version__
from tinylm.cli.console import TerminalConsole
from tinylm.config import PRESETS, RunConfig, load_config
from tinylm.experiments.results import read_result
from tinylm.generation.stepper import Stepper
from tinylm.language_model import LanguageModel
from tinylm.planning import limits
from tinylm.registry import COMMANDS, CORPORA, EXPERIMENTS, STRATEGIES

Command = Callable[..., tuple[int, str, str]]


def process(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from tinylm.cli import main; main()", *map(str, args)]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, cwd=cwd
    )


def overrides(folder: Path) -> list[str]:
    return [part for setting in tiny_settings(folder) for part in ("-o", setting)]


# --- errors ---


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trian"], "no such command 'trian'. Did you mean 'train'? (see `tinylm --help`)"),
        (["--bogus"], "no such option: --bogus (see `tinylm --help`)"),
        (["generate"], "missing argument 'RUN' (see `tinylm generate --help`)"),
        (["config", "extra"], "got unexpected extra argument(s) (extra)"),
        (["config", "--prest", "quick"], "no such option: --prest"),
        (["config", "--preset"], "option '--preset' requires an argument"),
        (["config", "--preset", "quik"], "unknown preset 'quik'; did you mean quick?"),
        (["config", "--config", "no.yaml"], "no.yaml: cannot be read (No such file"),
        (["config", "-o", "model.num_heads"], "-o 'model.num_heads': expected section.key=value"),
        (["config", "-o", "model.num_head=2"], "did you mean model.num_heads"),
        (["config", "-o", "model.num_heads=0"], "model.num_heads = 0: must be at least 1"),
        (["generate", "no", "hi"], "no does not exist: give a run folder or a checkpoint folder"),
        (["generate", "no", "--temperature", "x"], "invalid value for '--temperature'"),
        (["generate", "no", "--temperature", "-1"], "generation.temperature = -1"),
        (["generate", "no", "--top-p", "0"], "generation.top_p = 0"),
        (["generate", "no", "--strategy", "gredy"], "'gredy'; did you mean greedy?"),
        (["generate", "no", "--samples", "0"], "invalid value for '--samples'"),
        (["generate", "no", "-o", "model.num_layers=2"], "only generation.* changes"),
        (["evaluate", "no"], "no does not exist"),
        (["evaluate", "no", "-o", "evaluation.num_story=2"], "no does not exist"),
        (["experiment", "evaluatio"], "unknown experiment 'evaluatio'; did you mean evaluation"),
        (["experiment", "data"], "say with --run which run it works on"),
        (["experiment", "data", "--run", "no"], "no does not exist; `tinylm train` makes a run"),
        (["train", "--resume", "no"], "no does not exist; `tinylm train` makes a run"),
        (["train", "--resume", "no", "--preset", "quick"], "leave out --preset"),
        (["train", "--data", "nowhere"], "data.path nowhere does not exist"),
        (["train", "-o", "model.dropout=2"], "model.dropout = 2"),
        (["train", "--name", "../../x"], "--name '../../x' is a path: give a name without /"),
        (["train", "--name", "a\nb"], r"--name 'a\nb' holds a control character or a line end"),
        (["train", "--config", ".hidden.yaml"], ".hidden.yaml: cannot be read"),
        (["report", "--name", ".."], "--name '..' starts with a dot or a dash"),
        (["data", "--data", "nowhere"], "data.path nowhere does not exist"),
        (["data", "--show", "-1"], "invalid value for '--show'"),
        (["data", "--workers", "0"], "invalid value for '--workers'"),
        (["data", "-o", "data.workers=0"], "data.workers = 0: must be"),
    ],
)
def test_an_error_is_one_line_on_stderr(tinylm: Command, args: list[str], message: str) -> None:
    status, out, err = tinylm(*args)
    assert status in (1, 2)
    assert out == ""
    assert err.startswith("tinylm: ")
    assert message in err
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert "Traceback" not in err


def test_a_run_without_a_checkpoint(tinylm: Command, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(tiny_run / "config.yaml", tmp_path / "bare")
    for command in ("generate", "evaluate"):
        status, out, err = tinylm(command, "bare")
        assert (status, out) == (1, "")
        assert err == (
            "tinylm: bare holds no checkpoint yet: train it: tinylm train --resume bare\n"
        )


def test_a_damaged_checkpoint(tinylm: Command, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)
    (tmp_path / "run/checkpoints/best/model.safetensors").write_bytes(b"x" * 100)
    status, out, err = tinylm("generate", "run", "hello")
    assert (status, out) == (1, "")
    assert "is damaged: model.safetensors has changed" in err
    assert err.count("\n") == 1


def test_a_run_folder_that_exists_is_not_trained_over(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    shutil.copytree(tiny_run, tmp_path / "runs/mine", symlinks=True)
    status, out, err = tinylm("train", "--name", "mine")
    assert (status, out) == (1, "")
    assert err == (
        "tinylm: runs/mine holds a run already: choose --name, or go on: "
        "tinylm train --resume runs/mine\n"
    )


def test_a_file_that_cannot_be_written_is_one_line(tinylm: Command, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    status, _, err = tinylm("train", "--name", "x", *overrides(tmp_path / "cache"))
    assert status == 1
    assert err.splitlines()[-1].startswith("tinylm: ")
    assert "Traceback" not in err


def test_an_error_in_a_real_process() -> None:
    done = process("generate", "no/such/run", "hi")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("tinylm: no/such/run does not exist")
    done = process("generat")
    assert done.returncode == 2
    assert "did you mean 'generate'" in done.stderr.lower()


# --- help, version, config ---


def test_help_lists_every_command_and_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from tinylm.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "for name in ('torch', 'transformers', 'gensim', 'matplotlib', 'datasets'):\n"
        "    assert name not in sys.modules, name\n"
    )
    for args in (["--help"], [], ["train", "--help"], ["experiment", "--list"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        if args in (["--help"], []):
            for name in COMMANDS:
                assert f"\n  {name} " in done.stdout
        if "--list" in args:
            lines = done.stdout.splitlines()  # chapters, and their experiments further in
            assert sorted(line.split()[0] for line in lines if line[0] == " ") == sorted(
                EXPERIMENTS
            )
        if "--version" in args:
            assert done.stdout == f"tinylm {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(tinylm: Command, name: str) -> None:
    status, out, err = tinylm(name, "--help")
    assert (status, err) == (0, "")
    assert out.startswith(f"Usage: tinylm {name} ")
    assert COMMANDS.load(name).__doc__.splitlines()[0] in " ".join(out.split())
    if "--preset" in out:
        assert all(preset in out for preset in PRESETS)
    if "--data " in out and name != "classify":  # which takes labelled texts
        assert all(corpus in out for corpus in CORPORA if corpus != "files")
    if "--strategy" in out:
        assert all(strategy in out for strategy in STRATEGIES)


@pytest.mark.parametrize("preset", [None, *PRESETS])
def test_config_feeds_back(tinylm: Command, preset: str | None, tmp_path: Path) -> None:
    chosen = [] if preset is None else ["--preset", preset]
    extra = ["-o", "report.title=Été: \"a\" # 'b'", "-o", "training.eps=1e-9", "--data", "[a] #b"]
    status, out, err = tinylm("config", *chosen, *extra)
    assert (status, err) == (0, "")
    (tmp_path / "mine.yaml").write_text(out, "utf-8")
    config = load_config(tmp_path / "mine.yaml")
    changed = ["training.eps=1e-9", "data.corpus=files"]
    expected = load_config(preset=preset or "baseline", overrides=changed)
    assert config.training == expected.training
    assert config.model == expected.model
    assert config.report.title == "Été: \"a\" # 'b'"
    assert (config.data.corpus, config.data.path) == ("files", "[a] #b")
    assert tinylm("config", "--config", tmp_path / "mine.yaml")[1] == out
    keys = yaml.safe_load(out)
    assert [*keys] == list(RunConfig.__dataclass_fields__)
    assert out.count("  # ") >= sum(map(len, keys.values()))  # each with its meaning


@pytest.mark.parametrize("folder", ["2024", "1e3", "on", "null", "a b", "x: y", "tab\tq", "é"])
def test_data_takes_any_folder_name(tinylm: Command, folder: str) -> None:
    status, out, _ = tinylm("config", "--data", folder)
    assert status == 0
    assert yaml.safe_load(out)["data"]["path"] == folder


@pytest.mark.parametrize("corpus", ["stories", "tinystories"])
def test_data_takes_the_name_of_a_corpus(tinylm: Command, corpus: str) -> None:
    values = yaml.safe_load(tinylm("config", "--data", corpus)[1])["data"]
    assert (values["corpus"], values["path"]) == (corpus, None)


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "from tinylm.cli import main; main()"
    writer = subprocess.Popen(
        [sys.executable, "-u", "-c", code, "config"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.readline()
    writer.stdout.close()
    writer.wait(60)
    assert writer.stderr.read() == ""


# --- data, train, generate, evaluate, experiment ---


def test_data_prepares_and_shows(tinylm: Command, tmp_path: Path) -> None:
    status, out, err = tinylm("data", *overrides(tmp_path / "cache"), "--show", "2")
    assert status == 0
    status, all_of_them, _ = tinylm(
        "data", *overrides(tmp_path / "cache"), "--show", "1" + "0" * 30
    )
    assert status == 0
    assert len(all_of_them) > len(out)
    lines = out.splitlines()
    assert lines[0].startswith("200 training and 20 validation stories")
    assert lines[1].startswith("vocabulary: ")
    assert lines[2].startswith("train: 200 stories, ")
    assert lines[3].startswith("validation: 20 stories, ")
    assert len([line for line in lines if not line]) >= 2
    assert "Building the vocabulary" in err


def test_data_of_a_folder(tinylm: Command, tmp_path: Path) -> None:
    folder = tmp_path / "2024"
    folder.mkdir()
    text = "".join(f"The dog saw cat {i}.\n<|endoftext|>\n" for i in range(30))
    (folder / "train.txt").write_text(text)
    (folder / "valid.txt").write_text("The cat saw a dog.\n<|endoftext|>\n")
    status, out, err = tinylm("data", "--data", "2024", "-o", f"data.cache_folder={tmp_path}/c")
    assert status == 0, err
    assert "train: 30 stories, " in out
    assert "validation: 1 stories, " in out


def test_data_by_more_processes_than_texts(tinylm: Command, tmp_path: Path) -> None:
    said = []
    for workers in ("1", "64"):
        place = ("-o", f"data.cache_folder={tmp_path}/{workers}", "-o", "data.train_stories=9")
        status, out, err = tinylm("data", "--workers", workers, *place)
        assert status == 0, err
        said.append(out)
    assert said[0] == said[1]


def test_train_in_a_real_process_and_the_line_it_ends_with(tiny_run: Path, tmp_path: Path) -> None:
    """The same settings as the tiny run: the command line trains the same weights."""
    done = process("train", "--name", "mine", *overrides(tmp_path / "cache"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "runs/mine\n"
    assert "validation loss" in done.stderr
    assert "runs/mine: 30 steps, " in done.stderr
    weights = "checkpoints/best/model.safetensors"
    assert (tmp_path / "runs/mine" / weights).read_bytes() == (tiny_run / weights).read_bytes()
    again = process("train", "--resume", "runs/mine", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "runs/mine\n")


def test_generate_streams_one_text(tinylm: Command, tiny_run: Path, tiny_lm: LanguageModel) -> None:
    args = ("generate", tiny_run, "Once upon a time", "--max-new-tokens", "12")
    status, out, err = tinylm(*args, "--seed", "0")
    assert (status, err) == (0, "")
    expected = tiny_lm.generate("Once upon a time", max_new_tokens=12)
    assert out == expected.text + "\n"
    assert tinylm(*args, "-o", "generation.seed=0") == (0, out, "")
    other = tinylm(*args, "--seed", "1")
    assert other[1] != out
    assert other[1].startswith("Once upon a time")


def test_generate_without_a_seed_varies_and_says_how_to_repeat_it(
    tinylm: Command, tiny_run: Path
) -> None:
    args = ("generate", tiny_run, "Once upon a time", "--max-new-tokens", "12")
    made = [tinylm(*args) for _ in range(4)]
    assert len({out for _, out, _ in made}) > 1
    for status, out, err in made:
        seed = re.fullmatch(r"note: seed (\d+); --seed \1 gives the same again\n", err)
        assert status == 0 and seed is not None
        assert tinylm(*args, "--seed", seed[1]) == (0, out, "")


def test_generate_continues_what_is_piped_in(
    tinylm: Command, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("generate", tiny_run, "--strategy", "greedy", "--max-new-tokens", "8")
    expected = tinylm(*args, "Once upon a time")
    without = tinylm(*args)
    text = tmp_path / "prompt.txt"

    def piped(content: bytes, *prompts: str) -> tuple[int, str, str]:
        text.write_bytes(content)
        with text.open() as stream:
            monkeypatch.setattr(sys, "stdin", stream)
            return tinylm(*args, *prompts)

    assert piped(b"Once upon a time\n") == expected
    assert piped(b"Once upon a time") == expected
    assert piped(b"") == without
    assert piped(b"The dog", "Once upon a time") == expected
    status, _, err = piped(b"\xff\xfe")
    assert status == 1 and "the text piped in is not UTF-8" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--num-return", "3"], "num_return has no effect with generation.strategy = sampling"),
        (["--num-return", "3"], "take the strategy beam, or leave it out; several samples"),
        (["--strategy", "greedy", "--temperature", "5"], "temperature has no effect with"),
        (["--strategy", "greedy", "--num-beams", "7"], "take the strategy beam, or leave it out"),
        (["--strategy", "beam", "--top-p", "0.5"], "take the strategy sampling, or leave it out"),
        (["--temperature", "0", "--top-k", "5"], "top_k has no effect at temperature 0"),
        (["-o", "generation.early_stopping=full"], "early_stopping has no effect with"),
        (
            ["-o", "generation.min_new_tokens=50", "--max-new-tokens", "5"],
            "generation.min_new_tokens = 50 is more than generation.max_new_tokens = 5",
        ),
    ],
)
def test_a_setting_without_effect_is_refused(
    tinylm: Command, tiny_run: Path, options: list[str], expected: str
) -> None:
    status, out, err = tinylm("generate", tiny_run, "The dog", *options)
    assert (status, out) == (1, "")
    assert expected in err and err.count("\n") == 1


def test_generate_really_streams(tiny_run: Path) -> None:
    """The first words come long before the last: a reader that stops early stops the writer."""
    command = [sys.executable, "-c", "from tinylm.cli import main; main()", "generate"]
    command += [str(tiny_run), "Once", "--max-new-tokens", str(10**9)]
    writer = subprocess.Popen(
        [*command, "--min-p", "0", "-o", "generation.allow_unk=true"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert writer.stdout is not None
    assert writer.stdout.read(4) == b"Once"
    assert writer.stdout.read(2)
    writer.stdout.close()
    writer.wait(60)


def test_generate_batches_and_samples(
    tinylm: Command, tiny_run: Path, tiny_lm: LanguageModel
) -> None:
    prompts = ["The dog", "Once upon a time there was"]
    options = ["--max-new-tokens", "9", "--seed", "4", "--top-k", "20", "--top-p", "1"]
    options += ["--temperature", "1.2", "--min-p", "0.01", "--repetition-penalty", "1.1"]
    status, out, _ = tinylm("generate", tiny_run, *prompts, *options, "--samples", "2")
    assert status == 0
    wanted = [prompt for prompt in prompts for _ in range(2)]
    expected = tiny_lm.generate(
        wanted,
        max_new_tokens=9,
        seed=4,
        top_k=20,
        top_p=1,
        temperature=1.2,
        min_p=0.01,
        repetition_penalty=1.1,
    )
    assert out == "\n".join(f"{result.text}\n" for result in expected)
    assert len({result.text for result in expected}) == 4


@pytest.mark.parametrize("strategy", ["greedy", "beam"])
def test_the_same_text_several_times_is_refused(
    tinylm: Command, tiny_run: Path, strategy: str
) -> None:
    message = (
        f"--samples 3 with strategy {strategy} gives the same text 3 times: --strategy sampling"
    )
    status, out, err = tinylm("generate", tiny_run, "--strategy", strategy, "--samples", "3")
    assert (status, out) == (1, "")
    assert message in err


def test_what_cannot_be_generated_is_told_before_the_prompt(
    tinylm: Command, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "machine_memory", lambda: 1000)
    status, out, err = tinylm("generate", tiny_run, "The dog", "--seed", "1")
    assert (status, out) == (1, "")
    assert "of memory" in err


def test_generate_without_a_prompt_and_greedy(tinylm: Command, tiny_run: Path) -> None:
    args = ["generate", tiny_run, "--strategy", "greedy", "--max-new-tokens", "8"]
    status, out, err = tinylm(*args)
    assert (status, err) == (0, "")
    assert out.strip()
    assert tinylm(*args, "--seed", "9")[1] == out
    assert tinylm("generate", tiny_run, "", "--temperature", "0", "--max-new-tokens", "8")[1] == out


@pytest.mark.parametrize("options", ["--strategy beam --num-beams 2", "--samples 2 --seed 1"])
def test_what_does_not_stream_shows_how_far_it_is_and_can_be_interrupted(
    tinylm: Command, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, options: str
) -> None:
    tasks: list[tuple[str, float | None]] = []
    progress: list[float] = []

    @contextmanager
    def task(
        self: TerminalConsole, description: str, total: float | None = None, brief: bool = False
    ) -> Iterator[Callable[[float], None]]:
        tasks.append((description, total))
        yield progress.append

    monkeypatch.setattr(TerminalConsole, "task", task)
    command = ["generate", tiny_run, "The dog", *options.split(), "--max-new-tokens", "6"]
    status, out, err = tinylm(*command, "-o", "generation.min_new_tokens=6")
    assert (status, err) == (0, ""), err
    assert out.startswith("The dog")
    assert tasks == [("Generating", 6)]
    assert progress == [1, 2, 3, 4, 5, 6]

    def interrupt(self: Stepper) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Stepper, "logits", interrupt)
    assert tinylm(*command) == (130, "", "tinylm: interrupted\n")


def test_generate_shows_every_hypothesis_of_beam_search_with_its_score(
    tinylm: Command, tiny_run: Path, tiny_lm: LanguageModel
) -> None:
    options = ["--strategy", "beam", "--num-beams", "4", "--length-penalty", "-0.5"]
    options += ["--max-new-tokens", "9"]
    settings = {"strategy": "beam", "num_beams": 4, "length_penalty": -0.5, "max_new_tokens": 9}
    prompts = ["The dog", "Once upon a"]
    expected = tiny_lm.generate(prompts, **settings, num_return=3)
    for result in expected:
        assert len({hypothesis.text for hypothesis in (result, *result.alternatives)}) == 3
    shown = [
        "".join(
            f"{hypothesis.score:.4f} {hypothesis.text}\n"
            for hypothesis in (result, *result.alternatives)
        )
        for result in expected
    ]
    status, out, err = tinylm("generate", tiny_run, *prompts, *options, "--num-return", "3")
    assert (status, out, err) == (0, "\n".join(shown), "")
    assert tinylm("generate", tiny_run, prompts[0], *options, "--num-return", "3")[1] == shown[0]
    assert tinylm("generate", tiny_run, prompts[0], *options)[1] == expected[0].text + "\n"
    status, _, err = tinylm("generate", tiny_run, *options, "--num-return", "5")
    assert status == 1
    assert "generation.num_return = 5 is more than generation.num_beams = 4" in err


def test_generate_notes_go_to_stderr(tinylm: Command, tiny_run: Path) -> None:
    long = "the dog saw the " * 10 + "zyxwv"
    for prompts in ([long], [long, "The dog"]):
        status, out, err = tinylm("generate", tiny_run, *prompts, "--max-new-tokens", "4")
        assert status == 0
        assert out.startswith(long)
        assert "note: not in the vocabulary, read as <unk>: zyxwv\n" in err
        assert "note: the prompt has 42 tokens, <sos> included, and the context 24" in err


def test_generate_takes_the_runs_own_settings_also_from_its_checkpoint(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)
    config = tmp_path / "run/config.yaml"
    config.write_text(config.read_text().replace("max_new_tokens: 200", "max_new_tokens: 3"))
    lm = LanguageModel.load(tiny_run)
    expected = lm.generate("The dog", max_new_tokens=3).text + "\n"
    for path in ("run", "run/checkpoints/best"):
        assert tinylm("generate", path, "The dog", "--seed", "0")[1] == expected
    longer = tinylm(
        "generate", "run", "The dog", "-o", "generation.max_new_tokens=5", "--seed", "0"
    )[1]
    assert longer == lm.generate("The dog", max_new_tokens=5).text + "\n"


def test_evaluate_json_is_json_and_progress_goes_elsewhere(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)
    status, out, err = tinylm("evaluate", "run", "--json")
    assert status == 0
    result = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert result["num_stories"] == 6
    assert set(result["perplexity"]) == {"generated", "true"}
    assert result["validation"]["perplexity"] > 1
    assert "Continuing validation stories: done" in err
    assert read_result(tmp_path / "run/results/evaluation.json") == result
    # What is done is not done again, unless it is asked for or other settings are.
    assert tinylm("evaluate", "run", "--json") == (0, out, "")
    assert "done" in tinylm("evaluate", "run", "--json", "--again")[2]
    fewer = json.loads(tinylm("evaluate", "run", "--json", "-o", "evaluation.num_stories=2")[1])
    assert fewer["num_stories"] == 2


def test_evaluate_prints_tables(tinylm: Command, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)
    status, out, _ = tinylm("evaluate", "run")
    assert status == 0
    for words in (
        "6 validation stories continued from 5 tokens",
        "perplexity, token-weighted",
        "perplexity, mean of sequences",
        "BLEU, corpus",
        "BLEU, mean of sentences",
        "distinct-2",
        "<unk> rate",
        "bits per byte",
        "BLEU signature: nrefs:1",
    ):
        assert words in out


def test_evaluate_takes_a_checkpoint_folder(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    whole = json.loads(tinylm("evaluate", tiny_run / "checkpoints/best", "--json")[1])
    last = json.loads(tinylm("evaluate", tiny_run / "checkpoints/last", "--json")[1])
    assert whole["checkpoint"] == (tiny_run / "checkpoints/best").resolve().name
    assert last["checkpoint"] == "step-30"
    assert not (tiny_run / "checkpoints/results").exists()
    # Alone, it must be told the stories; a strange config.yaml above it is not taken.
    shutil.copytree((tiny_run / "checkpoints/best").resolve(), tmp_path / "a/b")
    (tmp_path / "config.yaml").write_text("nothing: of ours")
    status, out, err = tinylm("evaluate", "a/b", "--json")
    assert (status, out) == (1, "")
    assert err == "tinylm: a/b belongs to no run: say with --data which stories to measure\n"
    settings = [s for s in overrides(tmp_path / "cache") if s.startswith(("data.", "evaluation."))]
    status, out, err = tinylm(
        "evaluate", "a/b", "--data", "stories", "--json", *[p for s in settings for p in ("-o", s)]
    )
    assert status == 0, err
    alone = json.loads(out)
    assert alone["validation"] == whole["validation"]
    assert alone["bleu"] == whole["bleu"]


def test_experiment_runs_one_and_prints_where(
    tinylm: Command, tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)
    status, out, _ = tinylm("experiment", "data", "--run", "run")
    assert status == 0
    pages = [f"run/data.{form}" for form in ("typ", "pdf", "html")]
    assert out.splitlines() == ["run/results/data.json", *pages]
    assert json.loads((tmp_path / out.splitlines()[0]).read_text())["experiment"] == "data"
    status, _, err = tinylm("experiment", "data", "--run", "run", "-o", "model.num_layers=2")
    assert status == 1
    assert "model is fixed once a run exists" in err


def test_a_streamed_text_gets_the_notes_of_a_generated_one(
    tinylm: Command, tiny_run: Path, tiny_lm: LanguageModel
) -> None:
    has_notes = []
    for seed in range(4):
        for new in (8, 22, 23, 40):  # with <sos> and two words, 22 fit into the context of 24
            expected = tiny_lm.generate("The dog", seed=seed, max_new_tokens=new).notes
            _, _, err = tinylm(
                "generate", tiny_run, "The dog", "--seed", seed, "--max-new-tokens", new
            )
            assert err == "".join(f"note: {note}\n" for note in expected)
            has_notes.append(bool(expected))
    assert set(has_notes) == {True, False}
