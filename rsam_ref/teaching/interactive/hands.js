// Mouse, finger and keyboard.

function listen() {
  const picture = at("picture");
  const placed = (event) => {
    const box = picture.getBoundingClientRect();
    const pixel = [event.clientX - box.left, event.clientY - box.top];
    return scaleOf(state.view, size).from(pixel).map((v) => rounded(v, state.view[2]));
  };
  const inPicture = (event) => {
    const box = at("ground").getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    return x >= 0 && y >= 0 && x <= box.width && y <= box.height;
  };
  let dragged = false;
  const drag = (event) => {
    moveTo(placed(event));
    redraw();
  };
  picture.addEventListener("pointerdown", (event) => {
    const onHandle = event.target === at("handle");
    const grabs = onHandle || (event.pointerType !== "touch" && inPicture(event));
    if (event.button !== 0 || !grabs) return;
    dragged = true;
    picture.setPointerCapture(event.pointerId);
    at("handle").focus({ preventScroll: true });
    event.preventDefault();
    tell("");
    if (!onHandle) drag(event);
  });
  picture.addEventListener("pointermove", (event) => {
    if (dragged) drag(event);
    else readLoss(event, inPicture(event) ? placed(event) : null);
  });
  picture.addEventListener("pointerleave", (event) => readLoss(event, null));
  for (const end of ["pointerup", "pointercancel"]) {
    picture.addEventListener(end, () => (dragged = false));
  }
  // A finger that taps beside the handle moves w there; one that drags there scrolls the page.
  picture.addEventListener("click", (event) => {
    if (event.pointerType === "touch" && inPicture(event)) drag(event);
  });
  at("handle").addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!way[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const unit = rounded(state.view[2] / 50, state.view[2]) * (event.shiftKey ? 5 : 1);
    moveTo(plus(state.w, times(unit, way[event.key])).map((v) => Number(v.toFixed(4))));
    redraw();
  });
  for (const there of ["pointermove", "focusin"]) {
    document.addEventListener(there, (event) => light(event.target.closest?.("[data-q]")?.dataset.q));
  }
  document.addEventListener("focusout", () => light(null));
  document.addEventListener("click", (event) => {
    const row = event.target.closest?.("button.equation");
    if (row) held = held === row.dataset.q ? null : row.dataset.q;
    else if (event.detail) held = null;
    light(row ? row.dataset.q : null);
  });
  at("methods").addEventListener("change", (event) => choose(event.target.value));
  at("beside").addEventListener("click", (event) => {
    const method = event.target.closest("figure")?.dataset.method;
    if (method && !surfaceNow().without?.[method]) choose(method);
  });
  at("surface").addEventListener("change", (event) => {
    const kept = METHODS[state.method] && !SURFACES[event.target.value].without?.[state.method];
    tell("");
    show({ ...firstState(event.target.value), method: kept ? state.method : "rsam" });
  });
  at("batch").addEventListener("change", (event) => {
    state.batch = Number(event.target.value);
    redraw();
  });
  for (const name of ["lock", "draws", "ends"]) {
    at(name).addEventListener("change", (event) => {
      state[name] = event.target.checked;
      redraw();
    });
  }
  const buttons = { step: takeSteps, run, back, fit, "zoom-in": () => zoom(0.8) };
  Object.assign(buttons, { "zoom-out": () => zoom(1.25), copy: copyLink, theme: otherTheme });
  buttons.draw = () => {
    newDraw();
    redraw();
  };
  for (const [id, act] of Object.entries(buttons)) at(id).addEventListener("click", act);
  at("step").addEventListener("click", halt);
  window.addEventListener("hashchange", () => follow(location.hash));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(resize).observe(picture);
}

function readLoss(event, place) {
  const text = place ? `loss ${signed(surfaceNow().loss(...place, state.batch), 3)} at ${pair(place)}` : "";
  at("pointer").textContent = text;
}
