// What the methods are called, their equations, and what each quantity is, in words.

const GRADIENT_AT_END = ["g", "g = grad L(w + eps)"];
const BASE_STEP = ["after", "w' = w - lr g"];
const DRAW = ["D", "D = sigma s z"];
const AT_DRAW = ["g0", "g0 = grad L(w + D)"];
const DIRECTION = ["a", "a = lam g0 + D"];
const ALONG_A = ["eps", "eps = rho a / (||a|| + tiny)"];
const ALONG_G0 = ["eps", "eps = rho g0 / (||g0|| + tiny)"];

const METHODS = {
  sgd: {
    name: "SGD",
    equations: [["g", "g = grad L(w)"], BASE_STEP],
    takes: [],
  },
  sam: {
    name: "SAM",
    equations: [["g0", "g0 = grad L(w)"], ALONG_G0, GRADIENT_AT_END, BASE_STEP],
    takes: ["rho"],
  },
  "k-step": {
    name: "k-step SAM",
    equations: [
      ["g0", "g0 = grad L(w)"],
      ["eps", "eps = rho/k g0 / (||g0|| + tiny)"],
      ["gi", "gi = grad L(w + eps)"],
      ["eps", "eps += rho/k gi / (||gi|| + tiny)"],
      GRADIENT_AT_END,
      BASE_STEP,
    ],
    takes: ["rho", "k"],
  },
  asam: {
    name: "ASAM",
    equations: [
      ["g0", "g0 = grad L(w)"],
      ["a", "a = T^2 g0, T = |w| + eta"],
      ["eps", "eps = rho a / (||T g0|| + tiny)"],
      GRADIENT_AT_END,
      BASE_STEP,
    ],
    takes: ["rho"],
  },
  rsam: {
    name: "R-SAM",
    equations: [DRAW, AT_DRAW, DIRECTION, ALONG_A, GRADIENT_AT_END, BASE_STEP],
    takes: ["rho", "sigma", "lam"],
  },
  stacked: {
    name: "stacked",
    equations: [
      DRAW,
      AT_DRAW,
      ["eps", "eps = D + rho g0 / (||g0|| + tiny)"],
      GRADIENT_AT_END,
      BASE_STEP,
    ],
    takes: ["rho", "sigma"],
  },
  gradient: {
    name: "gradient",
    equations: [DRAW, AT_DRAW, ALONG_G0, GRADIENT_AT_END, BASE_STEP],
    takes: ["rho", "sigma"],
  },
  ball: {
    name: "ball",
    equations: [
      ["D", "D = sigma z / ||z||"],
      AT_DRAW,
      DIRECTION,
      ALONG_A,
      GRADIENT_AT_END,
      BASE_STEP,
    ],
    takes: ["rho", "sigma", "lam"],
  },
};

const READINGS = ["stacked", "gradient", "ball"];

const WORDS = {
  w: "the weights",
  D: "the random draw around w",
  g0: "the first gradient",
  gi: "a gradient on the way up",
  a: "the direction of the ascent",
  eps: "the perturbation, from w",
  g: "the gradient that moves w",
  after: "the new weights",
  rho: "the radius",
  top: "the inner maximum: the highest loss within the radius",
};

// The letters of the equations for the names of the code, and which quantity each one is.
const SYMBOLS = [
  ["w'", "w′", "after"],
  ["w", "w", "w"],
  ["D", "D", "D"],
  ["g0", "g₀", "g0"],
  ["gi", "gᵢ", "gi"],
  ["g", "g", "g"],
  ["a", "a", "a"],
  ["eps", "ε", "eps"],
  ["rho", "ρ", "rho"],
  ["sigma", "σ", null],
  ["lam", "λ", null],
  ["eta", "η", null],
  ["L", "L", null],
  ["T", "T", null],
  ["s", "s", null],
  ["z", "z", null],
  ["k", "k", null],
];

// A formula as HTML: letters for names, each marked with the quantity that it is.
function typeset(formula) {
  const escaped = formula.replace("T^2", "T²").replace("tiny", "10⁻¹²");
  return escaped.replace(/[A-Za-z][a-z]*[0-9']?|\|\||[-*]/g, (word) => {
    if (word === "||") return "‖";
    if (word === "-") return "−";
    if (word === "grad") return "∇";
    const symbol = SYMBOLS.find(([name]) => name === word);
    if (!symbol) return word;
    const [, letter, quantity] = symbol;
    return quantity ? `<var data-q="${quantity}">${letter}</var>` : `<var>${letter}</var>`;
  });
}

function nameOf(method, k) {
  return method === "k-step" ? `${k}-step SAM` : METHODS[method].name;
}
