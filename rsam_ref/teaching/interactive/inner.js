// The inner maximum: the highest loss within the radius rho around w, which SAM's and R-SAM's one
// step stands in for. All of the disc is looked at coarsely; the best places then climb.

const TURNS = 72;
const RINGS = 6;

function innerMaximum(surface, batch, w, rho) {
  const found = [{ eps: [0, 0], loss: surface.loss(...w, batch) }];
  for (let ring = 1; ring <= RINGS; ring++) {
    for (let turn = 0; turn < TURNS; turn++) {
      const angle = (2 * Math.PI * turn) / TURNS;
      const eps = times((rho * ring) / RINGS, [Math.cos(angle), Math.sin(angle)]);
      found.push({ eps, loss: surface.loss(...plus(w, eps), batch) });
    }
  }
  const known = found.filter(({ loss }) => Number.isFinite(loss));
  const starts = known.sort((a, b) => b.loss - a.loss).slice(0, 6);
  const tops = starts.map((start) => climb(surface, batch, w, rho, start));
  return tops.reduce((best, top) => (top.loss > best.loss ? top : best), { loss: -Infinity });
}

// Projected gradient ascent: along the gradient, back to the rim if that leaves the disc; a step
// that does not rise is halved, one that does is doubled.
function climb(surface, batch, w, rho, { eps, loss }) {
  let length = rho / 16;
  for (let step = 0; step < 60 && length > 1e-9 * rho; step++) {
    const g = surface.gradient(...plus(w, eps), batch);
    let trial = plus(eps, times(length / (norm(g) + TINY), g));
    trial = times(Math.min(1, rho / (norm(trial) + TINY)), trial);
    const reached = surface.loss(...plus(w, trial), batch);
    if (reached > loss) [eps, loss, length] = [trial, reached, Math.min(2 * length, 4 * rho)];
    else length /= 2;
  }
  return { eps, loss };
}

// What a step's w + eps has of the largest rise: 1 is all of it, below 0 the loss falls.
function shareOf(step, top, lossAtW) {
  const largest = top.loss - lossAtW;
  if (step.eps === undefined || !(largest > 1e-12)) return NaN;
  return (step.adversarialLoss - lossAtW) / largest;
}
