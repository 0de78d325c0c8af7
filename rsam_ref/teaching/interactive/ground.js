// The ground of a picture: the losses over a square, the lower the nearer to the paper's colour,
// with contour lines. It is drawn once for a square, and copied from then on.

const GRID = 129; // places a side at which the loss is computed
const LEVELS = 16;

// A canvas of pixels x pixels with the losses in view = [x, y, half].
function groundOf(surface, batch, view, pixels, look) {
  const heights = heightsOver(surface, batch, view);
  const known = heights.filter(Number.isFinite).sort();
  const [low, high] = [known[0], known[known.length - 1]];
  // Contours lie closer where the loss is low: the walls of a valley would take all of them.
  const rank = (loss) => Math.sqrt((loss - low) / Math.max(high - low, 1e-12));
  const ranks = heights.map(rank);
  const canvas = blank(pixels);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const cell = pixels / (GRID - 1); // the shades stand for places, so half of one lies outside
  context.drawImage(shades(ranks, look), -cell / 2, -cell / 2, pixels + cell, pixels + cell);
  context.strokeStyle = look.contour;
  context.lineWidth = Math.max(1, pixels / 600);
  context.beginPath();
  for (let level = 1; level < LEVELS; level++) contour(context, ranks, level / LEVELS, cell);
  context.stroke();
  return canvas;
}

function blank(pixels) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = pixels;
  return canvas;
}

// Row by row from the top, GRID x GRID.
function heightsOver(surface, batch, [x, y, half]) {
  const heights = new Float64Array(GRID * GRID);
  for (let j = 0; j < GRID; j++) {
    const up = y + half - (2 * half * j) / (GRID - 1);
    for (let i = 0; i < GRID; i++) {
      const across = x - half + (2 * half * i) / (GRID - 1);
      heights[j * GRID + i] = surface.loss(across, up, batch);
    }
  }
  return heights;
}

function shades(ranks, look) {
  const canvas = blank(GRID);
  const context = canvas.getContext("2d");
  const image = context.createImageData(GRID, GRID);
  const [low, high] = [look.low, look.high].map(parts);
  for (let i = 0; i < ranks.length; i++) {
    for (let part = 0; part < 3; part++) {
      image.data[4 * i + part] = low[part] + ranks[i] * (high[part] - low[part]);
    }
    image.data[4 * i + 3] = Number.isNaN(ranks[i]) ? 0 : 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

// "#rrggbb" as three numbers.
function parts(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.trim().slice(i, i + 2), 16));
}

// The line on which the ranks are `level`: in every cell between the sides that it crosses.
function contour(context, ranks, level, cell) {
  for (let j = 0; j + 1 < GRID; j++) {
    for (let i = 0; i + 1 < GRID; i++) {
      const corner = j * GRID + i;
      const [a, b] = [ranks[corner], ranks[corner + 1]];
      const [d, c] = [ranks[corner + GRID], ranks[corner + GRID + 1]];
      const above = (a >= level) + (b >= level) + (c >= level) + (d >= level);
      if (above === 0 || above === 4 || Number.isNaN(a + b + c + d)) continue;
      const crossed = [];
      const cross = (from, to, x, y, dx, dy) => {
        if (from < level === to < level) return;
        const share = (level - from) / (to - from);
        crossed.push([(x + share * dx) * cell, (y + share * dy) * cell]);
      };
      cross(a, b, i, j, 1, 0);
      cross(b, c, i + 1, j, 0, 1);
      cross(d, c, i, j + 1, 1, 0);
      cross(a, d, i, j, 0, 1);
      for (let k = 0; k + 1 < crossed.length; k += 2) {
        context.moveTo(...crossed[k]);
        context.lineTo(...crossed[k + 1]);
      }
    }
  }
}
