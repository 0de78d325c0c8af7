// The step in the picture: its arrows and places on the ground, as SVG.

const EDGE = { left: 46, bottom: 40, top: 6, right: 6 }; // room for ticks
const WEIGHTS = ["first weight, w₁", "second weight, w₂"];
const GLYPHS = {
  sam: "M-5,-5H5V5H-5Z",
  "k-step": "M0,-7L6.5,5H-6.5Z",
  asam: "M0,7L6.5,-5H-6.5Z",
  rsam: "M0,-7L7,0L0,7L-7,0Z",
  stacked: "M-6,-2H-2V-6H2V-2H6V2H2V6H-2V2H-6Z",
  gradient: "M-6,0A6,6 0 1 0 6,0A6,6 0 1 0 -6,0Z",
  ball: "M-6,-3L-3,-6L0,-3L3,-6L6,-3L3,0L6,3L3,6L0,3L-3,6L-6,3L-3,0Z",
};
const STAR = [...Array(10).keys()]
  .map((i) => times(i % 2 ? 4.2 : 10, [Math.sin((i * Math.PI) / 5), -Math.cos((i * Math.PI) / 5)]))
  .map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`)
  .join(" ");

// All vectors of a step: which quantity, label, where it starts, the way, look.
function arrowsOf(step, { method, lam, lr }) {
  const { w, D, g0, a, eps, g, asked } = step;
  const down = times(-lr, g);
  if (method === "sgd") return [["g", "−lr g", w, down, "descent"]];
  const found = [];
  if (D) found.push(["D", "D", w, D, "draw"]);
  const weighed = a && D; // R-SAM's direction is made of lam g0 and D
  if (weighed) found.push(["g0", lam === 1 ? "g₀" : "λ g₀", plus(w, D), times(lam, g0), "gradient"]);
  else found.push(["g0", "g₀", D ? plus(w, D) : w, g0, "gradient dashed"]);
  if (a) found.push(["a", "a", w, a, "eps dashed"]);
  if (method === "stacked") {
    found.push(["eps", "", plus(w, D), plus(eps, times(-1, D)), "eps dashed"]);
  }
  if (method === "k-step") {
    for (let i = 1; i < asked.length; i++) {
      const { place, gradient } = asked[i];
      found.push(["eps", "", asked[i - 1].place, difference(place, asked[i - 1].place), "eps"]);
      if (i + 1 < asked.length) {
        found.push(["gi", `g${"₀₁₂₃₄₅₆₇₈₉"[i]}`, place, gradient, "gradient dashed"]);
      }
    }
    found.push(["eps", "ε", w, eps, "eps dashed"]);
  } else {
    found.push(["eps", "ε", w, eps, "eps"]);
  }
  found.push(["g", "−lr g", plus(w, eps), down, "descent dotted"], ["g", "", w, down, "descent"]);
  return found;
}

const difference = (a, b) => plus(a, times(-1, b));

function dotsOf(step) {
  const { w, D, eps, after } = step;
  const dots = [["w", "w", w]];
  if (D) dots.push(["D", "w + D", plus(w, D)]);
  if (eps) dots.push(["eps", "w + ε", plus(w, eps)]);
  dots.push(["after", "w′", after]);
  return dots;
}

// From weights to pixels of a square of `size`, and back.
function scaleOf([x, y, half], size) {
  const unit = size / (2 * half);
  return {
    unit,
    to: ([a, b]) => [EDGE.left + (a - x + half) * unit, EDGE.top + (y + half - b) * unit],
    from: ([a, b]) => [(a - EDGE.left) / unit + x - half, y + half - (b - EDGE.top) / unit],
  };
}

// shown: {step, state, size, top, lit, path, ends, cloud, labels}; gives the SVG's inside.
function drawStep(shown) {
  const { step, state, size, top, lit, path, ends, cloud } = shown;
  const scale = scaleOf(state.view, size);
  const part = (q) => (lit && lit !== q ? " dim" : lit === q ? " lit" : "");
  const svg = [ticks(state.view, size, SURFACES[state.surface].axes ?? WEIGHTS)];
  svg.push(`<svg x="${EDGE.left}" y="${EDGE.top}" width="${size}" height="${size}"`);
  svg.push(` viewBox="${EDGE.left} ${EDGE.top} ${size} ${size}">`);
  if (path.length > 1) svg.push(trail(path.map(scale.to)));
  for (const place of cloud) svg.push(circle(scale.to(place), 3, "cloud"));
  const [cx, cy] = scale.to(step.w);
  if (state.method !== "sgd") {
    const ring = (rx, ry, name) =>
      `<ellipse data-q="rho" class="ring ${name}${part("rho")}" cx="${cx}" cy="${cy}"` +
      ` rx="${rx}" ry="${ry}"/>`;
    svg.push(ring(state.rho * scale.unit, state.rho * scale.unit, ""));
    if (state.method === "asam") {
      const T = step.w.map((v) => state.rho * (Math.abs(v) + ETA) * scale.unit);
      svg.push(ring(T[0], T[1], "thin"));
    }
  }
  const arrows = arrowsOf(step, state)
    .map(([q, text, start, way, look], i) => {
      const [from, to] = [scale.to(start), scale.to(plus(start, way))];
      return { id: `${state.method}${i}`, q, text, from, to, look, long: norm(difference(to, from)) };
    })
    .filter(({ long }) => Number.isFinite(long) && long > 3);
  for (const arrow of [...arrows].sort((a, b) => b.long - a.long)) {
    svg.push(arrowSvg(arrow, part(arrow.q)));
  }
  for (const [method, place] of ends) svg.push(glyph(method, scale.to(place), "end"));
  if (top && state.method !== "sgd") {
    const [x, y] = scale.to(plus(step.w, top.eps));
    svg.push(`<polygon data-q="top" class="star${part("top")}" points="${STAR}"`);
    svg.push(` transform="translate(${x} ${y})"/>`);
  }
  const dots = joined(dotsOf(step).map(([q, text, at]) => ({ q, text, dot: scale.to(at) })));
  for (const { q, dot } of dots) svg.push(circle(dot, 5, `place${part(q)}`, q));
  svg.push(written(shown, dots, arrows, scale, part), "</svg>");
  return svg.join("");
}

// Places that lie on each other have one label together.
function joined(dots) {
  const kept = [];
  for (const dot of dots.filter(({ dot }) => dot.every(Number.isFinite))) {
    const same = kept.find((other) => norm(difference(other.dot, dot.dot)) < 3);
    if (same) same.text += ` = ${dot.text}`;
    else kept.push(dot);
  }
  return kept.map((dot) => ({ ...dot, id: dot.text }));
}

function written({ step, state, size, top, labels }, dots, arrows, scale, part) {
  const em = Math.max(16, Math.min(30, size / 25));
  const inside = (v) => clamp(v, size);
  const within = ({ dot: [x, y] }) =>
    x >= EDGE.left && y >= EDGE.top && x <= EDGE.left + size && y <= EDGE.top + size;
  const offset = ([x, y]) => [x - EDGE.left, y - EDGE.top];
  const items = dots.filter(within).map((dot) => ({ ...dot, dot: offset(dot.dot) }));
  if (top && state.method !== "sgd") {
    const dot = offset(scale.to(plus(step.w, top.eps)));
    items.push({ id: "max", q: "top", text: "max", dot });
  }
  for (const { from, to, ...arrow } of arrows) {
    const seen = clipped(offset(from), offset(to), inside);
    const same = items.find(({ q, ways }) => ways && q === arrow.q && arrow.q === "g");
    if (seen && same) same.ways.push(seen); // the same arrow at another place
    else if (seen) items.push({ ...arrow, text: arrow.text || (arrow.q === "g" ? "−lr g" : ""), ways: [seen] });
  }
  const named = new Map(items.map((item) => [item.id, item]));
  const obstacles = items.filter(({ text }) => text);
  const placed = placeLabels(obstacles, { width: size, height: size, em, before: labels });
  return placed
    .map(({ id, text, place: [x, y] }) => {
      const { q } = named.get(id);
      const look = `label${part(q)}`;
      const at = `x="${x + EDGE.left}" y="${y + EDGE.top}" font-size="${em}"`;
      return `<text data-q="${q}" class="${look}" ${at}>${text}</text>`;
    })
    .join("");
}

const clamp = (v, size) => Math.min(Math.max(v, 0), size);

// The part of an arrow that is in the square; null where none of it is.
function clipped(from, to, inside) {
  const seen = along(from, to).filter(([x, y]) => inside(x) === x && inside(y) === y);
  const [first, last] = [seen[0], seen[seen.length - 1]];
  return seen.length > 1 && norm(difference(first, last)) > 8 ? [first, last] : null;
}

function arrowSvg({ q, from, to, look, long }, state) {
  const head = Math.min(15, 0.6 * long);
  const unit = times(1 / long, difference(to, from));
  const back = plus(to, times(-head, unit));
  const side = times(0.42 * head, [-unit[1], unit[0]]);
  const end = plus(back, times(0.3 * head, unit));
  const line = `x1="${from[0]}" y1="${from[1]}" x2="${end[0]}" y2="${end[1]}"`;
  const tip = [to, plus(back, side), difference(back, side)].map((p) => p.join(",")).join(" ");
  return (
    `<g data-q="${q}" class="arrow ${look}${state}"><line class="halo" ${line}/>` +
    `<line class="reach" ${line}/><line class="shaft" ${line}/><polygon points="${tip}"/></g>`
  );
}

function circle([x, y], r, look, q) {
  return `<circle ${q ? `data-q="${q}"` : ""} class="${look}" cx="${x}" cy="${y}" r="${r}"/>`;
}

function glyph(method, [x, y], look) {
  return `<path class="${look}" d="${GLYPHS[method]}" transform="translate(${x} ${y})"/>`;
}

function trail(points) {
  const line = `<polyline class="trail" points="${points.map((p) => p.join(",")).join(" ")}"/>`;
  return line + points.slice(0, -1).map((p) => circle(p, 2.5, "passed")).join("");
}

// Round numbers along both sides.
function ticks([x, y, half], size, axes) {
  const least = (2 * half) / 6;
  const power = 10 ** Math.floor(Math.log10(least));
  const apart = [1, 2, 5, 10].map((m) => m * power).find((m) => m >= least * 0.999999);
  const svg = [];
  const every = (middle, draw) => {
    for (let i = Math.ceil((middle - half) / apart); i * apart <= middle + half + 1e-9; i++) {
      draw(signed(i * apart, Math.max(0, -Math.floor(Math.log10(apart) + 1e-9))), i * apart);
    }
  };
  const { to } = scaleOf([x, y, half], size);
  every(x, (text, at) => {
    const [px] = to([at, y]);
    svg.push(`<text class="tick" x="${px}" y="${EDGE.top + size + 15}">${text}</text>`);
  });
  every(y, (text, at) => {
    const [, py] = to([x, at]);
    svg.push(`<text class="tick up" x="${EDGE.left - 6}" y="${py}">${text}</text>`);
  });
  const middle = size / 2;
  svg.push(`<text class="tick" x="${EDGE.left + middle}" y="${EDGE.top + size + 33}">`);
  svg.push(`${axes[0]}</text><text class="tick" x="0" y="0" transform="`);
  svg.push(`translate(11 ${EDGE.top + middle}) rotate(-90)">${axes[1]}</text>`);
  return svg.join("");
}

// A number with a true minus sign, and with no minus before a zero.
function signed(value, digits) {
  if (!Number.isFinite(value)) return "not a number";
  const text = Math.abs(value) < 1e5 ? value.toFixed(digits) : value.toExponential(1);
  return /[1-9]/.test(text) ? text.replaceAll("-", "−") : text.replace("-", "");
}
