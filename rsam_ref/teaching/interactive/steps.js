// SAM, R-SAM and their other readings: the rules of rsam_ref/algorithms/sam.py and variants.py,
// line by line, for weights that are a pair of numbers. Nothing here knows the page.
//
// lossAndGrad(w) gives [the loss at w, its gradient]. Every rule gives the quantities of its step
// by their names in the equations; w itself stays as it is.

const TINY = 1e-12;

const plus = (a, b) => [a[0] + b[0], a[1] + b[1]];
const times = (c, v) => [c * v[0], c * v[1]];
const each = (a, b) => [a[0] * b[0], a[1] * b[1]]; // element by element
const norm = (v) => Math.sqrt(v[0] * v[0] + v[1] * v[1]);

function sgdGradient(lossAndGrad, w) {
  const [loss, g] = lossAndGrad(w); // g = grad L(w)
  return { loss, g };
}

function samGradient(lossAndGrad, w, { rho, k = 1 }) {
  const radius = rho / k;
  const [loss, g0] = lossAndGrad(w); // g0 = grad L(w)
  let eps = times(radius / (norm(g0) + TINY), g0); // eps = (rho / k) g0 / ||g0||
  for (let i = 1; i < k; i++) {
    // k-step SAM: further up, from where the ascent is by now
    const [, gi] = lossAndGrad(plus(w, eps));
    eps = plus(eps, times(radius / (norm(gi) + TINY), gi));
  }
  return descent(lossAndGrad, w, eps, { loss, g0 });
}

function asamGradient(lossAndGrad, w, { rho, eta }) {
  const [loss, g0] = lossAndGrad(w); // g0 = grad L(w)
  const T = [Math.abs(w[0]) + eta, Math.abs(w[1]) + eta]; // a diagonal matrix
  const scaled = each(T, g0); // T g0
  const eps = times(rho / (norm(scaled) + TINY), each(T, scaled)); // eps = rho T^2 g0 / ||T g0||
  return descent(lossAndGrad, w, eps, { loss, g0, a: each(T, scaled) });
}

function rsamGradient(lossAndGrad, w, D, { rho, lam }) {
  const [loss, g0] = lossAndGrad(plus(w, D)); // g0 = grad L(w + D)
  const a = plus(times(lam, g0), D); // a = lam g0 + D
  const eps = times(rho / (norm(a) + TINY), a); // eps = rho a / ||a||
  return descent(lossAndGrad, w, eps, { loss, D, g0, a }); // not at w + D + eps
}

function stackedGradient(lossAndGrad, w, D, { rho }) {
  const [loss, g0] = lossAndGrad(plus(w, D)); // g0 = grad L(w + D)
  const eps = plus(D, times(rho / (norm(g0) + TINY), g0)); // eps = D + rho g0 / ||g0||
  return descent(lossAndGrad, w, eps, { loss, D, g0 });
}

function gradientGradient(lossAndGrad, w, D, { rho }) {
  const [loss, g0] = lossAndGrad(plus(w, D)); // g0 = grad L(w + D)
  const eps = times(rho / (norm(g0) + TINY), g0); // eps = rho g0 / ||g0||
  return descent(lossAndGrad, w, eps, { loss, D, g0 });
}

// The end of every rule: g = grad L(w + eps), with what the ascent found.
function descent(lossAndGrad, w, eps, found) {
  const [adversarialLoss, g] = lossAndGrad(plus(w, eps));
  return { ...found, eps, adversarialLoss, g };
}

// D = sigma s z. Two weights are one filter, so s is their norm, unless it is said.
function filterNoise(w, { sigma, z, scale }) {
  const s = scale ?? [norm(w) + 1e-16, norm(w) + 1e-16];
  return times(sigma, each(s, z));
}

// The reading `ball`: D = sigma z / ||z||.
const ballNoise = ({ sigma, z }) => times(sigma / norm(z), z);

const RULES = {
  sgd: (f, w) => sgdGradient(f, w),
  sam: (f, w, { rho }) => samGradient(f, w, { rho }),
  "k-step": (f, w, { rho, k }) => samGradient(f, w, { rho, k }),
  asam: (f, w, { rho, eta }) => asamGradient(f, w, { rho, eta }),
  rsam: (f, w, set) => rsamGradient(f, w, filterNoise(w, set), set),
  stacked: (f, w, set) => stackedGradient(f, w, filterNoise(w, set), set),
  gradient: (f, w, set) => gradientGradient(f, w, filterNoise(w, set), set),
  ball: (f, w, set) => rsamGradient(f, w, ballNoise(set), set),
};

// One step of gradient descent with the gradient of a rule. `asked` is where the rule took its
// gradients, and what they were.
function takeStep(method, lossAndGrad, w, settings) {
  const asked = [];
  const recorded = (place) => {
    const [loss, gradient] = lossAndGrad(place);
    asked.push({ place, loss, gradient });
    return [loss, gradient];
  };
  const found = RULES[method](recorded, w, settings);
  const after = plus(w, times(-settings.lr, found.g)); // w' = w - lr g
  return { ...found, w, after, asked };
}
