// Losses of two weights, with their gradients: those of surfaces.py and grounds.py.
//
// loss(x, y, batch) and gradient(x, y, batch); the batch means something to one of them alone.
// `start` is the state in which a surface is first shown, `view` the middle and half of the side of
// the square that is drawn; `within`: from where to where both weights may be, if not anywhere.

const straight = (x) => 0.15 * (x - 1) ** 2; // the floor of a straight valley
const alongStraight = (x) => 0.3 * (x - 1);

const SURFACES = {
  ripples: {
    told: "a bent valley with ripples",
    start: { w: [0.3, 0.8], rho: 0.5, sigma: 0.25, lr: 0.4 },
    view: [0.4, 1, 1.6],
    loss(x, y) {
      const ripple = 0.35 * Math.tanh(3 * (x - 0.6)) * Math.tanh(3 * (y - 0.7));
      return straight(x) + 0.6 * (y - 0.5 * x * x) ** 2 + ripple;
    },
    gradient(x, y) {
      const [a, b] = [Math.tanh(3 * (x - 0.6)), Math.tanh(3 * (y - 0.7))];
      const bend = 1.2 * (y - 0.5 * x * x);
      return [
        alongStraight(x) - bend * x + 1.05 * (1 - a * a) * b,
        bend + 1.05 * a * (1 - b * b),
      ];
    },
  },
  narrow: {
    told: "a narrow valley",
    start: { w: [0.3, 0.8], rho: 0.5, sigma: 0.25, lr: 0.2 },
    view: [0.6, 0.6, 1.4],
    loss: (x, y) => straight(x) + 2 * (y - 0.6) ** 2,
    gradient: (x, y) => [alongStraight(x), 4 * (y - 0.6)],
  },
  wide: {
    told: "a wide valley",
    start: { w: [0.3, 0.8], rho: 0.5, sigma: 0.25, lr: 0.4 },
    view: [0.6, 0.6, 1.4],
    loss: (x, y) => straight(x) + 0.3 * (y - 0.6) ** 2,
    gradient: (x, y) => [alongStraight(x), 0.6 * (y - 0.6)],
  },
  ridge: {
    told: "a ridge between two slopes",
    start: { w: [0.3, 0.8], rho: 0.5, sigma: 0.25, lr: 0.2 },
    view: [0.5, 1, 1.4],
    loss: (x, y) => straight(x) + 0.8 * Math.exp(-12 * (y - 1) ** 2),
    gradient: (x, y) => [alongStraight(x), -19.2 * (y - 1) * Math.exp(-12 * (y - 1) ** 2)],
  },
  saddle: {
    told: "a saddle",
    start: { w: [0.3, 0.8], rho: 0.5, sigma: 0.25, lr: 0.4 },
    view: [0.2, 0.5, 1.5],
    loss: (x, y) => 0.6 * (y - 0.5) ** 2 - 0.3 * (x - 0.2) ** 2,
    gradient: (x, y) => [-0.6 * (x - 0.2), 1.2 * (y - 0.5)],
  },
  ravine: {
    told: "a ravine, the network u v that should be 1",
    start: { w: [2, 0.65], rho: 0.5, sigma: 0.1, lr: 0.1 },
    view: [2, 0.75, 1.3],
    loss: (u, v) => (u * v - 1) ** 2 / 2,
    gradient: (u, v) => [(u * v - 1) * v, (u * v - 1) * u],
  },
  cosines: {
    told: "a ravine with ripples",
    start: { w: [0.2, 0.1], rho: 0.5, sigma: 0.9, lr: 0.05 },
    view: [0.2, 0.13, 0.85],
    loss: (x, y) => (x * x + 9 * y * y) / 2 + 0.3 * Math.cos(8 * x) * Math.cos(8 * y),
    gradient: (x, y) => [
      x - 2.4 * Math.sin(8 * x) * Math.cos(8 * y),
      9 * y - 2.4 * Math.cos(8 * x) * Math.sin(8 * y),
    ],
  },
  batches: {
    told: "a network of two weights, on mini-batches",
    start: { w: [0.6, 0.4], rho: 0.4, sigma: 0.2, lr: 0.4, batch: 1 },
    view: [1.6, 1, 1.8],
    batches: 6,
    // v tanh(u x) is fitted to samples (x, y); half of the mean squared error
    loss(u, v, batch) {
      const chosen = batchOf(batch);
      let total = 0;
      for (const [x, y] of chosen) total += (v * Math.tanh(u * x) - y) ** 2;
      return total / (2 * chosen.length);
    },
    gradient(u, v, batch) {
      const chosen = batchOf(batch);
      let [inU, inV] = [0, 0];
      for (const [x, y] of chosen) {
        const t = Math.tanh(u * x);
        inU += (v * t - y) * v * (1 - t * t) * x;
        inV += (v * t - y) * t;
      }
      return [inU / chosen.length, inV / chosen.length];
    },
  },
  digits: {
    told: "a slice through a network trained on digits",
    start: { w: [0, 0], rho: 0.4, sigma: 0.2, lr: 0.3, seed: 99 },
    view: [0, 0, 1.2],
    scale: DATA.digits.scale,
    within: [-DATA.digits.reach, DATA.digits.reach],
    axes: ["along the gradient at (0, 0)", "towards the inner maximum there"],
    without: { asam: "two coordinates in a plane are no weights, so |w| says nothing" },
    loss: (x, y) => spline(x, y, rises, rises),
    gradient: (x, y) => [spline(x, y, slopes, rises), spline(x, y, rises, slopes)],
  },
};

// The samples of a mini-batch of four; number 0 is all of them.
function batchOf(batch) {
  return batch ? DATA.samples.slice(4 * (batch - 1), 4 * batch) : DATA.samples;
}

// What the rules are given: loss and gradient at a place, on one mini-batch.
function lossAndGradOf(surface, batch) {
  return ([x, y]) => [surface.loss(x, y, batch), surface.gradient(x, y, batch)];
}

// The cubic spline through the slice's losses, which are known from -reach to reach: the sum of
// 4 x 4 coefficients, weighed by the cubic B-splines or their slopes.
function spline(x, y, acrossBy, upBy) {
  const { reach, coefficients } = DATA.digits;
  const last = coefficients.length - 3; // intervals a side
  const apart = (2 * reach) / last;
  if (!(Math.abs(x) <= reach && Math.abs(y) <= reach)) return NaN;
  const [i, j] = [x, y].map((at) => Math.min(Math.floor((at + reach) / apart), last - 1));
  const across = acrossBy((x + reach) / apart - i, apart);
  const up = upBy((y + reach) / apart - j, apart);
  let total = 0;
  for (let m = 0; m < 4; m++) {
    const row = coefficients[j + m];
    for (let n = 0; n < 4; n++) total += up[m] * across[n] * row[i + n];
  }
  return total;
}

function rises(t) {
  const s = 1 - t;
  return [s ** 3, 3 * t ** 3 - 6 * t * t + 4, 3 * s ** 3 - 6 * s * s + 4, t ** 3].map((b) => b / 6);
}

function slopes(t, apart) {
  const s = 1 - t;
  const by = [-s * s, 3 * t * t - 4 * t, -3 * s * s + 4 * s, t * t];
  return by.map((b) => b / (2 * apart));
}
