/* Answers: what carries them at a step. Shares are kept in hundredths. */
const LITTLE = .5;  // logits
const question = () => data.questions[state.question];
const carried = () => moment().answers[state.question];
const hundredth = (value) => (value < 0 ? "\u2212" : "") + Math.abs(value);
const differing = () => question().clean.findIndex((word, i) => word !== question().corrupted[i]);

function showPrompts() {
  const { clean, corrupted, answer, wrong } = question();
  const prompt = (words, other, next) => make("p", { class: "prompt" },
    ...words.slice(1).flatMap((word, i) =>
      [i ? " " : "", word === other[i + 1] ? word : make("mark", {}, word)]),
    " → ", make("strong", {}, next));
  at("prompts").replaceChildren(prompt(clean, corrupted, answer), prompt(corrupted, clean, wrong));
}
function preferred(difference) {
  const { answer, wrong } = question();
  return quoted(difference > 0 ? answer : wrong) + " by " + Math.abs(difference).toFixed(2);
}
function showPreference() {
  const now = carried();
  at("preference").textContent = now === null
    ? "At this step the two prompts make no difference to the model's answer."
    : "By their logits the model prefers " + preferred(now.clean) + " after the first prompt, "
      + preferred(now.corrupted) + " after the second"
      + (now.clean > 0 && now.corrupted < 0 ? ": both right."
        : now.clean > 0 || now.corrupted < 0 ? ": one of them right." : ": neither right.")
      + (Math.abs(now.clean - now.corrupted) < LITTLE ? " The two hardly differ, and shares of so"
        + " little say little." : "");
  for (const part of document.querySelectorAll(".carried")) part.hidden = now === null;
}

let spots = [];
function chooseSpot(index) {
  const columns = question().clean.length - differing();
  state.spot = [data.places.length - 1 - Math.floor(index / columns), index % columns];
  showStream();
}
function showStream() {
  const first = differing(), table = at("stream"), { stream } = carried();
  const words = question().clean.slice(first);
  if (!state.spot || state.spot[1] >= words.length) {
    state.spot = [data.places.length - 1, words.length - 1];
  }
  table.tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "after"),
    ...words.map((word) => make("th", { scope: "col" }, clip(word)))));
  table.tBodies[0].replaceChildren(...data.places.map((label, place) => make("tr", {},
    make("th", { scope: "row" }, label), ...stream[place].map((share, position) => {
      const chosen = place === state.spot[0] && position === state.spot[1];
      const button = make("button", { type: "button", "aria-pressed": chosen,
        tabindex: chosen ? 0 : -1 }, hundredth(share));
      paint(button, share / 100);
      return make("td", {}, button);
    }))).reverse());
  spots = [...table.tBodies[0].querySelectorAll("button")];
  asGrid(() => spots, words.length, chooseSpot);
  showInside(table.parentElement, table.querySelector('[aria-pressed="true"]'));
  const [place, position] = state.spot;
  at("spot").textContent = "The stream after “" + data.places[place] + "” at "
    + quoted(words[position]) + ", put into the run on the second prompt, takes it "
    + hundredth(stream[place][position]) + "\u00a0% of the way to the answer of the first.";
}

function showHeads() {
  const [patched, estimated, values] = carried().heads;
  const columns = [["patched", patched], ["estimate", estimated], ["Shapley value", values]]
    .filter(([, column]) => column);
  at("heads").tHead.replaceChildren(make("tr", {}, make("th", { scope: "col" }, "head"),
    ...columns.map(([name]) => make("th", { scope: "col", class: "number" }, name))));
  at("heads").tBodies[0].replaceChildren(...patched.map((_, index) => {
    const layer = Math.floor(index / data.heads), head = index % data.heads;
    const row = make("tr", {}, make("th", { scope: "row" }, (layer + 1) + "." + (head + 1)),
      ...columns.map(([, column]) => {
        const cell = make("td", {}, hundredth(column[index]));
        paint(cell, column[index] / 100);
        return cell;
      }));
    if (layer === state.layer && head === state.head) row.className = "chosen";
    return row;
  }));
  at("shapley").textContent = values
    ? " Shapley value, exact: the mean, over all orders in which the first prompt's run could get"
      + " its heads back, of what the head adds; until then heads keep what they computed on the"
      + " second prompt."
    : " The model has too many heads for Shapley values.";
}

const KINDS = { query: "var(--line)", key: "var(--less)", value: "var(--value)", "": "var(--faint)" };
function showCircuit() {
  const { circuit } = carried(), svg = at("circuit");
  const said = circuit.count === null
    ? "No part of the " + whole(circuit.of) + " connections carries nine tenths of the answer."
    : whole(circuit.count) + " of " + whole(circuit.of) + " connections alone reach "
      + Math.round(100 * circuit.faithfulness) + "\u00a0% of the difference between the prompts.";
  at("circuit-size").textContent = said;
  svg.toggleAttribute("hidden", !circuit.edges.length);
  at("circuit-key").hidden = !circuit.edges.length;
  if (!circuit.edges.length) return;
  const width = svg.clientWidth, step = 34, height = step * (2 * data.layers + 2);
  svg.setAttribute("viewBox", "0 0 " + width + " " + height);
  svg.style.height = height + "px";
  svg.setAttribute("aria-label", said);
  const pitch = width / (data.heads + 1.2), middle = pitch * data.heads / 2;
  const label = (name) => {
    const [, layer, part, head] = name.split(".");
    return layer === undefined ? name : part === "head"
      ? (Number(layer) + 1) + "." + (Number(head) + 1) : "FF " + (Number(layer) + 1);
  };
  const spot = (name) => {
    const [, layer, part, head] = name.split(".");
    const up = name === "embedding" ? 0 : name === "logits" ? 2 * data.layers + 1
      : 2 * Number(layer) + (part === "head" ? 1 : 2);
    const x = layer === undefined ? middle
      : part === "head" ? pitch * (Number(head) + .5) : pitch * (data.heads + .6);
    return [x, height - step * (up + .5)];
  };
  const used = new Set(circuit.edges.flatMap(([from, to]) => [from, to]));
  const most = Math.max(...circuit.edges.map((edge) => Math.abs(edge[3])), 1);
  const lines = circuit.edges.map(([from, to, kind, score]) => {
    const [x, y] = spot(data.nodes[from]), [toX, toY] = spot(data.nodes[to]);
    const end = toX + ({ query: -7, value: 7 }[kind] || 0);
    const line = draw("path", { d: "M" + x + " " + (y - 9) + "C" + x + " " + (y - 24) + " " + end
      + " " + (toY + 24) + " " + end + " " + (toY + 9), fill: "none", stroke: KINDS[kind],
      "stroke-width": .8 + 3 * Math.abs(score) / most });
    line.append(draw("title", {}, label(data.nodes[from]) + " to " + label(data.nodes[to])
      + (kind && ", " + kind) + ": " + hundredth(score) + "\u00a0%"));
    return line;
  });
  const boxes = data.nodes.flatMap((name, node) => {
    const [x, y] = spot(name), text = label(name), half = 6 + 3.2 * text.length;
    const on = used.has(node);
    const box = draw("rect", { x: x - half, y: y - 9, width: 2 * half, height: 18, rx: 4,
      fill: "var(--page)", stroke: on ? "var(--ink)" : "var(--rule)" });
    const caption = draw("text", { x, y: y + 4, "text-anchor": "middle" }, text);
    caption.style.fill = on ? "var(--ink)" : "var(--faint)";
    return [box, caption];
  });
  svg.replaceChildren(...lines, ...boxes);
}
function showAnswers() {
  at("answers").hidden = !data.questions.length;
  if (!data.questions.length) return;
  showPreference();
  if (carried() === null) return;
  showStream();
  showHeads();
  showCircuit();
}
function chooseQuestion(index) {
  state.question = index;
  state.spot = null;
  showPrompts();
  showAnswers();
}
