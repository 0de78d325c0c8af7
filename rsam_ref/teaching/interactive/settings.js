// The settings: a slider and a number each, and what is shown of the rest of the state.

const SLIDERS = ["w₁", "w₂", "rho", "sigma", "lam", "lr", "k"];

const valueOf = (name) =>
  ({ "w₁": () => state.w[0], "w₂": () => state.w[1] })[name]?.() ?? state[name];

function rangeOf(name) {
  if (!name.startsWith("w")) return RANGES[name];
  const [x, y, half] = state.view;
  const middle = name === "w₁" ? x : y;
  return [middle - half, middle + half];
}

function buildSettings() {
  const letters = { rho: "ρ", sigma: "σ", lam: "λ" };
  const told = { rho: "radius", sigma: "size of the draw", lam: "weight of g₀", lr: "learning rate" };
  Object.assign(told, { k: "steps up", "w₁": "first weight", "w₂": "second weight" });
  at("settings").innerHTML = SLIDERS.map(
    (name) =>
      `<div class="setting" data-name="${name}"><label for="slide-${name}">` +
      `<var>${letters[name] ?? name}</var> <span>${told[name]}</span>` +
      `<span class="unseen use"></span></label>` +
      `<input id="slide-${name}" type="range" step="any">` +
      `<input type="number" step="any" aria-label="${told[name]}, as a number"></div>`,
  ).join("");
  for (const row of at("settings").children) {
    const { name } = row.dataset;
    const [slide, number] = row.querySelectorAll("input");
    slide.addEventListener("input", () => {
      const [low, high] = rangeOf(name);
      set(name, name === "k" ? Math.round(slide.value) : rounded(Number(slide.value), high - low));
    });
    number.addEventListener("blur", redraw);
    number.addEventListener("change", () => {
      const range = name.startsWith("w") ? rangeOfW(state.surface) : RANGES[name];
      const [low, high] = range;
      const value = name === "k" ? Math.round(number.value) : Number(number.value);
      const right = number.value.trim() !== "" && value >= low && value <= high;
      if (right) set(name, value);
      else tell(`${told[name]}: a number ${fromTo(range)}`);
      redraw();
    });
  }
}

// To a hundredth of what a slider spans, or a finer round number.
function rounded(value, span) {
  const unit = 10 ** Math.floor(Math.log10(span / 100));
  return Number((Math.round(value / unit) * unit).toFixed(6));
}

function set(name, value) {
  if (name.startsWith("w")) moveTo(name === "w₁" ? [value, state.w[1]] : [state.w[0], value]);
  else state[name] = value;
  redraw();
}

function showSettings() {
  const { takes } = METHODS[state.method];
  for (const row of at("settings").children) {
    const { name } = row.dataset;
    const [slide, number] = row.querySelectorAll("input");
    const [low, high] = rangeOf(name);
    const used = name.startsWith("w") || name === "lr" || takes.includes(name);
    row.classList.toggle("unused", !used);
    row.querySelector(".use").textContent = used ? "" : `, which ${nameOf(state.method, state.k)} has not`;
    slide.min = low;
    slide.max = high;
    slide.step = name === "k" ? 1 : "any";
    if (document.activeElement !== slide || Number(slide.value) !== valueOf(name)) {
      slide.value = valueOf(name);
    }
    if (document.activeElement !== number) number.value = short(valueOf(name));
  }
  at("surface").value = state.surface;
  const { batches } = surfaceNow();
  at("batch-choice").hidden = !batches;
  if (batches) at("batch").value = state.batch;
  at("seed").textContent = `draw ${state.seed}`;
  for (const name of ["lock", "draws", "ends"]) at(name).checked = Boolean(state[name]);
}
