// The state of the page, and the address that it stands in: #surface=ripples&method=rsam&w=0.3,0.8
// What an address says wrongly is told, and left as it was.

const ETA = 0.01;
const RANGES = DATA.ranges;

// Where w may be: a slice knows nothing outside of itself.
const rangeOfW = (name) => SURFACES[name].within ?? RANGES.w;

function firstState(name) {
  const { start, view } = SURFACES[name];
  return { surface: name, method: "rsam", lam: 2, k: 3, seed: 14, batch: 0, ...start, view };
}

const READERS = {
  w: (text, { surface }) => numbers(text, 2, rangeOfW(surface)),
  view: (text) => {
    const [x, y, half] = numbers(text, 3, RANGES.w) ?? [];
    return half >= 0.01 ? [x, y, half] : null;
  },
  rho: (text) => number(text, RANGES.rho),
  sigma: (text) => number(text, RANGES.sigma),
  lam: (text) => number(text, RANGES.lam),
  lr: (text) => number(text, RANGES.lr),
  k: (text) => whole(text, RANGES.k),
  seed: (text) => whole(text, RANGES.seed),
  batch: (text, { surface }) => whole(text, [0, SURFACES[surface].batches ?? 0]),
  lock: (text) => flag(text),
  draws: (text) => flag(text),
  ends: (text) => flag(text),
  method: (text, { surface }) =>
    Object.hasOwn(METHODS, text) && !SURFACES[surface].without?.[text] ? text : null,
};

// [state, what was wrong]: an address over a state to begin with.
function readAddress(hash, begin) {
  const wrong = [];
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  let state = { ...begin };
  if (given.has("surface")) {
    const name = given.get("surface");
    if (Object.hasOwn(SURFACES, name)) state = firstState(name);
    else wrong.push(`surface=${name}`);
  }
  for (const [name, text] of given) {
    if (name === "surface") continue;
    const value = Object.hasOwn(READERS, name) ? READERS[name](text, state) : null;
    if (value === null) wrong.push(`${name}=${text}${wanted(name, state)}`);
    else state[name] = value;
  }
  return [state, wrong];
}

// Of a number, what it may be.
function wanted(name, { surface }) {
  const range = name === "w" ? rangeOfW(surface) : Object.hasOwn(RANGES, name) ? RANGES[name] : null;
  if (!range || (name === "batch" && !SURFACES[surface].batches)) return "";
  return ` (${name === "w" ? "two numbers, each" : "a number"} ${fromTo(range)})`;
}

const fromTo = ([low, high]) => `from ${signed(low, 0)} to ${signed(high, 0)}`;

// Of the digits that a number has, as few as lead back to it: a link is to exactly this picture.

function writeAddress(state) {
  const usual = firstState(state.surface);
  const parts = [`surface=${state.surface}`, `method=${state.method}`];
  for (const name of Object.keys(READERS)) {
    const value = state[name];
    if (name === "method" || value === undefined || value === false) continue;
    const text = [value].flat().map((v) => (v === true ? 1 : v)).join(",");
    if (String(usual[name]) !== text || name === "w") parts.push(`${name}=${text}`);
  }
  return `#${parts.join("&")}`;
}

const short = (value) => String(Number(value.toFixed(4))); // to be read

function number(text, [low, high]) {
  const value = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i.test(text) ? Number(text) : NaN;
  return value >= low && value <= high ? value : null;
}

function whole(text, range) {
  return /^\d+$/.test(text) ? number(text, range) : null;
}

function numbers(text, count, range) {
  const values = text.split(",").map((part) => number(part, range));
  return values.length === count && !values.includes(null) ? values : null;
}

function flag(text) {
  return { 0: false, 1: true }[text] ?? null;
}
