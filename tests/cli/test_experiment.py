"""``tinylm experiment``: a result, its figures and a few pages; what is wrong is one line."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tinylm.data import images

Command = Callable[..., tuple[int, str, str]]

SVD = (
    *("-o", "experiments.lab_svd.ranks=[2,16]", "-o", "experiments.lab_svd.competitors=2"),
    *("-o", "experiments.lab_svd.validation_windows=4", "-o", "experiments.lab_svd.steps=2"),
    *("-o", "experiments.lab_svd.stories=3"),
)
MNIST = (
    *("-o", "experiments.lab_mnist.hidden_size=8", "-o", "experiments.lab_mnist.steps=5"),
    *("-o", "experiments.lab_mnist.seeds=1", "-o", "experiments.lab_mnist.ranks=[1]"),
    *("-o", "experiments.lab_mnist.rank=2", "-o", "experiments.lab_mnist.learning_rates=[0.01]"),
)


IMAGES = ("-o", "experiments.lab_mnist.data=mnist")


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run, since the command writes into it."""
    return shutil.copytree(tiny_run, tmp_path / "run", symlinks=True)


def test_an_experiment_on_a_run(tinylm: Command, run: Path) -> None:
    status, out, err = tinylm("experiment", "lab-svd", "--run", run, *SVD)
    assert status == 0, err
    assert out.splitlines() == [
        f"{run}/results/lab-svd.json",
        *(f"{run}/lab-svd.{form}" for form in ("typ", "pdf", "html")),
    ]
    assert "Fine-tuning: done" in err
    assert (run / "lab-svd.pdf").read_bytes().startswith(b"%PDF")
    page = (run / "lab-svd.html").read_text("utf-8")
    assert f"tinylm experiment lab-svd --run {run}" in page
    assert "experiments.lab_svd.steps=2" in page
    path = run / "results/lab-svd.json"
    before = path.stat().st_mtime_ns
    # A checkpoint's folder names its run, and what is done is not done again.
    status, _, err = tinylm("experiment", "lab-svd", "--run", run / "checkpoints/best", *SVD)
    assert status == 0
    assert "Fine-tuning" not in err
    assert path.stat().st_mtime_ns == before
    assert "Fine-tuning: done" in tinylm("experiment", "lab-svd", "--run", run, *SVD, "--again")[2]
    assert path.stat().st_mtime_ns > before


def test_digits_without_data(tinylm: Command, tmp_path: Path) -> None:
    status, out, err = tinylm("experiment", "lab-mnist", *MNIST)
    assert status == 0, err
    assert out.splitlines() == [
        "runs/lab-mnist/results/lab-mnist.json",
        *(f"runs/lab-mnist/lab-mnist.{form}" for form in ("typ", "pdf", "html")),
    ]
    result = json.loads((tmp_path / "runs/lab-mnist/results/lab-mnist.json").read_text("utf-8"))
    assert result["data"]["name"] == "digits"
    page = (tmp_path / "runs/lab-mnist/lab-mnist.html").read_text("utf-8")
    assert "tinylm experiment lab-mnist --run runs/lab-mnist -o" in page


def write_mnist(folder: Path, count: int = 200, part: str = "t10k") -> None:
    """Write scikit-learn's digits as if they were MNIST's."""
    data = images.load_digits(None, 0.2, 0).train
    folder.mkdir(exist_ok=True)
    for name, content, kind in (
        (f"{part}-images-idx3-ubyte.gz", data.images[:count], 3),
        (f"{part}-labels-idx1-ubyte.gz", data.labels[:count], 1),
    ):
        header = bytes([0, 0, 8, kind]) + struct.pack(f">{kind}I", *content.shape)
        (folder / name).write_bytes(gzip.compress(header + content.tobytes()))


def test_mnist_from_a_folder(tinylm: Command, tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    there = ("experiment", "lab-mnist", "--run", "there", *IMAGES, *MNIST)
    status, out, err = tinylm(*there)
    assert status == 0, err
    assert out.splitlines()[2] == "there/lab-mnist.pdf"
    page = (tmp_path / "there/lab-mnist.html").read_text("utf-8")
    assert "--run there -o experiments.lab_mnist.data=mnist -o" in page
    # Other images under the same name are seen.
    write_mnist(tmp_path / "mnist", 180)
    _, _, err = tinylm(*there)
    assert "Fine-tuning by every method: done" in err
    _, _, err = tinylm(*there)
    assert "Fine-tuning by every method" not in err


def test_mnist_is_fetched_where_asked(
    tinylm: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(folder: Path, progress: Callable[[float], None]) -> list[Path]:
        write_mnist(folder)
        progress(4)
        return [folder / "t10k-images-idx3-ubyte.gz"]

    monkeypatch.setattr(images, "download_mnist", fetch)
    status, out, err = tinylm("data", "--mnist", "runs/.cache/mnist")
    assert status == 0, err
    assert out.splitlines() == ["runs/.cache/mnist/t10k-images-idx3-ubyte.gz"]
    assert (tmp_path / out.strip()).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lab-svd"], "say with --run which run it works on"),
        (["lab-svd", "--run", "nowhere"], "nowhere does not exist; `tinylm train` makes a run"),
        (["lab-mnist", "-o", "experiments.lab_mnist.data=nowhere"],
         "nowhere is no folder: give one with MNIST's IDX files"),
        (["lab-mnist", "-o", "experiments.lab_mnist.data=."],
         "has no IDX files: expected t10k-images-idx3-ubyte(.gz)"),
        (["lab-mnist", "-o", "experiments.lab_mnist.rank=11"], "experiments.lab_mnist.rank"),
        (["lab-mnist", "-o", "experiments.lab_mnist.ranks=[1,12]"], "experiments.lab_mnist.ranks"),
        (["lab-mnist", "-o", "experiments.lab_mnist.hard_classes=10"], "must be at most 9"),
        (["lab-mnist", "-o", "experiments.lab_mnist.test_share=0.9999"], "too few to hold out"),
        (["lab-mnist", "-o", "model.num_layers=2"], "does not depend on it"),
        (["lab-mnst"], "did you mean lab-mnist"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(tinylm: Command, arguments: list[str], message: str) -> None:
    status, out, err = tinylm("experiment", *arguments)
    assert status in (1, 2)
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_corrupt_files_are_one_line(tinylm: Command, tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    write_mnist(folder)
    path = folder / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for content, message in (
        (whole[:-200], "/mnist/t10k-images-idx3-ubyte.gz"),
        (gzip.compress(gzip.decompress(whole)[:-9]), "it was cut short or changed"),
        (b"not an image", "it does not start with two zero bytes"),
    ):
        path.write_bytes(content)
        status, out, err = tinylm("experiment", "lab-mnist", *IMAGES, *MNIST)
        assert status == 1
        assert out == ""
        assert message in err
        assert err.count("\n") == 1


def test_a_damaged_result_is_told_and_made_again(tinylm: Command, run: Path) -> None:
    path = run / "results/lab-svd.json"
    path.write_text("{", "utf-8")
    status, _, err = tinylm("experiment", "lab-svd", "--run", run, *SVD)
    assert status == 0, err
    assert f"{path}: not JSON" in err
    assert "this is done now" in err
    assert json.loads(path.read_text("utf-8"))["experiment"] == "lab-svd"


def test_a_run_without_a_checkpoint_is_one_line(tinylm: Command, run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    status, out, err = tinylm("experiment", "lab-svd", "--run", run, *SVD)
    assert status == 1
    assert out == ""
    assert str(run) in err
    assert err.count("\n") == 1


def test_a_setting_that_is_fixed_is_refused(tinylm: Command, run: Path) -> None:
    status, _, err = tinylm("experiment", "lab-svd", "--run", run, "-o", "model.num_layers=2")
    assert status == 1
    assert "model is fixed once a run exists" in err
