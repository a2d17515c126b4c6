"""No control character of a user's text or a model's output reaches a terminal, HTML or Typst."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from datetime import datetime
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from tests.cli.conftest import Command, tinylm
from tinylm.cli import console, output
from tinylm.config import ModelConfig
from tinylm.errors import ConfigError
from tinylm.experiments.attention import page as attention_html
from tinylm.language_model import LanguageModel
from tinylm.model.decoder import DecoderLM
from tinylm.names import checked_name
from tinylm.printable import REPLACEMENT, in_json, in_line, printable
from tinylm.report import html, typst
from tinylm.report.blocks import Code, Document, Heading, Paragraph, Sample, literal
from tinylm.report.blocks import Table as Rows
from tinylm.tokenizers.word import WordTokenizer

__all__ = ["tinylm"]  # the fixture

C0_AND_C1 = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
BIDI = [
    chr(code)
    for code in range(0x110000)
    if unicodedata.bidirectional(chr(code)) in {*("LRE", "RLE", "LRO", "RLO", "PDF"),
                                                *("LRI", "RLI", "FSI", "PDI")}
] + ["\u061c", "\u200e", "\u200f"]  # fmt: skip
ALL = [*C0_AND_C1, *BIDI]
SHOWN = {"\n", "\t"}
HOSTILE = "".join(f"a{control}b" for control in ALL if control != "\0")
"""Every control character but NUL, which no argument of a process holds."""


def controls(text: str) -> set[str]:
    return set(text) & set(ALL) - SHOWN


def test_there_are_as_many_as_unicode_says() -> None:
    assert len(C0_AND_C1) == 32 + 1 + 32
    assert len(BIDI) == 9 + 3
    assert all(unicodedata.category(control) == "Cc" for control in C0_AND_C1)


@pytest.mark.parametrize("control", ALL, ids=lambda c: f"{ord(c):04x}")
def test_every_control_character_is_replaced(control: str) -> None:
    expected = control if control in SHOWN else "\n" if control in "\r\x85" else REPLACEMENT
    assert printable(f"a{control}b") == f"a{expected}b"
    assert not controls(in_line(control))
    assert "\n" not in in_line(control)
    quoted = in_json(json.dumps([f"a{control}b"], ensure_ascii=False))
    assert not controls(quoted)
    assert json.loads(quoted) == [f"a{control}b"]


@given(st.text())
def test_other_text_stays_as_it_is(text: str) -> None:
    kept = "".join(c for c in text if c not in ALL and c not in "\u2028\u2029\ufffe\uffff")
    assert printable(kept) == kept
    assert printable(printable(text)) == printable(text)
    assert not controls(printable(text))


def test_lines_stay_lines() -> None:
    assert printable("a\r\nb\rc\n\td\u2028e") == "a\nb\nc\n\td\ne"
    assert in_line("a\r\nb\tc") == "a\\nb\\tc"
    assert printable("\ud800\uffff👩\u200d👧") == f"{REPLACEMENT * 2}👩\u200d👧"


# --- the terminal ---


def test_results_and_progress_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(HOSTILE + "\0")
    output.say_json({HOSTILE: HOSTILE})
    terminal = console.Terminal()
    terminal.print(HOSTILE, style="bold")
    table = Table(HOSTILE)
    table.add_row(f"[red]{HOSTILE}")
    terminal.print(table)
    progress = console.TerminalConsole()
    progress.note(HOSTILE)
    progress.warn(HOSTILE)
    for total in (None, 2.0):
        with progress.task(HOSTILE, total) as done:
            done(1.0)
    out, err = capsys.readouterr()
    assert not controls(out + err)
    assert out.count("a") > 5 * len(ALL)
    assert err.count("a") >= 4 * (len(ALL) - 1)


def test_a_bar_on_a_terminal_moves_the_cursor_but_no_text_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    progress = console.TerminalConsole()
    assert progress.terminal.is_terminal
    with progress.task("\x1b]0;title\x07 \x9b2J", 2.0) as done:
        done(1.0)
    err = capsys.readouterr().err
    assert "\x1b[" in err  # Rich's own
    assert "\x1b]" not in err
    assert not controls(err) - {"\x1b", "\r"}


def test_error_messages(tinylm: Command) -> None:
    for arguments in (
        ["generate", HOSTILE],
        [HOSTILE],
        [f"--{HOSTILE}"],
        ["config", "-o", HOSTILE],
        ["config", "-o", f"model.{HOSTILE}=1"],
        ["config", "-o", f"generation.strategy={HOSTILE}"],
    ):
        status, out, err = tinylm(*arguments)
        assert status != 0
        assert not controls(out + err)
        assert len(err.splitlines()) == 1


def hostile_model() -> LanguageModel:
    """Return a model whose vocabulary holds every control character that is a token."""
    words = [control for control in ALL if not control.isspace()]
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=4 + len(words),
        hidden_size=8,
        num_layers=1,
        num_heads=2,
        context_length=64,
    )
    return LanguageModel(DecoderLM(config), WordTokenizer(words))


def test_generated_text(tinylm: Command, tmp_path: Path) -> None:
    lm = hostile_model()
    lm.save(tmp_path / "run" / "checkpoints")
    options = ["--max-new-tokens", "60", "--seed", "1", "-o", "generation.temperature=2"]
    generated = lm.generate(HOSTILE, max_new_tokens=60, seed=1, temperature=2.0)
    assert len(controls(generated.text[len(HOSTILE) :])) > 10
    for extra in ([], ["--samples", "2"]):
        status, out, err = tinylm("generate", "run", HOSTILE, *options, *extra)
        assert status == 0
        assert out.count(REPLACEMENT) > len(ALL)
        assert not controls(out + err)
        assert "read as <unk>" in err


def test_what_the_terminal_cannot_show_is_replaced(tmp_path: Path) -> None:
    hostile_model().save(tmp_path / "run" / "checkpoints")
    done = subprocess.run(
        [sys.executable, "-c", "from tinylm.cli import main; main()", "generate", "run",
         "The 🐶 dog", "--max-new-tokens", "2"],
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode("cp1252").startswith("The ? dog")


@pytest.mark.parametrize("control", ALL, ids=lambda c: f"{ord(c):04x}")
def test_a_name_holds_no_control_character(control: str) -> None:
    with pytest.raises(ConfigError) as error:
        checked_name(f"a{control}b", "--name")
    assert not controls(str(error.value))


# --- the pages ---


def document() -> Document:
    text = literal(HOSTILE + "\0")
    return Document(
        title=HOSTILE,
        author=HOSTILE,
        date=HOSTILE,
        abstract=text,
        footer=HOSTILE,
        blocks=(
            Heading(1, text),
            Paragraph(f"{text} *{text}*"),
            Code(HOSTILE, "lst:a", text),
            Sample(HOSTILE, HOSTILE, HOSTILE, HOSTILE),
            Rows("tab:a", text, (text,), ((text,),), "l", text),
        ),
    )


def test_pages_and_documents(tmp_path: Path) -> None:
    for page in (html.page(document(), tmp_path), typst.source(document(), datetime(2026, 1, 1))):
        assert not controls(page)
        assert page.count(REPLACEMENT) > 10 * len(ALL)


def test_the_attention_page() -> None:
    head = {
        **dict.fromkeys(("role", "second", "interpretation", "worth_told"), HOSTILE),
        "layer": 0,
        "head": 0,
        "shares": {},
        "distance": 1.0,
        "entropy": 0.5,
        "worth": [0.1],
    }
    result = {
        "stories": 1,
        "heads": [head],
        "sentences": [{"words": [HOSTILE], "patterns": [[[[1.0]]]], "text": HOSTILE}],
    }
    page = attention_html.attention_html(result, HOSTILE)
    assert not controls(page)
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert not controls(json.dumps(data, ensure_ascii=False))
