// What ties it together: the state, what a reader does to it, and drawing it again.

const at = (id) => document.getElementById(id);
const FIRST = DATA.start || "surface=ripples";
const STEP_TIME = 400; // milliseconds between steps that run
const GLIDE = 250;
const OUTSIDE = "w is outside of the picture: Fit shows it, Back returns to where it began.";

let state = firstState("ripples");
let paths = {}; // of every method: where it has been, the last one is its w
let lit = null;
let held = null; // a quantity that stays lit
let running = null;
let ground = { key: "", canvas: null };
let pending = false;
let size = 0;
const labels = new Map();
const trace = { redraws: 0, times: [] }; // how long redraws took, in milliseconds

const surfaceNow = () => SURFACES[state.surface];

function settingsAt(seed) {
  return { ...state, eta: ETA, z: DATA.draws[seed], scale: surfaceNow().scale };
}

function stepOf(method, w, seed = state.seed) {
  if (surfaceNow().without?.[method]) return null;
  const surface = surfaceNow();
  const step = takeStep(method, lossAndGradOf(surface, state.batch), w, settingsAt(seed));
  return { ...step, lossAfter: surface.loss(...step.after, state.batch) };
}

function allSteps() {
  const steps = {};
  for (const method of Object.keys(METHODS)) {
    const step = stepOf(method, state.w);
    if (step) steps[method] = step;
  }
  return steps;
}

// --- drawing -------------------------------------------------------------------------------------

function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    const before = performance.now();
    draw();
    trace.redraws += 1;
    trace.times.push(performance.now() - before);
    if (trace.times.length > 1000) trace.times.shift();
  });
}

function draw() {
  const surface = surfaceNow();
  const look = lookNow();
  drawGround(surface, look);
  const steps = allSteps();
  const step = steps[state.method];
  const lossAtW = surface.loss(...state.w, state.batch);
  const top = innerMaximum(surface, state.batch, state.w, state.rho);
  const shown = { state, surface, steps, step, top, lossAtW, size, lit, labels };
  shown.path = [...paths[state.method].slice(0, -1), state.w];
  shown.ends = state.ends ? otherEnds(steps) : [];
  shown.cloud = state.draws && step.D ? cloudOf() : [];
  at("arrows").innerHTML = drawStep(shown);
  placeHandle(shown);
  fillEquations(at("equations"), step, state.method, lossAtW);
  fillMethodRows(at("methods"), shown);
  const g = surface.gradient(...state.w, state.batch);
  at("rim").innerHTML = drawRim({ surface, state, w: state.w, steps, top, lossAtW, g });
  for (const figure of at("beside").children) {
    const method = figure.dataset.method;
    const path = method === state.method ? shown.path : paths[method];
    const small = { ground: ground.canvas, state, step: steps[method], path, top, look, surface };
    drawSmall(figure, small);
  }
  showSettings();
  tellDraws(shown);
  later("words", 500, () => (at("words").textContent = inWords(shown)));
  later("address", 300, () => history.replaceState(null, "", writeAddress(state)));
}

function drawGround(surface, look) {
  const key = JSON.stringify([state.surface, state.batch, state.view, size, look]);
  if (ground.key !== key) {
    const pixels = Math.round(size * Math.min(2, window.devicePixelRatio || 1));
    ground = { key, canvas: groundOf(surface, state.batch, state.view, pixels, look) };
    const canvas = at("ground");
    canvas.width = canvas.height = pixels;
    canvas.getContext("2d").drawImage(ground.canvas, 0, 0);
  }
}

function lookNow() {
  const style = getComputedStyle(document.documentElement);
  const names = ["low", "high", "contour", "ink", "draw", "gradient", "eps", "descent"];
  return Object.fromEntries(names.map((n) => [n, style.getPropertyValue(`--${n}`).trim()]));
}

function otherEnds(steps) {
  return Object.entries(steps)
    .filter(([method, { eps }]) => eps?.every(Number.isFinite) && method !== state.method)
    .map(([method, { eps }]) => [method, plus(state.w, eps)]);
}

function cloudOf() {
  const ends = DATA.draws.map((_, seed) => plus(state.w, stepOf(state.method, state.w, seed).eps));
  return ends.filter((end) => end.every(Number.isFinite));
}

function placeHandle({ lossAtW }) {
  const place = scaleOf(state.view, size).to(state.w);
  const edge = [EDGE.left, EDGE.top];
  const [x, y] = place.map((v, i) => edge[i] + clamp(v - edge[i], size)); // at the rim, if outside
  const handle = at("handle");
  handle.style.transform = `translate(${x}px, ${y}px)`;
  const outside = Math.abs(x - place[0]) + Math.abs(y - place[1]) > 0.5;
  handle.classList.toggle("outside", outside);
  const told = at("told").textContent;
  if (outside && !told) tell(OUTSIDE);
  if (!outside && told === OUTSIDE) tell("");
  handle.setAttribute("aria-valuenow", short(state.w[0]));
  const where = outside ? ", outside of the picture" : "";
  handle.setAttribute("aria-valuetext", `w = ${pair(state.w)}, loss ${signed(lossAtW, 3)}${where}`);
}

// How the 200 draws fare against SAM, in a line.
function tellDraws({ steps, step, top, lossAtW }) {
  at("cloud").textContent = "";
  if (!state.draws || !step.D) return;
  const all = DATA.draws.map((_, seed) => stepOf(state.method, state.w, seed).adversarialLoss);
  const reached = all.filter(Number.isFinite);
  const sam = steps.sam.adversarialLoss;
  const name = nameOf(state.method, state.k);
  if (!reached.length || !Number.isFinite(sam)) {
    at("cloud").textContent = `What ${name} and SAM reach is not known here.`;
    return;
  }
  const above = reached.filter((loss) => isHigher(loss, sam)).length;
  const mean = reached.reduce((a, b) => a + b, 0) / reached.length;
  const rise = top.loss - lossAtW;
  const share = (loss, of) => (rise > 1e-12 ? `, ${signed((100 * (loss - lossAtW)) / rise, 0)} %${of}` : "");
  const known = reached.length < all.length ? " whose end is known" : "";
  at("cloud").textContent =
    `Of ${reached.length} draws${known} ${name} climbs higher than SAM in ${above}; ` +
    `on the mean to ${signed(mean, 3)}${share(mean, " of the largest rise")}, ` +
    `SAM to ${signed(sam, 3)}${share(sam, "")}.`;
}

// By more than rounding: without a draw R-SAM's step is SAM's, but for the last digits.
const isHigher = (loss, other) => loss - other > 1e-12 * Math.max(1, Math.abs(other));

const timers = {};
function later(name, wait, act) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(act, wait);
}

// --- what is done to it --------------------------------------------------------------------------

function start(w) {
  state.w = w;
  paths = Object.fromEntries(Object.keys(METHODS).map((method) => [method, [w]]));
}

function moveTo(w) {
  const [low, high] = rangeOfW(state.surface);
  halt();
  start(w.map((v) => Math.min(Math.max(v, low), high)));
}

function show(next) {
  halt();
  const other = next.surface !== state.surface || next.method !== state.method;
  state = next;
  start(next.w);
  if (other || !at("equations").children.length) buildMethod();
  redraw();
}

function buildMethod() {
  at("equations").innerHTML = equationRows(state.method);
  const rules = {
    sgd: sgdGradient,
    asam: asamGradient,
    rsam: rsamGradient,
    ball: rsamGradient,
    stacked: stackedGradient,
    gradient: gradientGradient,
  };
  const parts = [rules[state.method] ?? samGradient];
  if (state.method !== "sgd") parts.push(descent);
  at("code").textContent = parts.map(String).join("\n\n");
  at("surface-told").textContent = surfaceNow().told;
}

function choose(method) {
  state.method = method;
  state.w = paths[method].at(-1);
  buildMethod();
  redraw();
}

function takeSteps() {
  for (const method of Object.keys(METHODS)) {
    const w = paths[method].at(-1);
    const after = stepOf(method, w)?.after;
    if (isKnown(after)) paths[method].push(after);
    else if (method === state.method) {
      const name = nameOf(method, state.k);
      tell(`${name} has left what the picture knows: Back returns to where it began, Fit shows w.`);
      halt();
    }
  }
  if (!state.lock) newDraw();
  glideTo(paths[state.method].at(-1));
}

// Whether a loss is known there, and the address can say it.
function isKnown(w) {
  const [low, high] = rangeOfW(state.surface);
  const near = w?.every((v) => v >= low && v <= high);
  return near && Number.isFinite(surfaceNow().loss(...w, state.batch));
}

function newDraw() {
  state.seed = (state.seed + 1) % DATA.draws.length;
  const { batches } = surfaceNow();
  if (batches && state.batch) state.batch = (state.batch % batches) + 1;
}

// w moves to where the step has landed; at once, for those who want no motion.
function glideTo(w) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const [from, began] = [state.w, performance.now()];
  const move = (now) => {
    const share = still ? 1 : Math.min(1, Math.max(0, now - began) / GLIDE);
    if (paths[state.method].at(-1) !== w) return; // something else has moved it
    state.w = share < 1 ? plus(from, times(share, difference(w, from))) : w;
    redraw();
    if (share < 1) requestAnimationFrame(move);
  };
  move(began);
}

function run() {
  if (running) return halt();
  tell("");
  at("run").textContent = "Stop";
  at("run").setAttribute("aria-pressed", "true");
  running = setInterval(takeSteps, STEP_TIME);
  takeSteps();
}

function halt() {
  clearInterval(running);
  running = null;
  at("run").textContent = "Run";
  at("run").setAttribute("aria-pressed", "false");
}

function back() {
  halt();
  tell("");
  moveTo(paths[state.method][0]);
  redraw();
}

function zoom(by) {
  const [x, y, half] = state.view;
  const inner = Math.min(100, Math.max(0.02, half * by));
  const keep = 1 - inner / half; // of the way to w, so that w stays where it is
  const [wx, wy] = state.w;
  showSquare([x + keep * (wx - x), y + keep * (wy - y), inner], 4);
}

// At this square, as far as an address can say it.
function showSquare(view, digits) {
  const [low, high] = RANGES.w;
  state.view = view.map((v) => Number(Math.min(Math.max(v, low), high).toFixed(digits)));
  redraw();
}

// The square that shows all of this step.
function fit() {
  const step = stepOf(state.method, state.w);
  const points = dotsOf(step).map(([, , place]) => place);
  points.push(...arrowsOf(step, state).flatMap(([, , from, way]) => [from, plus(from, way)]));
  if (step.eps) {
    for (const side of [-1, 1]) points.push(plus(step.w, [side * state.rho, side * state.rho]));
  }
  const spans = [0, 1].map((i) => {
    const values = points.map((p) => p[i]).filter(Number.isFinite);
    return [Math.min(...values), Math.max(...values)];
  });
  const half = 0.6 * Math.max(...spans.map(([low, high]) => high - low), 0.1);
  const middle = spans.map(([low, high]) => (low + high) / 2);
  showSquare([...middle, half], 3);
}

function light(q) {
  const next = q ?? held;
  if (next === lit) return;
  lit = next;
  for (const marked of document.querySelectorAll("[data-q].lit")) marked.classList.remove("lit");
  if (lit) {
    for (const marked of document.querySelectorAll(`.formula [data-q="${lit}"], .equation[data-q="${lit}"]`)) {
      marked.classList.add("lit");
    }
  }
  at("meaning").textContent = lit ? meaningOf(lit) : "";
  redraw();
}

function meaningOf(q) {
  const symbol = SYMBOLS.find(([, , quantity]) => quantity === q);
  return `${symbol ? `${symbol[1]}: ` : ""}${WORDS[q]}`;
}

function tell(text) {
  at("told").textContent = text;
}

async function copyLink() {
  const address = location.href.split("#")[0] + writeAddress(state);
  history.replaceState(null, "", address);
  try {
    await navigator.clipboard.writeText(address);
    tell("The link to this picture is copied.");
  } catch {
    tell("The link to this picture is in the address bar.");
  }
}

function otherTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = root.dataset.theme ?? (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  redraw();
}

function resize() {
  const box = at("picture").getBoundingClientRect();
  const wide = Math.round(box.width - EDGE.left - EDGE.right);
  if (wide === size || wide < 50) return;
  size = wide;
  const canvas = at("ground");
  canvas.style.left = `${EDGE.left}px`;
  canvas.style.top = `${EDGE.top}px`;
  canvas.style.width = canvas.style.height = `${size}px`;
  at("picture").style.height = `${size + EDGE.top + EDGE.bottom}px`;
  redraw();
}

// What an address says; what is wrong in it is told, and the rest is taken.
function follow(hash) {
  const [begin] = readAddress(FIRST, firstState("ripples"));
  const [next, wrong] = readAddress(hash || FIRST, begin);
  tell(wrong.length ? `Not understood in the address, and left out: ${wrong.join(", ")}` : "");
  show(next);
}

function open() {
  const option = ([name, { told }]) => `<option value="${name}">${told}</option>`;
  at("surface").innerHTML = Object.entries(SURFACES).map(option).join("");
  const numbers = [...Array(SURFACES.batches.batches).keys()].map((i) => i + 1);
  at("batch").innerHTML =
    numbers.map((i) => `<option value="${i}">mini-batch ${i}</option>`).join("") +
    `<option value="0">all samples</option>`;
  at("methods").innerHTML = methodRows(surfaceNow());
  at("beside").innerHTML = smallPictures();
  buildSettings();
  listen();
  follow(location.hash);
  resize();
}

open();
