/* What every interactive page draws with. */
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const headName = (layer, head) => "Layer " + (layer + 1) + ", head " + (head + 1);
const clip = (word) => [...word].length > 14 ? [...word].slice(0, 13).join("") + "…" : word;

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
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
const AGAINST = { light: [[243, 245, 248], [253, 219, 190], [241, 163, 96], [200, 90, 10]],
  dark: [[27, 33, 41], [84, 48, 20], [158, 88, 26], [240, 160, 90]] };
function mixed(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(place), stops.length - 2);
  const mix = stops[i].map((low, c) => Math.round(low + (stops[i + 1][c] - low) * (place - i)));
  return "rgb(" + mix.join(",") + ")";
}
/* Blue for shares up to 1; orange for what is below 0. */
const shade = (share) => share < 0 ? mixed(dark.matches ? AGAINST.dark : AGAINST.light, -share)
  : mixed(dark.matches ? DARK : LIGHT, share);
const inkOn = (share) => dark.matches ? (Math.abs(share) > .6 ? "#0d1117" : "#e6edf3")
  : (share > .68 ? "#ffffff" : "#1f2328");
function paint(node, share) {
  node.style.background = shade(share);
  node.style.color = inkOn(share);
}
