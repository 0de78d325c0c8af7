// Takes the recorded steps with the page's own functions, and tells what differs by more than 1e-12.
function checkSteps(recorded) {
  const wrong = [];
  for (const { case: given, gives } of recorded) {
    const surface = SURFACES[given.surface];
    const f = lossAndGradOf(surface, given.batch);
    const settings = { ...given, eta: 0.01, z: DATA.draws[given.seed], scale: surface.scale };
    const found = takeStep(given.method, f, given.w, settings);
    for (const [name, value] of Object.entries(gives)) {
      const [there, here] = [[value].flat(), [found[name]].flat()];
      const close = (v, i) => Math.abs(v - here[i]) <= 1e-12 * Math.max(1, Math.abs(v));
      if (there.length !== here.length || !there.every(close)) wrong.push({ given, name, value });
    }
    for (const name of ["D", "g0", "eps"]) {
      if (name in found !== name in gives) wrong.push({ given, name });
    }
  }
  return { cases: recorded.length, wrong };
}
