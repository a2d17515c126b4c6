"""``tinylm tokenizer``: train, encode, decode, export, import."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from tests.conftest import tiny_settings
from tinylm.config import load_config
from tinylm.data.corpora import open_corpus
from tinylm.registry import TOKENIZERS
from tinylm.tokenizers import files

Command = Callable[..., tuple[int, str, str]]
TEXT = "The dog ran home. 👩‍👧 It's\n\n fine!\r\n"
SMALL = ("--data", "stories", "-o", "data.train_stories=60")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {"folder": tmp_path_factory.mktemp("tokenizers")}


@pytest.fixture
def made(tinylm: Command, trained: dict[str, Path]) -> Callable[[str], Path]:
    def make(kind: str) -> Path:
        if kind not in trained:
            path = trained["folder"] / f"{kind}.json"
            status, _, err = tinylm("tokenizer", "train", "--kind", kind, *SMALL, "--out", path)
            assert status == 0, err
            trained[kind] = path
        return trained[kind]

    return make


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_every_kind_is_trained_encodes_and_decodes(
    tinylm: Command, made: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    path = made(kind)
    tokenizer = files.load(path)
    text = tmp_path / "text.txt"
    text.write_bytes(TEXT.encode())
    status, out, err = tinylm("tokenizer", "encode", path, "--file", text)
    assert status == 0, err
    ids = tokenizer.encode(TEXT)
    assert out == " ".join(map(str, ids)) + "\n"
    (tmp_path / "ids").write_text(out)
    back = tmp_path / "back.txt"
    status, out, err = tinylm("tokenizer", "decode", path, "--file", tmp_path / "ids")
    assert (status, err) == (0, "")
    assert out == tokenizer.decode(ids).replace("\r\n", "\n") + "\n"
    status, out, err = tinylm("tokenizer", "decode", path, "--file", "ids", "--out", back)
    assert (status, out) == (0, "")
    assert back.read_bytes() == tokenizer.decode(ids).encode()
    if tokenizer.lossless:
        assert back.read_bytes() == TEXT.encode()
    _, out, _ = tinylm("tokenizer", "encode", path, "--file", text, "--tokens")
    assert out.split()[0] in ("The", "the", "T")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_vocabulary_is_as_large_as_asked(tinylm: Command, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it.json"
    given = ("tokenizer", "train", "--kind", kind, *SMALL, "--out", path, "--vocab-size", 325)
    status, out, err = tinylm(*given)
    if not TOKENIZERS.load(kind).size_setting:
        assert status == 1
        assert err == "tinylm: --vocab-size has no effect on a tokenizer of bytes\n"
        return
    assert status == 0, err
    assert ": 325 types, of which 4 are special tokens" in out
    assert files.load(path).vocab_size == 325


def test_the_training_split_alone_decides(tinylm: Command, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a-train.txt").write_text(
        "zebra zebra zebra\n<|endoftext|>\nzebra\n<|endoftext|>\n"
    )
    (tmp_path / "text/a-valid.txt").write_text("giraffe giraffe giraffe\n<|endoftext|>\n")
    status, _, err = tinylm("tokenizer", "train", "--data", "text", "--out", "it.json")
    assert status == 0, err
    tokenizer = files.load(tmp_path / "it.json")
    tokens = {tokenizer.token(i) for i in range(tokenizer.vocab_size)}
    assert "Ġzebra" in tokens
    assert not {"gi", "af", "ff", "fe"} & tokens


def test_exported_and_imported(
    tinylm: Command, made: Callable[[str], Path], tmp_path: Path
) -> None:
    path = made("bpe")
    status, out, err = tinylm("tokenizer", "export", path, "--out", "hf.json")
    assert (status, out, err) == (0, "hf.json\n", "")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "hf.json"))
    ours = files.load(path)
    assert theirs.encode(TEXT).ids == ours.encode(TEXT)
    status, out, err = tinylm("tokenizer", "import", "hf.json", "--out", "again.json")
    assert status == 0, err
    assert "special tokens <pad>, <unk>, <sos>, <eos>" in out
    assert "ids are not those" not in out
    assert files.load(tmp_path / "again.json").fingerprint() == ours.fingerprint()

    content: dict[str, Any] = json.loads((tmp_path / "hf.json").read_text("utf-8"))
    content["added_tokens"][0]["content"] = "<|endoftext|>"
    content["model"]["vocab"].pop("<pad>")
    (tmp_path / "other.json").write_text(json.dumps(content))
    status, out, err = tinylm("tokenizer", "import", "other.json", "--out", "third.json")
    assert status == 0, err
    assert "ids are not those of the file: 0 to 3 are <pad>, <unk>, <sos> and <eos> here" in out
    assert files.load(tmp_path / "third.json").special_tokens[4:] == ("<|endoftext|>",)


REFUSED: list[tuple[tuple[Any, ...], str]] = [
    (
        ("train", *SMALL, "--out", "x.json", "--vocab-size", 259),
        "tokenizer.vocab_size = 259 has no room for the alphabet, 256 bytes beside 4 special",
    ),
    (
        ("train", *SMALL, "--out", "x.json", "--kind", "bpf"),
        "unknown tokenizer 'bpf'; did you mean",
    ),
    (("train", *SMALL, "--out", "."), "--out . is a folder: give the name of a file"),
    (
        ("train", *SMALL, "--out", "x.json", "-o", "max_size=300"),
        "tokenizer.max_size has no effect with tokenizer.kind = bpe: set tokenizer.vocab_size or",
    ),
    (("train", *SMALL, "--out", "x.json", "-o", "splt=gpt2"), "did you mean tokenizer.split?"),
    (
        ("train", *SMALL, "--out", "x.json", "-o", "kind=word"),
        "--kind says which tokenizer is trained",
    ),
    (("train", "--data", "nowhere", "--out", "x.json"), "nowhere"),
    (("encode", "none.json", "--file", "text"), "none.json: cannot be read (No such file"),
    (("encode", "text", "--file", "text"), "text: not JSON"),
    (("encode", "hf.json", "--file", "text"), "hf.json: not a tokenizer file ("),
    (("encode", "bpe.json", "--file", "none"), "none: cannot be read (No such file or directory)"),
    (("encode", "bpe.json", "--file", "."), ".: cannot be read (Is a directory)"),
    (("encode", "bpe.json", "--file", "binary"), "binary: not UTF-8 at byte 1"),
    (("decode", "bpe.json", "--file", "text"), "text: 'A', number 1, is no id of the tokenizer's"),
    (
        ("decode", "bpe.json", "--file", "far"),
        "far: '999999', number 2, is no id of the tokenizer's, 0 to ",
    ),
    (("decode", "bpe.json", "--file", "none"), "none: cannot be read"),
    (("export", "word.json", "--out", "x.json"), "a tokenizer of words cannot be exported"),
    (("import", "bpe.json", "--out", "x.json"), "bpe.json: not a file of Hugging Face tokenizers"),
    (
        ("import", "wordlevel.json", "--out", "x.json"),
        "model.type is 'WordLevel', but BPE or Unigram or WordPiece is needed",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_cannot_be_used_is_one_line(
    tinylm: Command,
    made: Callable[[str], Path],
    tmp_path: Path,
    arguments: tuple[Any, ...],
    message: str,
) -> None:
    for kind in ("bpe", "word"):
        shutil.copy(made(kind), tmp_path / f"{kind}.json")
    (tmp_path / "text").write_text("A dog.")
    (tmp_path / "binary").write_bytes(b"a\xff\xfe")
    (tmp_path / "far").write_text("5 999999")
    (tmp_path / "hf.json").write_text('{"version": "1.0"}')
    model = {"type": "WordLevel", "vocab": {}}
    (tmp_path / "wordlevel.json").write_text(json.dumps({"added_tokens": [], "model": model}))
    status, out, err = tinylm("tokenizer", *arguments)
    assert status == 1
    assert out == ""
    line = err.splitlines()[-1]
    assert line.startswith("tinylm: ")
    assert message in line
    assert not (tmp_path / "x.json").exists()


def test_what_is_read_is_not_written_over(
    tinylm: Command, made: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    text, ids, own = folder / "text.txt", tmp_path / "ids", tmp_path / "own.json"
    text.write_text("One story.\n\nAnother story.\n" * 20)
    ids.write_text("5 6 7\n")
    shutil.copy(made("bpe"), own)
    theirs = tmp_path / "theirs.json"
    assert tinylm("tokenizer", "export", own, "--out", theirs)[0] == 0
    link = tmp_path / "link.json"
    link.symlink_to(own)
    before = {path: path.read_bytes() for path in (text, ids, own, theirs)}
    for words in (
        ("train", "--data", text, "--out", text),
        ("train", "--data", folder, "--out", text),
        ("export", own, "--out", own),
        ("export", own, "--out", link),
        ("import", theirs, "--out", theirs),
        ("decode", own, "--file", ids, "--out", ids),
        ("decode", own, "--file", ids, "--out", own),
    ):
        status, out, err = tinylm("tokenizer", *words)
        assert (status, out) == (1, ""), words
        assert err == f"tinylm: --out {words[-1]} is a file that is read: give another name\n"
    assert {path: path.read_bytes() for path in before} == before


def test_a_text_that_is_piped_in(
    tinylm: Command, made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made("bpe")
    (tmp_path / "piped").write_text("A dog.\n")
    with (tmp_path / "piped").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        status, out, err = tinylm("tokenizer", "encode", path)
    assert (status, err) == (0, "")
    assert out.split() == [str(i) for i in files.load(path).encode("A dog.")]
    (tmp_path / "empty").write_text("")
    with (tmp_path / "empty").open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        for command, what in (("encode", "text"), ("decode", "ids")):
            status, _, err = tinylm("tokenizer", command, path)
            assert status == 1
            assert err.startswith(f"tinylm: no {what}: give --file")


@pytest.mark.parametrize(
    ("kind", "setting"),
    [
        ("bpe", "split=gpt2"),
        ("bpe", "split=cl100k"),
        ("unigram", "split=gpt2"),
        ("unigram", "byte_fallback=false"),
        ("wordpiece", "lowercase=true"),
    ],
)
def test_a_model_is_trained_on_pieces_generates_and_is_evaluated(
    tinylm: Command, tmp_path: Path, kind: str, setting: str
) -> None:
    settings = [*tiny_settings(tmp_path / "cache"), f"tokenizer.kind={kind}", "data.corpus=stories"]
    settings += ["tokenizer.vocab_size=400", f"tokenizer.{setting}"]
    overrides = [word for each in settings for word in ("-o", each)]
    status, _, err = tinylm("train", "--name", "it", *overrides)
    assert status == 0, err
    status, out, err = tinylm("generate", "runs/it", "Once upon", "--seed", 1)
    assert status == 0, err
    assert out.startswith("Once upon")
    status, out, err = tinylm("evaluate", "runs/it", "--json")
    assert status == 0, err
    measured = json.loads(out)
    saved = next((tmp_path / "runs/it/checkpoints").glob("step-*/tokenizer.json"))
    tokenizer = files.load(saved)
    assert tokenizer.vocab_size == 400
    # Bits per byte are the loss over the bytes of the text itself, for every text is kept.
    texts = list(open_corpus(load_config(overrides=settings).data).validation())
    split_of = measured["validation"]
    framed = sum(len(ids) + 2 for ids in tokenizer.encode_batch(texts))  # <sos> and <eos>
    assert split_of["tokens"] == framed - 1
    nats = split_of["loss"] * split_of["tokens"]
    text_bytes = sum(len(text.encode()) for text in texts)
    assert split_of["bits_per_byte"] == pytest.approx(nats / text_bytes / math.log(2), rel=1e-9)
