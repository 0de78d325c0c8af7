// Where the labels of a picture stand: each where there is most room, and where it stood before if
// there is still about as much. All in pixels.

// items: {id, text, dot} for a place, {id, text, from, to} for an arrow; dots come first.
// Gives [{id, text, place}]; an arrow whose label would hide something has none.
function placeLabels(items, { width, height, em, before }) {
  const taken = items.flatMap((item) => (item.dot ? marked(item.dot) : along(item.from, item.to)));
  const placed = [];
  for (const item of items) {
    const half = [(0.29 * item.text.length + 0.3) * em, 0.68 * em];
    const room = (place) => {
      let [nearest, hidden] = [0.4 * em, 0];
      for (const other of taken) {
        const x = Math.max(Math.abs(other[0] - place[0]) - half[0], 0);
        const y = Math.max(Math.abs(other[1] - place[1]) - half[1], 0);
        const gap = Math.hypot(x, y);
        if (gap === 0) hidden += 1;
        else if (gap < nearest) nearest = gap;
      }
      const inside = Math.min(
        place[0] - half[0],
        width - place[0] - half[0],
        place[1] - half[1],
        height - place[1] - half[1],
      );
      return nearest - 0.5 * em * hidden + 10 * Math.min(0, inside);
    };
    const choices = item.dot ? around(item.dot, half, em) : beside(item, half, em);
    const best = choices
      .map((place, i) => [room(place) + (before.get(item.id) === i ? 0.3 * em : -0.01 * i), place, i])
      .reduce((a, b) => (b[0] > a[0] ? b : a));
    if (!item.dot && best[0] < -0.5 * em) continue;
    before.set(item.id, best[2]);
    placed.push({ id: item.id, text: item.text, place: best[1] });
    for (const x of [-1, -0.5, 0, 0.5, 1]) {
      for (const y of [-1, 0, 1]) taken.push(plus(best[1], each([x, y], half)));
    }
  }
  return placed;
}

// A place as points: hiding it is worse than crossing an arrow.
function marked(dot) {
  return [...Array(5).keys()].map(() => dot);
}

function along(from, to) {
  const points = [];
  for (let share = 0; share <= 1; share += 1 / 24) {
    points.push(plus(times(1 - share, from), times(share, to)));
  }
  return points;
}

function around(dot, half, em) {
  return [0.65, 1.4].flatMap((off) =>
    [...Array(16).keys()].map((i) => {
      const turn = (2 * Math.PI * i) / 16;
      return plus(dot, each([Math.cos(turn), Math.sin(turn)], plus(half, [off * em, off * em])));
    }),
  );
}

function beside({ from, to }, half, em) {
  const way = plus(to, times(-1, from));
  const normal = times(1 / norm(way), [-way[1], way[0]]);
  const off = Math.abs(normal[0]) * half[0] + Math.abs(normal[1]) * half[1] + 0.3 * em;
  return [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.9].flatMap((share) =>
    [1, -1].map((side) => plus(plus(from, times(share, way)), times(side * off, normal))),
  );
}
