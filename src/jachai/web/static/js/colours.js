// Heat → colour: the same stops as in the report (jachai/report/pictures.py), transparent where nothing is odd.

const STOPS = [
  [0.0, [20, 11, 53, 0]],
  [0.2, [87, 16, 110, 0]],
  [0.35, [120, 28, 109, 90]],
  [0.5, [188, 55, 84, 150]],
  [0.7, [237, 105, 37, 185]],
  [0.85, [251, 155, 6, 205]],
  [1.0, [252, 255, 164, 225]],
];

/** 256 × (red, green, blue, opacity). */
export const HEAT = table();

function table() {
  const colours = new Uint8ClampedArray(1024);
  for (let n = 0; n < 256; n += 1) {
    const value = n / 255;
    const next = Math.max(1, STOPS.findIndex(([at]) => at >= value));
    const [low, from] = STOPS[next - 1];
    const [high, to] = STOPS[next];
    const share = Math.min(1, Math.max(0, (value - low) / (high - low)));
    for (let c = 0; c < 4; c += 1) colours[4 * n + c] = from[c] + share * (to[c] - from[c]);
  }
  return colours;
}

/** A canvas with the colour bar, opaque, from 0 to 1. */
export function colourBar(canvas) {
  const context = canvas.getContext("2d");
  const picture = context.createImageData(canvas.width, canvas.height);
  for (let x = 0; x < canvas.width; x += 1) {
    const n = Math.round((255 * x) / (canvas.width - 1));
    const opacity = HEAT[4 * n + 3] / 255;
    for (let y = 0; y < canvas.height; y += 1) {
      const at = 4 * (y * canvas.width + x);
      for (let c = 0; c < 3; c += 1) picture.data[at + c] = 70 * (1 - opacity) + HEAT[4 * n + c] * opacity;
      picture.data[at + 3] = 255;
    }
  }
  context.putImageData(picture, 0, 0);
}
