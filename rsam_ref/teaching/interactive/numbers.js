// The equations of a method with the numbers of this step beside them, and the step in a sentence.

function equationRows(method) {
  const rows = [["w", "w"], ...METHODS[method].equations];
  return rows
    .map(
      ([q, formula], i) =>
        `<li><button type="button" class="equation" data-q="${q}" data-row="${i}">` +
        `<span class="swatch ${LOOKS[q]}"></span><span class="formula">${typeset(formula)}</span>` +
        `<span class="value"></span></button></li>`,
    )
    .join("");
}

const LOOKS = { D: "draw", g0: "gradient", gi: "gradient", a: "eps dashed", eps: "eps" };
LOOKS.g = LOOKS.after = "descent";

function fillEquations(list, step, method, lossAtW) {
  const ends = METHODS[method].equations.map(([q]) => q);
  for (const button of list.querySelectorAll("button")) {
    const { q, row } = button.dataset;
    const early = ends.indexOf(q, row) >= 0 && ends.lastIndexOf(q) > row - 1;
    button.querySelector(".value").innerHTML = valueText(q, early, step, method, lossAtW);
  }
}

// The number of a quantity; `early`: it is changed once more in a later line.
function valueText(q, early, step, method, lossAtW) {
  const { asked } = step;
  const loss = (at, value) => ` <span class="loss">L(${at}) ${signed(value, 3)}</span>`;
  const length = (v, name) => ` <span class="loss">‖${name}‖ ${signed(norm(v), 3)}</span>`;
  switch (q) {
    case "w":
      return pair(step.w) + loss("w", lossAtW);
    case "D":
      return pair(step.D) + length(step.D, "D");
    case "g0":
      return pair(step.g0) + loss(step.D ? "w + D" : "w", step.loss);
    case "gi":
      return pair(asked[asked.length - 2].gradient) + ` <span class="loss">the last one</span>`;
    case "a":
      return pair(step.a) + length(step.a, "a");
    case "eps": {
      const eps = early && method === "k-step" ? difference(asked[1].place, step.w) : step.eps;
      return pair(eps) + length(eps, "ε");
    }
    case "g":
      return pair(step.g) + (step.eps ? loss("w + ε", step.adversarialLoss) : length(step.g, "g"));
    default:
      return pair(step.after) + loss("w′", step.lossAfter);
  }
}

const pair = (v) => `(${signed(v[0], 3)}, ${signed(v[1], 3)})`;

// The step for those who do not see it.
function inWords({ state, step, top, lossAtW }) {
  const name = nameOf(state.method, state.k);
  const end = `The step lands at ${pair(step.after)}, where the loss is ${signed(step.lossAfter, 3)}.`;
  const start = `${name} from w = ${pair(step.w)}, where the loss is ${signed(lossAtW, 3)}.`;
  if (state.method === "sgd") return `${start} ${end}`;
  const share = shareOf(step, top, lossAtW);
  const told = Number.isFinite(share) ? `, ${signed(100 * share, 0)} % of the largest rise` : "";
  const reached = `At w + ε the loss is ${signed(step.adversarialLoss, 3)}${told}.`;
  return `${start} ${reached} ${end}`;
}
