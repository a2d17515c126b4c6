"""The page of `tinylm explore` in Chromium, used as a person would: by mouse, keys and typing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.report.browser import Browser, chromium
from tests.training.tiny import tiny_run
from tinylm.experiments.context import SilentConsole, open_run, run_experiment
from tinylm.experiments.exploring.measure import explored
from tinylm.experiments.exploring.page import explore_html

TELEPHONE, DESK = 390, 1280
HOSTILE = "</script><b onclick=\"document.title='x'\">the dog</b> & 'cat'"
PAIRS = [
    {"clean": f"The {a} saw {a}", "corrupted": f"The {b} saw {b}", "answer": c, "wrong": d}
    for a, b, c, d in (("boy", "girl", "girl", "boy"), ("girl", "boy", "boy", "girl"))
]
TEXTS = ["The dog saw the cat and the cat saw the dog.", HOSTILE]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run of three layers with four snapshots, which learns enough to change between them."""
    folder = tmp_path_factory.mktemp("explore")
    settings = (
        *("model.num_layers=3", "model.context_length=40", "model.num_heads=4"),
        *("training.snapshots=4", "training.learning_rate=2e-2", "training.validations=4"),
        *("training.log_interval=1", "training.seed=2", "report.prompts=[The dog, Once]"),
    )
    run_experiment("training", tiny_run(folder / "run", folder / "cache", *settings))
    pairs = folder / "pairs.jsonl"
    pairs.write_text("\n".join(map(json.dumps, PAIRS)), "utf-8")
    return explored(open_run(folder / "run", SilentConsole()), TEXTS, pairs)


@pytest.fixture(scope="module")
def page(measured: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "explore.html"
    command = "tinylm explore runs/try 'The dog'"
    path.write_text(explore_html(measured, f"runs/{HOSTILE}", command), "utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(params=[TELEPHONE, DESK])
def opened(request: pytest.FixtureRequest, browser: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened; whatever is done with it, it stays in order."""
    browser.open(page, request.param)
    yield browser
    assert browser.run("return document.documentElement.clientWidth") == request.param
    check_order(browser)
    assert browser.complaints() == []


def check_order(browser: Browser) -> None:
    """Nothing is cut, lies over something else or beyond the edge."""
    browser.run("window.scrollTo(0, 0)")  # the bar lies over what is scrolled below it
    assert browser.faults() == []
    assert browser.overlaps() == []


def text(browser: Browser, selector: str) -> str:
    return str(browser.run(f"return document.querySelector({selector!r}).textContent"))


def texts(browser: Browser, selector: str) -> list[str]:
    script = f"return [...document.querySelectorAll({selector!r})].map(e => e.textContent)"
    return list(browser.run(script))


def drawing(browser: Browser) -> list[str]:
    """All that depends on the step, as it is drawn."""
    return list(
        browser.run("""
        const canvases = [...document.querySelectorAll("#grid canvas")].map(c => c.toDataURL());
        const html = ["now", "curve", "map", "strip", "looks", "lens", "lens-cell", "attribution",
            "samples", "scores", "composition", "course", "preference", "stream",
            "heads"].map(id => at(id).innerHTML);
        return [...html, canvases.join()]""")
    )


def focused(browser: Browser) -> str:
    return str(browser.run("return document.activeElement.textContent"))


# --- time ---


def test_the_slider_moves_everything(opened: Browser) -> None:
    """At the end, and dragged to the beginning: every part of the page is another."""
    assert text(opened, "#now").startswith("Step 12 of 12")
    end = drawing(opened)
    opened.drag("#slider", 0.99, 0.01)
    assert text(opened, "#now") == "Step 0 of 12"
    beginning = drawing(opened)
    assert all(before != now for before, now in zip(end, beginning, strict=True))
    opened.drag("#slider", 0.01, 0.27)
    assert text(opened, "#now") == "Step 1 of 12"


def test_the_slider_by_keys(opened: Browser, measured: dict[str, Any]) -> None:
    steps = [moment["step"] for moment in measured["moments"]]
    assert {0, 1, 3, 12} <= set(steps)  # the snapshots
    opened.click("#slider")
    opened.press(Keys.HOME)
    for step in steps:
        assert text(opened, "#now").startswith(f"Step {step} of 12")
        said = opened.run("return at('slider').getAttribute('aria-valuetext')")
        assert said.startswith(text(opened, "#now"))
        assert "loss in training" in said
        opened.press(Keys.ARROW_RIGHT)
    opened.click("#grid button", 3)
    opened.press("[", "[")
    assert text(opened, "#now").startswith(f"Step {steps[-3]} of 12")
    opened.press("]")
    assert text(opened, "#now").startswith(f"Step {steps[-2]} of 12")


def test_a_click_on_the_curve_goes_there(opened: Browser) -> None:
    opened.drag("#curve", 0.12, 0.12)
    assert text(opened, "#now") == "Step 0 of 12"


def test_answers_are_what_was_measured(opened: Browser, measured: dict[str, Any]) -> None:
    """By mouse and keys: another question, a place of the stream, a head, the circuit."""
    now = measured["moments"][-1]["answers"]
    assert texts(opened, "#prompts mark") == ["boy", "boy", "girl", "girl"]
    assert texts(opened, "#prompts strong") == ["girl", "boy"]
    opened.run("at('question').value = 1; at('question').dispatchEvent(new Event('change'))")
    assert texts(opened, "#prompts mark") == ["girl", "girl", "boy", "boy"]
    assert f"by {abs(now[1]['clean']):.2f} after the first prompt" in text(opened, "#preference")
    rows = [
        [cell.replace("−", "-") for cell in texts(opened, f"#stream tr:nth-child({n}) td")]
        for n in range(1, len(measured["places"]) + 1)
    ]
    assert [[int(cell) for cell in row] for row in rows[::-1]] == now[1]["stream"]
    opened.click("#stream button", 0)
    opened.press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT)
    place, share = measured["places"][-2], now[1]["stream"][-2][1]
    said = text(opened, "#spot").replace("−", "-")
    assert said.startswith(f"The stream after “{place}” at “saw”, put into")
    assert f"takes it {share} % of the way" in said
    values = [cell.replace("−", "-") for cell in texts(opened, "#heads td")]
    wanted = [[column[head] for column in now[1]["heads"]] for head in range(12)]
    assert [int(value) for value in values] == [value for row in wanted for value in row]
    opened.click("#grid button", 6)
    assert text(opened, "#heads tr.chosen th") == "2.3"
    circuit = now[1]["circuit"]
    assert len(texts(opened, "#circuit path")) == len(circuit["edges"])
    if circuit["count"] is not None:
        assert text(opened, "#circuit-size").startswith(f"{circuit['count']} of {circuit['of']}")


def test_what_is_drawn_is_what_was_measured(opened: Browser, measured: dict[str, Any]) -> None:
    opened.drag("#slider", 0.99, 0.01)
    opened.click("#grid button", 6)  # layer 2, head 3
    opened.click("#strip button", 4)
    moment = measured["moments"][0]
    sentence, words = moment["sentences"][0], measured["sentences"][0]["words"]
    shares = opened.run("""
        const weight = weights(1, 2);
        return [...words().keys()].map(key => weight(4, key))""")
    assert sum(shares) == pytest.approx(1, abs=0.02)
    assert len(shares) == len(words)
    assert text(opened, "#looks").startswith(f"Layer 2, head 3: “{words[4]}” (word 5) looks at")
    values = [part[4] for part in sentence["attribution"]]
    told = [value.replace("\u2212", "-") for value in texts(opened, ".part > :last-child")]
    assert [float(value) for value in told] == pytest.approx([*values, sum(values)], abs=0.006)
    top = [measured["words"][at[0][0]] for at in sentence["lens"][-1][0]]
    row = texts(opened, "#lens tbody tr:first-child button")
    assert [cell.rpartition("%")[0].rstrip("0123456789<\xa0") for cell in row] == top
    kept = [table[1][2] for table in moment["scores"]]
    assert [float(value) for value in texts(opened, "#scores tr.chosen button")] == pytest.approx(
        kept, abs=0.006
    )
    assert texts(opened, ".sample strong") == [s["begun"] for s in moment["samples"]]


# --- choosing ---


def test_heads_and_words_by_mouse_and_keys(opened: Browser) -> None:
    opened.click("#grid button", 5)
    assert text(opened, "#head-name") == "Layer 2, head 2"
    opened.press(Keys.ARROW_DOWN)
    assert text(opened, "#head-name") == "Layer 3, head 2"
    opened.press(Keys.ARROW_RIGHT)
    assert text(opened, "#head-name") == "Layer 3, head 3"
    assert focused(opened) == "3.3"
    opened.click("#strip button", 2)
    assert "(word 3) looks at" in text(opened, "#looks")
    opened.press(Keys.ARROW_RIGHT)
    assert "(word 4) looks at" in text(opened, "#looks")
    opened.hover("#strip button", 1)
    assert "(word 2) looks at" in text(opened, "#looks")
    opened.hover("h1")
    assert "(word 4) looks at" in text(opened, "#looks")
    opened.click("#map rect", 1)  # the second row begins there
    assert "(word 2) looks at" in text(opened, "#looks")


def test_the_lens_by_mouse_and_keys(opened: Browser) -> None:
    opened.click("#lens tbody tr:nth-child(2) button", 3)
    places = texts(opened, "#lens tbody th")
    assert f"at “{places[1]}”" in text(opened, "#lens-cell")
    opened.press(Keys.ARROW_DOWN)
    assert f"at “{places[2]}”" in text(opened, "#lens-cell")
    word = text(opened, "#strip button[aria-pressed=true]")
    assert text(opened, "#lens-cell").startswith(f"After “{word}”")
    assert word == text(opened, "#lens thead .here")
    assert f"after “{word}”" in text(opened, "#attribution-of")
    seen = opened.run("""
        const cell = document.activeElement.getBoundingClientRect();
        const box = at("lens").parentElement.getBoundingClientRect();
        return [cell.left - box.left, box.right - cell.right]""")
    assert min(seen) >= -1


def test_scores_by_mouse_keys_and_list(opened: Browser) -> None:
    opened.click("#scores tbody tr:nth-child(3) button", 1)
    assert text(opened, "#head-name") == "Layer 1, head 3"
    assert opened.run("return at('score').value") == "1"
    opened.press(Keys.ARROW_DOWN)
    assert text(opened, "#head-name") == "Layer 1, head 4"
    opened.run("at('score').value = 2; at('score').dispatchEvent(new Event('change'))")
    assert opened.run("return at('course').getAttribute('aria-label')").startswith("previous token")


# --- sentences ---


def test_a_sentence_is_found_by_typing(opened: Browser) -> None:
    opened.click("#find")
    opened.press(*"CAT saw")
    assert texts(opened, "#choices button") == [TEXTS[0]]
    opened.press(*" zebra's")
    assert texts(opened, "#choices button") == []
    assert "holds measurements and no model" in text(opened, "#missing")
    assert text(opened, "#command") == ("tinylm explore runs/try 'The dog' 'CAT saw zebra'\\''s'")
    check_order(opened)
    opened.press(*[Keys.BACKSPACE] * 20)
    assert len(texts(opened, "#choices button")) == len(texts(opened, "#choices button")) > 3
    assert not opened.run("return at('missing').checkVisibility()")
    opened.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert opened.run("return state.sentence") == 1
    assert focused(opened) == HOSTILE


def test_text_of_a_user_stays_text(opened: Browser, measured: dict[str, Any]) -> None:
    opened.click("#choices button", 1)
    assert texts(opened, "#strip button") == [
        word if len(word) <= 14 else f"{word[:13]}…" for word in measured["sentences"][1]["words"]
    ]
    assert HOSTILE in text(opened, "h1")
    assert opened.run("return document.querySelectorAll('b, [onclick]').length") == 0


def test_every_sentence_and_step_is_in_order(opened: Browser, measured: dict[str, Any]) -> None:
    for sentence in range(len(measured["sentences"])):
        for moment in (0, len(measured["moments"]) - 1):
            opened.run(f"chooseSentence({sentence}); chooseMoment({moment})")
            check_order(opened)


def test_playing_ends_at_the_last_step(opened: Browser, measured: dict[str, Any]) -> None:
    opened.run("window.setInterval = (call) => { window.tick = call; return 7; }")
    opened.click("#play")
    assert text(opened, "#now") == "Step 0 of 12"
    assert text(opened, "#play") == "Pause"
    for step in [moment["step"] for moment in measured["moments"][1:]]:
        opened.run("tick()")
        assert text(opened, "#now").startswith(f"Step {step} of 12")
    assert text(opened, "#play") == "Play"


# --- how it looks ---


def test_whatever_has_the_focus_is_seen(opened: Browser) -> None:
    """Each stop of the Tab key has a name, an outline, and is not hidden by the bar above."""
    opened.run("window.scrollTo(0, 0); document.activeElement.blur()")
    stops = []
    for _ in range(40):
        opened.press(Keys.TAB)
        stop = opened.run("""
            const e = document.activeElement;
            if (e === document.body) return null;
            const box = e.getBoundingClientRect(), bar = at("time").getBoundingClientRect();
            return [e.id || e.closest("[id]").id, getComputedStyle(e).outlineStyle,
                at("time").contains(e) || box.bottom > bar.bottom,
                (e.ariaLabel || e.textContent || e.labels?.[0]?.textContent || "").trim()]""")
        if stop is None:
            break
        name, outline, visible, label = stop
        assert outline != "none" and visible and label, stop
        stops.append(name)
    wanted = ["play", "slider", "find", "choices", "strip", "grid", "lens", "score", "scores"]
    assert [stop for stop in stops if stop in wanted] == wanted


def test_in_the_dark(opened: Browser) -> None:
    """Colors change with the reader's wish, and letters stay apart from what they stand on."""
    light = drawing(opened)
    opened.dark(True)
    try:
        assert opened.run("return getComputedStyle(document.body).backgroundColor") == (
            "rgb(13, 17, 23)"
        )
        assert drawing(opened)[-1] != light[-1]
        contrasts = opened.run("""
            const luminance = color => {
              const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
                .map(x => x <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
              return .2126 * r + .7152 * g + .0722 * b;
            };
            return [...document.querySelectorAll("#strip button, #lens button, #scores button")]
              .map(e => getComputedStyle(e)).map(s => [s.color, s.backgroundColor].map(luminance))
              .map(pair => (Math.max(...pair) + .05) / (Math.min(...pair) + .05))""")
        assert min(contrasts) > 4.5
    finally:
        opened.dark(False)


def test_one_step_alone_has_no_slider(
    browser: Browser, measured: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "alone.html"
    alone = {**measured, "moments": measured["moments"][-1:]}
    path.write_text(explore_html(alone, "runs/alone", "tinylm explore runs/alone"), "utf-8")
    browser.open(path, TELEPHONE)
    assert "training.snapshots" in text(browser, "#about")
    hidden = "['slider', 'play', 'course'].map(id => at(id).checkVisibility())"
    assert browser.run(f"return {hidden}") == [False] * 3
    curves = browser.run("return [...document.querySelectorAll('#curve path')]"
                         ".map(path => path.getBBox().width)")  # fmt: skip
    assert len(curves) == 2 and min(curves) > 0.5 * TELEPHONE  # the loss over all steps
    assert text(browser, "#head-name") == "Layer 1, head 1"
    check_order(browser)
    assert browser.complaints() == []


@pytest.mark.parametrize(
    ("markup", "said"),
    [
        ("<p style='margin: 0'>first<p style='margin: -9px 0'>second", "first over second"),
        ("<svg width=90 height=20><text x=60 y=15>a long word</text></svg>", "cut: a long word"),
    ],
)
def test_texts_over_one_another_are_seen(
    browser: Browser, tmp_path: Path, markup: str, said: str
) -> None:
    path = tmp_path / "page.html"
    path.write_text(f"<!DOCTYPE html><body>{markup}", "utf-8")
    browser.open(path, TELEPHONE)
    assert browser.overlaps() == [said]
