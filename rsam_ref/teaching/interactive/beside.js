// All methods from the same weights: a list with what each reaches of the inner maximum, and small
// pictures of their steps and of the ways that they have gone.

function methodRows(surface) {
  return Object.keys(METHODS)
    .map((method) => {
      const not = surface.without?.[method];
      const mark = GLYPHS[method]
        ? `<path class="end" d="${GLYPHS[method]}" transform="translate(8 8)"/>`
        : "";
      const reading = READINGS.includes(method) ? ' class="reading"' : "";
      return (
        `<label${reading} data-method="${method}">` +
        `<input type="radio" name="method" value="${method}"${not ? " disabled" : ""}>` +
        `<svg class="mark" viewBox="0 0 16 16" aria-hidden="true">${mark}</svg>` +
        `<span class="name"></span><span class="bar" aria-hidden="true"><i></i></span>` +
        `<span class="share"></span></label>`
      );
    })
    .join("");
}

// What a method reaches of the inner maximum, in words.
function shareText(method, step, top, lossAtW, not) {
  if (not) return "not here";
  if (method === "sgd") return "no ascent";
  const share = shareOf(step, top, lossAtW);
  return Number.isFinite(share) ? `${signed(100 * share, 0)} %` : "–";
}

function fillMethodRows(list, { state, surface, steps, top, lossAtW }) {
  for (const label of list.children) {
    const { method } = label.dataset;
    const step = steps[method];
    const not = surface.without?.[method];
    label.querySelector("input").checked = method === state.method;
    label.querySelector("input").disabled = Boolean(not);
    label.title = not ?? "";
    label.querySelector(".name").textContent = nameOf(method, state.k);
    const share = step ? shareOf(step, top, lossAtW) : NaN;
    label.classList.toggle("beyond", Boolean(step?.eps) && norm(step.eps) > 1.01 * state.rho);
    const wide = Number.isFinite(share) ? Math.min(Math.max(share, 0), 1) : 0;
    label.querySelector(".bar i").style.width = `${100 * wide}%`;
    label.querySelector(".share").textContent = shareText(method, step, top, lossAtW, not);
  }
  const beyond = list.querySelector(".beyond") ? "Striped: ε is longer than ρ." : "";
  document.getElementById("beyond").textContent = beyond;
}

const SMALL = 132; // pixels a side

function smallPictures() {
  return Object.keys(METHODS)
    .map(
      (method) =>
        `<figure data-method="${method}"><canvas width="${2 * SMALL}" height="${2 * SMALL}" ` +
        `role="img" aria-label="${METHODS[method].name}: its step and its way"></canvas>` +
        `<figcaption></figcaption></figure>`,
    )
    .join("");
}

// One method's step on a copy of the ground; its way so far in a line below.
function drawSmall(figure, { ground, state, step, path, top, look, surface }) {
  const { method } = figure.dataset;
  const context = figure.querySelector("canvas").getContext("2d");
  const size = 2 * SMALL;
  context.clearRect(0, 0, size, size);
  figure.classList.toggle("chosen", method === state.method);
  const caption = [nameOf(method, state.k)];
  if (!step) {
    figure.querySelector("figcaption").textContent = `${caption[0]}: not here`;
    return;
  }
  context.drawImage(ground, 0, 0, size, size);
  const [x, y, half] = state.view;
  const to = ([a, b]) => [((a - x + half) * size) / (2 * half), ((y + half - b) * size) / (2 * half)];
  context.lineWidth = 3;
  if (method !== "sgd") {
    context.strokeStyle = look.eps;
    context.setLineDash([4, 5]);
    context.beginPath();
    context.arc(...to(step.w), (state.rho * size) / (2 * half), 0, 2 * Math.PI);
    context.stroke();
    context.setLineDash([]);
    mark(context, to(plus(step.w, top.eps)), look.ink, 5);
  }
  context.strokeStyle = look.ink;
  context.lineWidth = 2;
  context.beginPath();
  for (const place of path) context.lineTo(...to(place));
  context.stroke();
  for (const [, , start, way, colour] of arrowsOf(step, { ...state, method })) {
    arrowOn(context, to(start), to(plus(start, way)), look[colour.split(" ")[0]], colour);
  }
  mark(context, to(step.w), look.ink, 6);
  const steps = path.length - 1;
  const loss = surface.loss(...path[steps], 0);
  caption.push(steps ? `${steps} step${steps > 1 ? "s" : ""}: loss ${signed(loss, 3)}` : "");
  figure.querySelector("figcaption").replaceChildren(caption[0], document.createElement("br"), caption[1]);
}

function mark(context, [x, y], colour, r) {
  context.fillStyle = colour;
  context.beginPath();
  context.arc(x, y, r, 0, 2 * Math.PI);
  context.fill();
}

function arrowOn(context, from, to, colour, look) {
  const long = norm(difference(to, from));
  if (!(long > 4) || !Number.isFinite(long)) return;
  const head = Math.min(16, 0.6 * long);
  const unit = times(1 / long, difference(to, from));
  const back = plus(to, times(-head, unit));
  context.strokeStyle = context.fillStyle = colour;
  context.lineWidth = 5;
  context.setLineDash(look.endsWith("dashed") ? [10, 6] : look.endsWith("dotted") ? [4, 5] : []);
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...back);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(...to);
  for (const side of [1, -1]) {
    context.lineTo(...plus(back, times(0.45 * side * head, [-unit[1], unit[0]])));
  }
  context.fill();
}
