// Where the labels of a picture stand: each where there is most room, and where it stood before if
// there is still about as much. All in pixels.

// items: {id, text, dot} for a place, {id, text, ways: [[from, to], ...]} for an arrow that is drawn
// once or more, beside any of which its label may stand; dots come first.
// Gives [{id, text, place}]; an arrow whose label would hide something has none.
function placeLabels(items, { width, height, em, before }) {
  const taken = items.flatMap(({ dot, ways }) => (dot ? marked(dot) : ways.flatMap((way) => along(...way))));
  const boxes = []; // of the labels so far: middle and half of the sides
  const placed = [];
  for (const item of items) {
    const half = [(0.29 * item.text.length + 0.3) * em, 0.68 * em];
    const apart = (other, sides) =>
      Math.hypot(...other.map((v, i) => Math.max(Math.abs(v) - half[i] - sides[i], 0)));
    const room = (place) => {
      let [nearest, hidden, over] = [0.4 * em, 0, 0];
      const less = (other, sides) => {
        const gap = apart(difference(other, place), sides);
        nearest = gap > 0 ? Math.min(nearest, gap) : nearest;
        return gap === 0;
      };
      for (const other of taken) hidden += less(other, [0, 0]);
      for (const { middle, sides } of boxes) over += less(middle, sides);
      const inside = Math.min(
        place[0] - half[0],
        width - place[0] - half[0],
        place[1] - half[1],
        height - place[1] - half[1],
      );
      return nearest - 0.5 * em * hidden - 4 * em * over + 10 * Math.min(0, inside);
    };
    const choices = item.dot
      ? around(item.dot, half, em)
      : item.ways.flatMap((way) => beside(way, half, em));
    const best = choices
      .map((place, i) => [room(place) + (before.get(item.id) === i ? 0.3 * em : -0.01 * i), place, i])
      .reduce((a, b) => (b[0] > a[0] ? b : a));
    if (!item.dot && best[0] < -1.2 * em) continue;
    before.set(item.id, best[2]);
    placed.push({ id: item.id, text: item.text, place: best[1] });
    boxes.push({ middle: best[1], sides: half });
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

// From the middle of an arrow on, on both sides of it: close to it, and a little further away.
function beside([from, to], half, em) {
  const way = difference(to, from);
  const normal = times(1 / norm(way), [-way[1], way[0]]);
  const reach = Math.abs(normal[0]) * half[0] + Math.abs(normal[1]) * half[1];
  return [0.3, 0.8].flatMap((off) =>
    [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.9, 0.1].flatMap((share) =>
      [1, -1].map((side) => plus(plus(from, times(share, way)), times(side * (reach + off * em), normal))),
    ),
  );
}
