"""Attention on screen: one self-contained interactive page.

The page holds its data as JSON, its style and its few hundred lines of plain JavaScript, and
loads nothing: it opens from a disk or a mail, years later. One chooses a sentence and a head from
the grid of thumbnails, sees it as heatmap or as lines between words (Vig 2019), reads where each
word looks, and compares all heads in a sortable table.

Words come from a corpus and are data: they reach the page through JSON whose ``<``, ``>`` and
``&`` are escaped, and the page writes them with ``textContent`` only, so none can close the script
or become markup.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Sequence
from typing import Any

from tinylm.interpretability.attention_maps import (
    HeadDescriptors,
    SentenceAttention,
    aggregate,
    interpret,
    role,
)

_DIGITS = 4
"""Decimals of weights and descriptors in the page: the half of a hundredth of a percent."""


def attention_html(
    sentences: Sequence[SentenceAttention], title: str = "Where each head looks"
) -> str:
    """Return the page for one to a few sentences of one model.

    Weights are stored with four decimals, and only those that a query can see; three sentences of
    14 words under 3 layers of 8 heads make a page of about 100 KB.

    Args:
        sentences: from ``analyse``, all of the same model.
        title: heading of the page.

    Raises:
        ValueError: if there is no sentence, or they differ in layers or heads.
    """
    if not sentences:
        raise ValueError("there is no sentence to show")
    shapes = {tuple(sentence.patterns.shape[:2]) for sentence in sentences}
    if len(shapes) != 1:
        raise ValueError(f"the sentences are of different models: (layers, heads) {sorted(shapes)}")
    data = {"sentences": [_sentence(s) for s in sentences], "all": _together(sentences)}
    parts = {"TITLE": html.escape(title), "DATA": _script_json(data)}
    # One pass, so that a title or word that looks like a placeholder is left alone.
    return re.sub("@@(TITLE|DATA)@@", lambda match: parts[match[1]], _PAGE)


def _sentence(sentence: SentenceAttention) -> dict[str, Any]:
    weights = [
        [
            [[round(w, _DIGITS) for w in row[: i + 1]] for i, row in enumerate(head)]
            for head in layer
        ]
        for layer in sentence.patterns.tolist()
    ]
    return {
        "words": list(sentence.words),
        "weights": weights,  # [layer][head][query][key <= query]
        "baseline": _numbers(sentence.baseline),
        "descriptors": [[_numbers(d) for d in layer] for layer in sentence.descriptors],
        "roles": sentence.roles,
        "interpretations": sentence.interpretations,
    }


def _together(sentences: Sequence[SentenceAttention]) -> dict[str, Any]:
    """Return what the table shows for all sentences as one."""
    baseline = aggregate([s.baseline for s in sentences])
    layers, heads = sentences[0].patterns.shape[:2]
    joined = [
        [aggregate([s.descriptors[i][j] for s in sentences]) for j in range(heads)]
        for i in range(layers)
    ]
    firsts = {s.words[0] for s in sentences}
    first = firsts.pop() if len(firsts) == 1 else "the first word"
    return {
        "baseline": _numbers(baseline),
        "descriptors": [[_numbers(d) for d in layer] for layer in joined],
        "roles": [[role(d, baseline) for d in layer] for layer in joined],
        "interpretations": [[interpret(d, baseline, first) for d in layer] for layer in joined],
    }


def _numbers(descriptors: HeadDescriptors) -> dict[str, float | int | None]:
    values: dict[str, float | int | None] = dataclasses.asdict(descriptors)
    return {k: round(v, _DIGITS) if isinstance(v, float) else v for k, v in values.items()}


def _script_json(data: object) -> str:
    """Return JSON that means the same inside <script>, whatever its strings hold."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


_PAGE = r"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>@@TITLE@@</title>
<style>
:root {
  --page: #ffffff; --panel: #f6f8fa; --ink: #1f2328; --muted: #59636e; --rule: #d0d7de;
  --accent: #0969da; --line: #0072b2; --mark: #d55e00; --chosen: #ddf4ff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0d1117; --panel: #161b22; --ink: #e6edf3; --muted: #9198a1; --rule: #3d444d;
    --accent: #58a6ff; --line: #56b4e9; --mark: #ff9e4a; --chosen: #12304f;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1rem clamp(.75rem, 3vw, 2rem) 3rem; max-width: 76rem;
  background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.35rem; line-height: 1.25; margin: .25rem 0 .75rem; }
h2 { font-size: 1.05rem; margin: 0 0 .25rem; }
p { margin: .25rem 0 .75rem; }
.hint { color: var(--muted); font-size: .87rem; }
label { font-weight: 600; }
select, button { font: inherit; color: inherit; }
select {
  width: 100%; max-width: 46rem; padding: .35rem .5rem; margin-top: .2rem; display: block;
  background: var(--page); border: 1px solid var(--rule); border-radius: 6px;
}
:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
section { margin-top: 1.5rem; }
.layer { display: flex; gap: .6rem; margin-bottom: .45rem; align-items: flex-start; }
.layer > span { flex: 0 0 4rem; font-size: .87rem; font-weight: 600; padding-top: .2rem; }
.heads { display: flex; flex-wrap: wrap; gap: .4rem; }
.heads button {
  width: 5rem; padding: 3px 3px 2px; border: 1px solid var(--rule); border-radius: 6px;
  background: var(--page); cursor: pointer; line-height: 1.2; font-size: .72rem;
}
.heads button:hover { border-color: var(--accent); }
.heads button[aria-pressed="true"] {
  background: var(--chosen); border-color: var(--accent); box-shadow: 0 0 0 1px var(--accent);
}
.heads canvas { width: 100%; aspect-ratio: 1; display: block; image-rendering: pixelated; }
.heads small { display: block; font-size: .66rem; color: var(--muted); white-space: nowrap; }
.heads button[aria-pressed="true"] small { color: inherit; }
#head { display: grid; grid-template-columns: minmax(0, 1fr) 23rem; gap: 1.5rem; }
@media (max-width: 60rem) { #head { grid-template-columns: minmax(0, 1fr); } }
.switch { display: inline-flex; border: 1px solid var(--rule); border-radius: 6px; }
.switch button { border: 0; background: none; padding: .25rem .8rem; cursor: pointer; }
.switch button + button { border-left: 1px solid var(--rule); }
.switch button[aria-pressed="true"] { background: var(--chosen); font-weight: 600; }
.switch button:first-child { border-radius: 5px 0 0 5px; }
.switch button:last-child { border-radius: 0 5px 5px 0; }
#drawing { overflow-x: auto; margin-top: .75rem; }
#drawing svg { display: block; font-size: 13px; }
#drawing text { fill: var(--ink); }
#drawing text[tabindex] { cursor: pointer; }
#drawing text.on { fill: var(--mark); font-weight: 700; }
#drawing text:focus-visible { outline: 2px solid var(--accent); }
#drawing .value { font-size: 10.5px; pointer-events: none; }
#readout {
  background: var(--panel); border: 1px solid var(--rule); border-radius: 6px;
  padding: .6rem .8rem; margin-bottom: 1rem; min-height: 14.2rem;
}
#readout table { margin-top: .3rem; }
#readout td { border: 0; padding: .08rem .4rem .08rem 0; }
#readout td.bar { width: 99%; }
#readout td.bar span { display: block; height: .6rem; background: var(--line); min-width: 1px; }
#scale { margin-left: .6rem; }
.swatch { display: inline-block; vertical-align: -1px; width: 5rem; height: .75rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .87rem; }
th, td { padding: .22rem .5rem; text-align: left; border-bottom: 1px solid var(--rule); }
td.number, th.number { text-align: right; white-space: nowrap; }
#descriptors { width: 100%; }
.scroll { overflow-x: auto; }
#table { width: 100%; }
#table th { white-space: nowrap; padding: 0; background: var(--panel); }
#table th button {
  width: 100%; border: 0; background: none; font-weight: 600; cursor: pointer;
  padding: .35rem .5rem; text-align: inherit; white-space: nowrap;
}
#table tbody tr { cursor: pointer; }
#table tbody tr:hover { background: var(--panel); }
#table tbody tr.chosen { background: var(--chosen); }
#table td button { border: 0; background: none; padding: 0; color: var(--accent); cursor: pointer; }
#table tr.uniform td { color: var(--muted); }
#table td { white-space: nowrap; }
#table td.sentence { white-space: normal; min-width: 22rem; }
@media (max-width: 40rem) {
  .layer { display: block; }
  .layer > span { display: block; padding: 0 0 .15rem; }
}
</style>
</head>
<body>
<h1>@@TITLE@@</h1>
<noscript><p>This page draws itself with JavaScript, which is switched off here.</p></noscript>
<label for="sentence">Sentence</label>
<select id="sentence"></select>
<section aria-labelledby="grid-name">
  <h2 id="grid-name">Heads</h2>
  <p class="hint">A row of each picture is a word that looks, a column a word that is looked at.
    Choose a head; arrow keys go to its neighbours.</p>
  <div id="grid"></div>
</section>
<section id="head">
  <div>
    <h2 id="name"></h2>
    <p id="interpretation"></p>
    <div class="switch" role="group" aria-label="View">
      <button type="button" id="as-heatmap">Heatmap</button>
      <button type="button" id="as-lines">Lines</button>
    </div>
    <span class="hint" id="scale"></span>
    <div id="drawing"></div>
  </div>
  <div>
    <div id="readout" aria-live="polite"></div>
    <table id="descriptors">
      <thead><tr><th scope="col">Measured</th><th scope="col" class="number">head</th>
        <th scope="col" class="number">uniform</th></tr></thead>
      <tbody></tbody>
    </table>
    <p class="hint" id="counts"></p>
  </div>
</section>
<section aria-labelledby="table-name">
  <h2 id="table-name">All heads compared</h2>
  <p id="scope-choice"><label for="scope">Measured on</label>
    <select id="scope"><option value="one">the chosen sentence</option>
      <option value="all">all sentences together</option></select></p>
  <div class="scroll"><table id="table"><thead></thead><tbody></tbody></table></div>
  <p class="hint">The uniform head spreads its weight evenly over all that a word sees: a share says
    something by its distance from that. Attention shows where a head reads, not what the model
    makes of it.</p>
</section>
<script type="application/json" id="data">@@DATA@@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const state = { sentence: 0, layer: 0, head: 0, view: "heatmap", word: null, scope: "one",
  sort: "place", descending: false };
const percent = (x) => x === null ? "–" : Math.round(100 * x) + "\u00a0%";
const fixed = (x) => x.toFixed(2);
const MEASURES = [
  ["mean_distance", "Tokens back", "Mean distance, tokens back", fixed],
  ["entropy", "Entropy", "Entropy, of the most possible", percent],
  ["entropy_bits", "Bits", "Entropy, bits", fixed],
  ["previous", "Previous", "On the previous word", percent],
  ["first", "First", "On the first word", percent],
  ["self_share", "Itself", "On the word itself", percent],
  ["same_word", "Same word", "On the same word, earlier", percent],
  ["punctuation", "Punct.", "On earlier punctuation", percent],
];

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
function draw(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}
const LIGHT = [[243, 245, 248], [198, 219, 239], [107, 174, 214], [33, 113, 181], [8, 48, 107]];
const DARK = [[27, 33, 41], [22, 58, 95], [33, 105, 170], [96, 170, 228], [214, 236, 255]];
function shade(weight) {
  const stops = dark.matches ? DARK : LIGHT;
  const place = Math.min(Math.max(weight, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  const mix = stops[i].map((low, c) => Math.round(low + (stops[i + 1][c] - low) * (place - i)));
  return "rgb(" + mix.join(",") + ")";
}
const inkOn = (weight) => dark.matches ? (weight > .6 ? "#0d1117" : "#e6edf3")
  : (weight > .68 ? "#ffffff" : "#1f2328");
const sentence = () => data.sentences[state.sentence];
const weights = () => sentence().weights[state.layer][state.head];
const headName = (layer, head) => "Layer " + (layer + 1) + ", head " + (head + 1);
const clip = (word) => [...word].length > 14 ? [...word].slice(0, 13).join("") + "…" : word;

function choose(layer, head, focus) {
  state.layer = layer;
  state.head = head;
  showHead();
  markChosen();
  if (focus) thumbnails[layer][head].focus();
}

let thumbnails = [];
function showGrid() {
  const grid = at("grid");
  grid.replaceChildren();
  thumbnails = sentence().weights.map((heads, layer) => {
    const row = make("div", { class: "heads", role: "group",
      "aria-label": "Layer " + (layer + 1) });
    const buttons = heads.map((pattern, head) => {
      const seq = pattern.length;
      const canvas = make("canvas", { width: seq, height: seq, "aria-hidden": "true" });
      const context = canvas.getContext("2d");
      pattern.forEach((line, i) => line.forEach((weight, j) => {
        context.fillStyle = shade(weight);
        context.fillRect(j, i, 1, 1);
      }));
      const role = sentence().roles[layer][head];
      const button = make("button", { type: "button",
        "aria-label": headName(layer, head) + ": " + role },
        canvas, String(head + 1), make("small", {}, role));
      button.addEventListener("click", () => choose(layer, head));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0],
          ArrowDown: [1, 0] }[event.key];
        if (!step) return;
        event.preventDefault();
        const rows = thumbnails.length, columns = thumbnails[0].length;
        choose((layer + step[0] + rows) % rows, (head + step[1] + columns) % columns, true);
      });
      row.append(button);
      return button;
    });
    grid.append(make("div", { class: "layer" },
      make("span", { "aria-hidden": "true" }, "Layer " + (layer + 1)), row));
    return buttons;
  });
}

function markChosen() {
  thumbnails.forEach((row, layer) => row.forEach((button, head) => {
    const chosen = layer === state.layer && head === state.head;
    button.setAttribute("aria-pressed", chosen);
    button.tabIndex = chosen ? 0 : -1;
  }));
  for (const row of at("table").tBodies[0].rows) {
    row.classList.toggle("chosen", row.dataset.head === state.layer + "," + state.head);
  }
}

function showHead() {
  const { layer, head } = state;
  at("name").textContent = headName(layer, head) + ": " + sentence().roles[layer][head];
  at("interpretation").textContent = sentence().interpretations[layer][head];
  at("as-heatmap").setAttribute("aria-pressed", state.view === "heatmap");
  at("as-lines").setAttribute("aria-pressed", state.view === "lines");
  const own = sentence().descriptors[layer][head], uniform = sentence().baseline;
  at("descriptors").tBodies[0].replaceChildren(...MEASURES.map(([key, , long, format]) =>
    make("tr", {}, make("td", {}, long), make("td", { class: "number" }, format(own[key])),
      make("td", { class: "number" }, format(uniform[key])))));
  at("counts").textContent = "Means over the " + own.queries + " words after the first; same "
    + "word over the " + own.same_word_queries + " that occurred before, punctuation over the "
    + own.punctuation_queries + " that have a mark before them.";
  showDrawing();
}

function showDrawing() {
  const pattern = weights();
  const labels = sentence().words.map(clip);
  const longest = 8 + 8 * Math.max(...labels.map((label) => [...label].length));
  const area = at("drawing");
  const room = area.clientWidth;
  const svg = (state.view === "heatmap" ? drawHeatmap : drawLines)(pattern, labels, longest, room);
  svg.addEventListener("mouseleave", () => point(null));
  area.replaceChildren(svg);
  const scale = at("scale");
  scale.replaceChildren();
  if (state.view === "heatmap") {
    const swatch = make("span", { class: "swatch" });
    swatch.style.background = "linear-gradient(to right," +
      [0, .25, .5, .75, 1].map(shade).join(",") + ")";
    scale.append("weight 0 ", swatch, " 1; rows look, columns are looked at");
  } else {
    scale.append("words on the left look, those on the right are looked at");
  }
  point(state.word);
}

function wordLabel(svg, text, attributes, kind, index) {
  const node = draw("text", { ...attributes, "data-kind": kind, "data-index": index,
    tabindex: kind === "query" && index === 0 ? 0 : -1 }, text);
  if (text !== sentence().words[index]) node.append(draw("title", {}, sentence().words[index]));
  const word = { kind, index };
  node.addEventListener("mouseenter", () => point(word));
  node.addEventListener("focus", () => point(word));
  node.addEventListener("click", () => point(word));
  node.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = svg.querySelector('text[data-kind="' + kind + '"][data-index="'
      + (index + step) + '"]');
    if (next) next.focus();
  });
  svg.append(node);
  return node;
}

function drawHeatmap(pattern, labels, longest, room) {
  const seq = labels.length;
  const cell = Math.floor(Math.max(17, Math.min(36, (room - longest - 4) / seq)));
  const size = cell * seq;
  const svg = draw("svg", { width: longest + size + 2, height: size + longest + 4,
    role: "group", "aria-label": "Heatmap: rows look, columns are looked at" });
  pattern.forEach((line, i) => line.forEach((weight, j) => {
    const place = { x: longest + j * cell, y: i * cell };
    const rect = draw("rect", { ...place, width: cell, height: cell, fill: shade(weight),
      "data-query": i, "data-key": j });
    rect.addEventListener("mouseenter", () => point({ kind: "query", index: i, key: j }));
    rect.addEventListener("click", () => point({ kind: "query", index: i, key: j }));
    svg.append(rect);
    if (cell >= 27 && weight >= .05) {
      svg.append(draw("text", { class: "value", x: place.x + cell / 2, y: place.y + cell / 2,
        "text-anchor": "middle", "dominant-baseline": "central",
        style: "fill:" + inkOn(weight) }, weight.toFixed(2).replace(/^0/, "")));
    }
  }));
  const frame = draw("rect", { id: "frame", fill: "none", stroke: "var(--mark)",
    "stroke-width": 2, "pointer-events": "none", visibility: "hidden" });
  svg.append(frame);
  labels.forEach((label, i) => wordLabel(svg, label, { x: longest - 5, y: (i + .5) * cell,
    "text-anchor": "end", "dominant-baseline": "central" }, "query", i));
  labels.forEach((label, j) => {
    const x = longest + (j + .5) * cell, y = size + 6;
    wordLabel(svg, label, { x, y, "text-anchor": "end", "dominant-baseline": "central",
      transform: "rotate(-90 " + x + " " + y + ")" }, "key", j);
  });
  svg.dataset.cell = cell;
  svg.dataset.left = longest;
  return svg;
}

function drawLines(pattern, labels, longest, room) {
  const pitch = 25;
  const width = Math.max(Math.min(room, 640), 2 * longest + 90);
  const right = width - longest;
  const svg = draw("svg", { width, height: labels.length * pitch + 4, role: "group",
    "aria-label": "Lines: words on the left look at words on the right" });
  pattern.forEach((line, i) => line.forEach((weight, j) => {
    if (weight < .01) return;
    svg.append(draw("line", { x1: longest, y1: (i + .5) * pitch, x2: right, y2: (j + .5) * pitch,
      stroke: "var(--line)", "stroke-width": .4 + 7 * weight, "stroke-opacity": .12 + .8 * weight,
      "data-query": i, "data-key": j, "data-opacity": .12 + .8 * weight }));
  }));
  labels.forEach((label, i) => {
    const y = (i + .5) * pitch;
    wordLabel(svg, label, { x: longest - 6, y, "text-anchor": "end",
      "dominant-baseline": "central" }, "query", i);
    wordLabel(svg, label, { x: right + 6, y, "dominant-baseline": "central" }, "key", i);
  });
  return svg;
}

function point(word) {
  state.word = word && word.index < sentence().words.length ? word : null;
  word = state.word;
  const svg = at("drawing").firstElementChild;
  if (!svg) return;
  const own = word && word.kind === "query" ? "query" : "key";
  for (const line of svg.querySelectorAll("line")) {
    const on = word && Number(line.dataset[own]) === word.index;
    line.setAttribute("stroke", on ? "var(--mark)" : "var(--line)");
    line.setAttribute("stroke-opacity", !word ? line.dataset.opacity
      : on ? Math.max(.35, line.dataset.opacity) : .05);
  }
  for (const text of svg.querySelectorAll("text[data-kind]")) {
    text.classList.toggle("on", Boolean(word) && ((text.dataset.kind === word.kind
      && Number(text.dataset.index) === word.index)
      || (word.key !== undefined && text.dataset.kind === "key"
        && Number(text.dataset.index) === word.key)));
  }
  const frame = svg.querySelector("#frame");
  if (frame) {
    frame.setAttribute("visibility", word ? "visible" : "hidden");
    if (word) {
      const cell = Number(svg.dataset.cell), left = Number(svg.dataset.left);
      const seq = sentence().words.length, i = word.index;
      const box = word.kind === "query" ? [left, i * cell, (i + 1) * cell, cell]
        : [left + i * cell, i * cell, cell, (seq - i) * cell];
      ["x", "y", "width", "height"].forEach((name, n) => frame.setAttribute(name, box[n]));
    }
  }
  readOut(word);
}

function readOut(word) {
  const words = sentence().words, pattern = weights(), area = at("readout");
  if (!word) {
    area.replaceChildren(make("strong", {}, "Point at a word"), make("p", { class: "hint" },
      "A word on the left shows where it looks; one on the right or below shows which words look "
      + "at it. With the keyboard: Tab to a word, then the arrow keys."));
    return;
  }
  let entries, heading;
  if (word.kind === "query") {
    entries = pattern[word.index].map((weight, j) => [weight, j]);
    heading = "“" + words[word.index] + "” (word " + (word.index + 1) + ") looks at";
  } else {
    entries = words.map((_, i) => [i < word.index ? 0 : pattern[i][word.index], i])
      .slice(word.index);
    heading = "“" + words[word.index] + "” (word " + (word.index + 1) + ") is looked at by";
  }
  entries.sort((a, b) => b[0] - a[0]);
  const shown = entries.slice(0, 6);
  const table = make("table", {}, make("tbody", {}, ...shown.map(([weight, i]) => {
    const bar = make("span", {});
    bar.style.width = 100 * weight + "%";
    const row = make("tr", {}, make("td", { title: "word " + (i + 1) }, clip(words[i])),
      make("td", { class: "number" }, (100 * weight).toFixed(1) + "\u00a0%"),
      make("td", { class: "bar" }, bar));
    if (i === word.key) row.style.color = "var(--mark)";
    return row;
  })));
  area.replaceChildren(make("strong", {}, heading), table);
  if (entries.length > shown.length) {
    const rest = entries.slice(6).reduce((sum, entry) => sum + entry[0], 0);
    const tail = word.kind === "query" ? ": " + percent(rest) + " together" : "";
    area.append(make("span", { class: "hint" },
      "and " + (entries.length - 6) + " other" + (entries.length > 7 ? "s" : "") + tail));
  }
}

function showTable() {
  const source = state.scope === "all" ? data.all : sentence();
  const columns = [["place", "Head"], ["role", "Role"],
    ...MEASURES.map(([key, short, long]) => [key, short, long]),
    ["interpretation", "In a sentence"]];
  const rows = [];
  source.descriptors.forEach((heads, layer) => heads.forEach((numbers, head) => rows.push({
    ...numbers, place: layer * heads.length + head, layer, head,
    role: source.roles[layer][head], interpretation: source.interpretations[layer][head] })));
  const sign = state.descending ? -1 : 1;
  rows.sort((a, b) => {
    const x = a[state.sort], y = b[state.sort];
    if (x === y) return a.place - b.place;
    if (x === null) return 1;
    if (y === null) return -1;
    return sign * (x < y ? -1 : 1);
  });
  const isNumber = (key) => MEASURES.some((measure) => measure[0] === key);
  at("table").tHead.replaceChildren(make("tr", {}, ...columns.map(([key, short, long]) => {
    const active = state.sort === key;
    const button = make("button", { type: "button", title: long || short, "data-sort": key },
      short + (active ? (state.descending ? " ▾" : " ▴") : ""));
    button.addEventListener("click", () => {
      state.descending = active ? !state.descending : isNumber(key);
      state.sort = key;
      showTable();
      at("table").querySelector('button[data-sort="' + key + '"]').focus();
    });
    return make("th", { scope: "col", class: isNumber(key) ? "number" : "",
      "aria-sort": active ? (state.descending ? "descending" : "ascending") : "none" }, button);
  })));
  const cells = (numbers) => MEASURES.map(([key, , , format]) =>
    make("td", { class: "number" }, format(numbers[key])));
  const body = at("table").tBodies[0];
  body.replaceChildren(make("tr", { class: "uniform" }, make("td", {}, "uniform"),
    make("td", {}, "–"), ...cells(source.baseline),
    make("td", { class: "sentence" }, "What a head that spreads evenly would give.")));
  for (const row of rows) {
    const button = make("button", { type: "button",
      "aria-label": "Show " + headName(row.layer, row.head) },
      (row.layer + 1) + "." + (row.head + 1));
    const line = make("tr", { "data-head": row.layer + "," + row.head },
      make("td", {}, button), make("td", {}, row.role), ...cells(row),
      make("td", { class: "sentence" }, row.interpretation));
    line.addEventListener("click", () => {
      choose(row.layer, row.head);
      at("head").scrollIntoView({ block: "nearest" });
    });
    body.append(line);
  }
  markChosen();
}

function showAll() {
  showGrid();
  showHead();
  showTable();
}
data.sentences.forEach((item, i) => at("sentence").append(
  make("option", { value: i }, item.words.join(" "))));
at("sentence").addEventListener("change", (event) => {
  state.sentence = Number(event.target.value);
  state.word = null;
  showAll();
});
at("scope").addEventListener("change", (event) => {
  state.scope = event.target.value;
  showTable();
});
at("scope-choice").hidden = data.sentences.length === 1;
for (const view of ["heatmap", "lines"]) {
  at("as-" + view).addEventListener("click", () => {
    state.view = view;
    showHead();
  });
}
dark.addEventListener("change", showAll);
let width = 0;
new ResizeObserver(() => {
  if (at("drawing").clientWidth === width) return;
  width = at("drawing").clientWidth;
  showDrawing();
}).observe(at("drawing"));
showAll();
</script>
</body>
</html>
"""
