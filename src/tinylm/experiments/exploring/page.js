const last = data.moments.length - 1;
const state = { moment: last, sentence: 0, word: 0, place: data.places.length - 1, layer: 0,
  head: 0, score: 0, reading: 0, question: 0, spot: null };
const GUTTER = 34, THUMB = 16;  // pixels left of the curve, and the slider's thumb

const percent = (share) => share > 0 && share < .005 ? "<1\u00a0%"
  : Math.round(100 * share) + "\u00a0%";
const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(2);
const whole = (number) => number.toLocaleString("en");
const quoted = (word) => "“" + word + "”";
const moment = () => data.moments[state.moment];
const words = () => data.sentences[state.sentence].words;
const measured = () => moment().sentences[state.sentence];

/* Arrow keys within a group of buttons: step(event.key, index) is the next index. */
function moveBy(buttons, index, key, columns) {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  if (!step) return null;
  return (index + step + buttons.length) % buttons.length;
}
function onArrows(button, buttons, columns, choose) {
  button.addEventListener("keydown", (event) => {
    const next = moveBy(buttons(), buttons().indexOf(button), event.key, columns());
    if (next === null) return;
    event.preventDefault();
    choose(next);
    buttons()[next].focus();
  });
}

/* Buttons of a table, by click and arrow keys; choosing one may make all of them anew. */
function asGrid(buttons, columns, choose) {
  buttons().forEach((button, index) => {
    button.addEventListener("click", () => {
      choose(index);
      buttons()[index].focus({ preventScroll: true });
    });
    onArrows(button, buttons, () => columns, choose);
  });
}

/* Attention: a byte a weight, heads in order, each the rows of its lower triangle. */
const decoded = new Map();
function weights(layer, head) {
  const text = measured().attention;
  if (!decoded.has(text)) decoded.set(text, Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
  const bytes = decoded.get(text), count = words().length;
  const start = (layer * data.heads + head) * count * (count + 1) / 2;
  return (query, key) => key > query ? 0 : bytes[start + query * (query + 1) / 2 + key] / 255;
}

/* Time, as a share of the width. Moments stand at equal distances, steps between them by their
   logarithm; where there is one moment alone, all steps do. */
const logged = Object.values(data.curve).flat().map(([step]) => step);
const end = Math.log1p(Math.max(data.steps, ...logged));
function shareOf(step) {
  if (!last) return Math.log1p(step) / end;
  const steps = data.moments.map((moment) => moment.step);
  const i = steps.findIndex((other) => other >= step);
  if (i <= 0) return i < 0 ? 1 : 0;
  const low = Math.log1p(steps[i - 1]), high = Math.log1p(steps[i]);
  return (i - 1 + (Math.log1p(step) - low) / (high - low)) / last;
}
const across = (step, width) => GUTTER + THUMB / 2 + shareOf(step) * (width - GUTTER - THUMB);

const CURVES = [["training", data.curve.train, "var(--faint)", 1.5],
  ["validation", data.curve.validation, "var(--line)", 2]].filter(([, records]) => records.length);
/* The loss that was logged at or before the moment, else the first. */
function losses() {
  const near = (records) => records.filter(([step]) => step <= moment().step).at(-1) || records[0];
  return CURVES.map(([name, records, color]) => [name, ...near(records), color]);
}
/* Numbers of steps under a drawing, those left out that have no room. */
function stepLabels(svg, width, bottom) {
  const order = data.moments.map((moment, i) => i);
  const drawn = [];
  for (const i of [state.moment, ...order]) {
    const text = whole(data.moments[i].step), half = text.length * 3.6 + 3;
    const x = Math.min(across(data.moments[i].step, width), width - half);
    if (drawn.some(([low, high]) => x - half < high && x + half > low)) continue;
    drawn.push([x - half, x + half]);
    const label = draw("text", { x, y: bottom, "text-anchor": "middle" }, text);
    if (i === state.moment) label.style = "fill: var(--ink); font-weight: 700";
    svg.append(label);
  }
}
function frame(svg) {
  const width = svg.clientWidth, height = svg.clientHeight;
  svg.setAttribute("viewBox", "0 0 " + width + " " + height);
  svg.replaceChildren();
  const x = across(moment().step, width);
  svg.append(draw("line", { x1: x, x2: x, y1: 4, y2: height - 16, stroke: "var(--accent)",
    "stroke-width": 2, opacity: .5 }));
  return { width, height, top: 8, bottom: height - 20 };
}
function axis(svg, box, low, high, digits) {
  for (const [value, y] of [[high, box.top], [low, box.bottom]]) {
    svg.append(draw("line", { x1: GUTTER, x2: box.width, y1: y, y2: y, stroke: "var(--rule)" }));
    svg.append(draw("text", { x: GUTTER - 5, y: y + 4, "text-anchor": "end" },
      value.toFixed(digits)));
  }
  return (value) => box.bottom - (value - low) / (high - low || 1) * (box.bottom - box.top);
}
function path(points, attributes) {
  const line = points.map(([x, y], i) => (i ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1));
  return draw("path", { d: line.join(""), fill: "none", ...attributes });
}
function showCurve() {
  const svg = at("curve"), box = frame(svg);
  const values = CURVES.flatMap(([, records]) => records.map(([, loss]) => loss));
  if (values.length) {
    const height = axis(svg, box, Math.min(...values), Math.max(...values), 1);
    for (const [, records, color, thick] of CURVES) {
      svg.append(path(records.map(([step, loss]) =>
        [across(step, box.width), height(loss)]), { stroke: color, "stroke-width": thick }));
    }
  }
  stepLabels(svg, box.width, box.height - 4);
}
function showTime() {
  const { step } = moment();
  at("now").textContent = "Step " + whole(step) + " of " + whole(data.steps)
    + (step === data.best_step && last ? ", the best" : "");
  at("now-loss").replaceChildren(...losses().flatMap(([name, at, loss, color], i) => {
    const key = make("span", { class: "key" });
    key.style.background = color;
    const text = (i ? "" : "loss in ") + name + " " + loss.toFixed(2)
      + (at === moment().step ? "" : " (at step " + whole(at) + ")");
    const part = make("span", {}, key, text);
    return i ? [", ", part] : [part];
  }));
  const slider = at("slider");
  slider.value = state.moment;
  slider.setAttribute("aria-valuetext", at("now").textContent + ", "
    + at("now-loss").textContent);
  showCurve();
}

/* Sentences. */
let choices = [];
function chooseSentence(index) {
  state.sentence = index;
  state.word = Math.max(0, words().length - 2);  // the last that another one follows
  showChoices();
  showSentence();
}
function matching() {
  const wanted = at("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  return data.sentences.map((sentence, index) => index).filter((index) => {
    const text = data.sentences[index].text.toLowerCase();
    return wanted.every((word) => text.includes(word));
  });
}
function showChoices() {
  const shown = matching();
  const tabbed = shown.includes(state.sentence) ? state.sentence : shown[0];
  choices = shown.map((index) => {
    const chosen = index === state.sentence;
    const button = make("button", { type: "button", role: "radio", "aria-checked": chosen,
      tabindex: index === tabbed ? 0 : -1, "data-sentence": index }, data.sentences[index].text);
    button.addEventListener("click", () => {
      chooseSentence(index);
      at("choices").querySelector('[data-sentence="' + index + '"]').focus();
    });
    onArrows(button, () => choices, () => 1, (next) => chooseSentence(shown[next]));
    return button;
  });
  at("choices").replaceChildren(...choices);
  at("missing").hidden = shown.length > 0;
  if (!shown.length) {
    const shell = (text) => "'" + text.replaceAll("'", "'\\''") + "'";
    at("command").textContent = data.command + " " + shell(at("find").value.trim());
  }
}

/* Attention. */
let strip = [], thumbnails = [];
function chooseWord(index) {
  state.word = index;
  showWord();
}
function chooseHead(index) {
  state.layer = Math.floor(index / data.heads);
  state.head = index % data.heads;
  showWord();
  showScores();
  showAnswers();
}
function makeStrip() {
  strip = words().map((word, index) => {
    const button = make("button", { type: "button" }, clip(word));
    if (clip(word) !== word) button.title = word;
    button.addEventListener("click", () => chooseWord(index));
    button.addEventListener("mouseenter", () => showLooks(index));
    button.addEventListener("mouseleave", () => showLooks(state.word));
    onArrows(button, () => strip, () => 1, chooseWord);
    return button;
  });
  at("strip").replaceChildren(...strip);
}
function makeGrid() {
  thumbnails = [];
  const rows = Array.from({ length: data.layers }, (_, layer) => {
    const heads = make("div", { class: "heads", role: "group",
      "aria-label": "Layer " + (layer + 1) });
    for (let head = 0; head < data.heads; head++) {
      const index = thumbnails.length;
      const button = make("button", { type: "button", "aria-label": headName(layer, head) },
        make("canvas", { "aria-hidden": "true" }), (layer + 1) + "." + (head + 1));
      button.addEventListener("click", () => chooseHead(index));
      onArrows(button, () => thumbnails, () => data.heads, chooseHead);
      thumbnails.push(button);
      heads.append(button);
    }
    return make("div", { class: "layer" },
      make("span", { "aria-hidden": "true" }, "Layer " + (layer + 1)), heads);
  });
  at("grid").replaceChildren(...rows);
}
function showGrid() {
  const count = words().length;
  thumbnails.forEach((button, index) => {
    const canvas = button.firstChild;
    canvas.width = canvas.height = count;
    const context = canvas.getContext("2d");
    const weight = weights(Math.floor(index / data.heads), index % data.heads);
    context.fillStyle = shade(0);
    context.fillRect(0, 0, count, count);
    for (let query = 0; query < count; query++) {
      for (let key = 0; key <= query; key++) {
        context.fillStyle = shade(weight(query, key));
        context.fillRect(key, query, 1, 1);
      }
    }
  });
}
function showLooks(word) {
  const weight = weights(state.layer, state.head);
  strip.forEach((button, key) => {
    paint(button, key > word ? 0 : weight(word, key));
    if (key > word) button.style.opacity = .55;
    else button.style.removeProperty("opacity");
  });
  const order = words().map((_, key) => key).filter((key) => key <= word)
    .sort((a, b) => weight(word, b) - weight(word, a)).slice(0, 3);
  at("looks").textContent = headName(state.layer, state.head) + ": " + quoted(words()[word])
    + " (word " + (word + 1) + ") looks at " + order.map((key) => quoted(words()[key])
      + " " + percent(weight(word, key))).join(", ") + ".";
}
const ruler = document.createElement("canvas").getContext("2d");
function widthOf(label) {
  ruler.font = "700 13px " + getComputedStyle(document.body).fontFamily;
  return Math.ceil(ruler.measureText(label).width);
}
function showMap() {
  at("head-name").textContent = headName(state.layer, state.head);
  const labels = words().map(clip), count = labels.length, weight = weights(state.layer, state.head);
  const longest = 12 + Math.max(...labels.map(widthOf));
  const room = at("map").clientWidth;
  const cell = Math.floor(Math.max(16, Math.min(30, (room - longest - 4) / count)));
  const size = cell * count;
  const svg = draw("svg", { width: longest + size + 2, height: size + longest + 4, role: "img",
    "aria-label": "Attention of " + headName(state.layer, state.head)
      + ": rows are the words that look, columns those looked at" });
  for (let query = 0; query < count; query++) {
    for (let key = 0; key <= query; key++) {
      const rect = draw("rect", { x: longest + key * cell, y: query * cell, width: cell,
        height: cell, fill: shade(weight(query, key)) });
      rect.append(draw("title", {}, quoted(words()[query]) + " looks at "
        + quoted(words()[key]) + ": " + percent(weight(query, key))));
      rect.addEventListener("click", () => chooseWord(query));
      svg.append(rect);
    }
    svg.append(draw("text", { x: longest - 6, y: (query + .5) * cell, "text-anchor": "end",
      "dominant-baseline": "central", class: query === state.word ? "on" : "" }, labels[query]));
    const x = longest + (query + .5) * cell, y = size + 6;
    svg.append(draw("text", { x, y, "text-anchor": "end", "dominant-baseline": "central",
      transform: "rotate(-90 " + x + " " + y + ")" }, labels[query]));
  }
  svg.append(draw("rect", { x: longest, y: state.word * cell, width: (state.word + 1) * cell,
    height: cell, fill: "none", stroke: "var(--mark)", "stroke-width": 2,
    "pointer-events": "none" }));
  at("map").replaceChildren(svg);
  const swatch = make("span", { class: "swatch" });
  swatch.style.background = "linear-gradient(to right,"
    + [0, .25, .5, .75, 1].map(shade).join(",") + ")";
  at("scale").replaceChildren("weight 0 ", swatch, " 1; a row is a word that looks, a column one"
    + " that is looked at");
}

/* Scroll a box sideways so far that a cell in it is seen, right of the row's name. */
function showInside(box, cell) {
  const own = cell.getBoundingClientRect(), around = box.getBoundingClientRect();
  const left = around.left + cell.closest("tr").firstChild.offsetWidth;
  if (own.left < left) box.scrollLeft -= left - own.left;
  else if (own.right > around.right) box.scrollLeft += own.right - around.right;
}

/* Logit lens: rows from the end of the model down to its beginning. */
let cells = [];
function chooseCell(index) {
  const count = words().length;
  state.place = data.places.length - 1 - Math.floor(index / count);
  chooseWord(index % count);
}
function showLens() {
  const count = words().length, table = at("lens");
  const head = words().map((word, index) => {
    const cell = make("th", { scope: "col" }, clip(word));
    if (index === state.word) cell.className = "here";
    return cell;
  });
  table.tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "after"), ...head));
  cells = [];
  const rows = data.places.map((label, place) => {
    const tops = measured().lens[place][0];
    const row = make("tr", {}, make("th", { scope: "row" }, label));
    tops.forEach((top, word) => {
      const [token, share] = top[0];
      const chosen = place === state.place && word === state.word;
      const button = make("button", { type: "button", "aria-pressed": chosen,
        tabindex: chosen ? 0 : -1 }, clip(data.words[token]), make("small", {}, percent(share)));
      paint(button, share);
      row.append(make("td", {}, button));
    });
    return row;
  }).reverse();
  table.tBodies[0].replaceChildren(...rows);
  cells = [...table.tBodies[0].querySelectorAll("button")];
  asGrid(() => cells, count, chooseCell);
  showInside(at("lens").parentElement, table.querySelector('[aria-pressed="true"]'));
  const [tops, shares, ranks] = measured().lens[state.place];
  const { word, place } = state;
  let text = "After " + quoted(words()[word]) + ", at “" + data.places[place] + "”: "
    + tops[word].map(([token, share]) => quoted(data.words[token]) + " " + percent(share))
      .join(", ") + ".";
  if (word < count - 1) {
    text += " The word that follows, " + quoted(words()[word + 1]) + ", has "
      + percent(shares[word]) + " and rank " + whole(ranks[word]) + ".";
  }
  at("lens-cell").textContent = text;
}

/* Attribution. */
function showAttribution() {
  const { word } = state, end = word === words().length - 1;
  const answer = data.words[measured().answers[word]];
  const values = measured().attribution.map((part) => part[word]);
  at("attribution-of").textContent = "What each part adds to the logit of " + quoted(answer)
    + " after " + quoted(words()[word]) + ", against the mean of all words"
    + (end ? "; it is the likeliest word" : "") + ".";
  const most = Math.max(...values.map(Math.abs), 1e-9);
  const rows = values.map((value, part) => {
    const bar = make("span", {});
    const width = 50 * Math.abs(value) / most;
    bar.style.width = width + "%";
    bar.style.left = (value < 0 ? 50 - width : 50) + "%";
    bar.style.background = value < 0 ? "var(--less)" : "var(--line)";
    return make("div", { class: "part" }, make("span", {}, data.parts[part]),
      make("span", { class: "bar", "aria-hidden": "true" }, bar),
      make("span", {}, signed(value)));
  });
  const sum = values.reduce((total, value) => total + value, 0);
  at("attribution").replaceChildren(...rows, make("div", { class: "part sum" },
    make("span", {}, "sum"), make("span", {}), make("span", {}, signed(sum))));
}

/* Scores of heads. */
let scoreButtons = [];
function showScores() {
  const every = moment().scores;
  at("scores").tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "head"),
    ...data.scores.map((name) => make("th", { scope: "col", class: "number" },
      name.replace(/ \(.*/, "")))));
  const rows = thumbnails.map((_, index) => {
    const layer = Math.floor(index / data.heads), head = index % data.heads;
    const row = make("tr", {}, make("th", { scope: "row" }, (layer + 1) + "." + (head + 1)));
    if (layer === state.layer && head === state.head) row.className = "chosen";
    every.forEach((table, score) => {
      const value = table[layer][head];
      const button = make("button", { type: "button", "aria-label": headName(layer, head) + ", "
        + data.scores[score] + " " + value.toFixed(2),
        tabindex: layer === state.layer && head === state.head && score === state.score ? 0 : -1 },
        value.toFixed(2));
      paint(button, value);
      row.append(make("td", {}, button));
    });
    return row;
  });
  at("scores").tBodies[0].replaceChildren(...rows);
  scoreButtons = [...at("scores").querySelectorAll("button")];
  asGrid(() => scoreButtons, data.scores.length, chooseScore);
  showCourse();
}
function chooseScore(place) {
  state.score = place % data.scores.length;
  at("score").value = state.score;
  chooseHead(Math.floor(place / data.scores.length));
}
function showCourse() {
  if (!last) return;
  const svg = at("course"), box = frame(svg);
  const values = data.moments.map((moment) => moment.scores[state.score]);
  const highest = Math.max(...values.flat(2), .1);
  const height = axis(svg, box, 0, highest, 2);
  const line = (layer, head) => values.map((table, i) =>
    [across(data.moments[i].step, box.width), height(table[layer][head])]);
  for (let layer = 0; layer < data.layers; layer++) {
    for (let head = 0; head < data.heads; head++) {
      svg.append(path(line(layer, head), { stroke: "var(--faint)", "stroke-width": 1 }));
    }
  }
  svg.append(path(line(state.layer, state.head), { stroke: "var(--mark)", "stroke-width": 2.5 }));
  stepLabels(svg, box.width, box.height - 4);
  svg.setAttribute("aria-label", data.scores[state.score] + " of every head over training; "
    + headName(state.layer, state.head) + ": "
    + values[state.moment][state.layer][state.head].toFixed(2) + " now");
}

/* Composition. */
function showComposition() {
  at("composition-section").hidden = !data.readings.length;
  if (!data.readings.length) return;
  const { scores, baseline } = moment().composition[state.reading];
  const heads = (first, end) => Array.from({ length: (end - first) * data.heads },
    (_, i) => [first + Math.floor(i / data.heads), i % data.heads]);
  const name = ([layer, head]) => (layer + 1) + "." + (head + 1);
  const later = heads(1, data.layers);
  at("composition").tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, ""),
    ...later.map((place) => make("th", { scope: "col" }, name(place)))));
  at("composition").tBodies[0].replaceChildren(...heads(0, data.layers - 1).map((earlier) =>
    make("tr", {}, make("th", { scope: "row" }, name(earlier)), ...later.map((reader) => {
      const cell = make("td", {});
      if (reader[0] > earlier[0]) {
        const excess = scores[earlier[0]][earlier[1]][reader[0]][reader[1]] - baseline;
        cell.textContent = (excess < -.005 ? "\u2212" : "") + Math.abs(Math.round(100 * excess));
        cell.title = "head " + name(reader) + " of head " + name(earlier);
        paint(cell, 2 * excess);
      }
      return cell;
    }))));
  at("baseline").textContent = "Random heads score " + baseline.toFixed(3) + ".";
}

function showSamples() {
  at("samples").replaceChildren(...moment().samples.map(({ begun, lines, finished }) =>
    make("p", { class: "sample" }, make("strong", {}, begun),
      lines.join("\n").replace(/\n{2,}/g, "\n") + (finished ? "" : " …"))));
}

function showWord() {
  strip.forEach((button, index) => {
    button.setAttribute("aria-pressed", index === state.word);
    button.tabIndex = index === state.word ? 0 : -1;
  });
  thumbnails.forEach((button, index) => {
    const chosen = index === state.layer * data.heads + state.head;
    button.setAttribute("aria-pressed", chosen);
    button.tabIndex = chosen ? 0 : -1;
  });
  showLooks(state.word);
  showMap();
  showLens();
  showAttribution();
}
function showSentence() {
  makeStrip();
  showGrid();
  showWord();
}
function showMoment() {
  showTime();
  showGrid();
  showWord();
  showScores();
  showComposition();
  showSamples();
  showAnswers();
}
function chooseMoment(index) {
  state.moment = Math.min(last, Math.max(0, index));
  showMoment();
}

let playing = null;
function stop() {
  clearInterval(playing);
  playing = null;
  at("play").textContent = "Play";
}
at("play").addEventListener("click", () => {
  if (playing !== null) return stop();
  if (state.moment === last) chooseMoment(0);
  at("play").textContent = "Pause";
  playing = setInterval(() => {
    chooseMoment(state.moment + 1);
    if (state.moment === last) stop();
  }, 900);
});
for (const id of ["play", "slider", "drawn"]) at(id).hidden = !last;
at("slider").max = last;
at("slider").style.marginLeft = GUTTER + "px";
at("slider").style.width = "calc(100% - " + GUTTER + "px)";
at("slider").addEventListener("input", (event) => {
  stop();
  chooseMoment(Number(event.target.value));
});
at("curve").addEventListener("click", (event) => {
  if (!last) return;
  const width = at("curve").clientWidth, x = event.clientX - at("curve").getBoundingClientRect().x;
  stop();
  chooseMoment(Math.round((x - GUTTER - THUMB / 2) / (width - GUTTER - THUMB) * last));
});
document.addEventListener("keydown", (event) => {
  const step = { "[": -1, "]": 1 }[event.key];
  if (!step || event.target.matches("input[type=search], select")) return;
  stop();
  chooseMoment(state.moment + step);
});
at("find").addEventListener("input", showChoices);
at("find").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && choices.length) choices[0].click();
  if (event.key === "ArrowDown" && choices.length) {
    event.preventDefault();
    choices[0].focus();
  }
});
data.scores.forEach((name, index) => at("score").append(make("option", { value: index }, name)));
at("score").addEventListener("change", (event) => {
  state.score = Number(event.target.value);
  showScores();
});
data.questions.forEach(({ asks }, index) => at("question").append(
  make("option", { value: index }, asks)));
at("question").addEventListener("change", (event) => chooseQuestion(Number(event.target.value)));
const READERS = { query: "queries", key: "keys", value: "values" };
data.readings.forEach((name, index) => at("reading").append(
  make("option", { value: index }, READERS[name])));
at("reading").addEventListener("change", (event) => {
  state.reading = Number(event.target.value);
  showComposition();
});
at("about").textContent = data.layers + " layers of " + data.heads + " heads, "
  + whole(data.parameters) + " parameters, looked into "
  + (last ? "at " + data.moments.length + " steps of its training."
    : "at one step: the run has no snapshots. Train with -o training.snapshots=12 for a slider"
      + " over its training.");
at("read").textContent = data.read;
at("repeated").textContent = data.repeated;
dark.addEventListener("change", showMoment);
let width = 0;
new ResizeObserver(() => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  showMoment();
}).observe(document.body);
state.word = Math.max(0, words().length - 2);
makeGrid();
showChoices();
makeStrip();
if (data.questions.length) showPrompts();
showMoment();
