// The loss on the circle of radius rho by the angle from the gradient at w: where the inner maximum
// is, and where each method's w + eps has come to.

const RIM = { width: 340, height: 186, left: 40, right: 8, top: 12, bottom: 34 };

// shown: {surface, state, w, steps, top, lossAtW}; gives the SVG's inside.
function drawRim({ surface, state, w, steps, top, lossAtW, g }) {
  const north = Math.atan2(g[1], g[0]);
  const turned = (v) => {
    const turn = ((Math.atan2(v[1], v[0]) - north) * 180) / Math.PI;
    return turn - 360 * Math.round(turn / 360);
  };
  const rim = [...Array(145).keys()].map((i) => {
    const turn = -180 + 2.5 * i;
    const angle = north + (turn * Math.PI) / 180;
    const eps = times(state.rho, [Math.cos(angle), Math.sin(angle)]);
    return [turn, surface.loss(...plus(w, eps), state.batch)];
  });
  const reached = Object.entries(steps).filter(([, { eps }]) => eps);
  const losses = [...rim.map(([, loss]) => loss), lossAtW, top.loss];
  losses.push(...reached.map(([, { adversarialLoss }]) => adversarialLoss));
  const known = losses.filter(Number.isFinite);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const wide = RIM.width - RIM.left - RIM.right;
  const tall = RIM.height - RIM.top - RIM.bottom;
  const x = (turn) => RIM.left + (wide * (turn + 180)) / 360;
  const y = (loss) => RIM.top + tall * (1 - (loss - low) / Math.max(high - low, 1e-12));

  const svg = [];
  for (const [loss, text, look] of [
    [lossAtW, "L(w)", ""],
    [top.loss, "max", "top"],
  ]) {
    const line = `x1="${RIM.left}" x2="${RIM.width - RIM.right}" y1="${y(loss)}" y2="${y(loss)}"`;
    svg.push(`<line class="level ${look}" ${line}/>`);
    svg.push(`<text class="tick up" x="${RIM.left - 4}" y="${y(loss)}">${text}</text>`);
  }
  for (const turn of [-180, -90, 0, 90, 180]) {
    const anchor = { "-180": "start", 180: "end" }[turn] ?? "middle";
    svg.push(`<text class="tick" style="text-anchor:${anchor}" x="${x(turn)}"`);
    svg.push(` y="${RIM.height - RIM.bottom + 14}">${signed(turn, 0)}°</text>`);
  }
  svg.push(`<text class="tick" x="${x(0)}" y="${RIM.height - 4}">angle from the gradient at w</text>`);
  const points = rim.filter(([, loss]) => Number.isFinite(loss));
  svg.push(`<polyline class="rim" points="${points.map(([t, l]) => `${x(t)},${y(l)}`).join(" ")}"/>`);
  const last = reached.sort(([a], [b]) => (a === state.method) - (b === state.method));
  for (const [method, { eps, adversarialLoss }] of last) {
    if (!Number.isFinite(adversarialLoss)) continue;
    const look = method === state.method ? "end chosen" : "end";
    svg.push(glyph(method, [x(turned(eps)), y(adversarialLoss)], look));
  }
  const star = `translate(${x(turned(top.eps))} ${y(top.loss)}) scale(.8)`;
  svg.push(`<polygon class="star" points="${STAR}" transform="${star}"/>`);
  return svg.join("");
}
