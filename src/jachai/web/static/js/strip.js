// The highest heat of each slice → a strip to jump by, and small pictures of the most suspicious slices.

import * as api from "./api.js";
import { h, svg } from "./dom.js";
import { num, t } from "./language.js";

const THUMBNAILS = 6;
const WIDTH = 1000;
const HEIGHT = 80;

/** {element, at(slice), stop}. */
export function strip(base, plane, volume, state, onSlice) {
  const scores = volume.slice_scores;
  if (scores.length < 2) return { element: h("div", {}), at: () => {}, stop: () => {} };
  const x = (k) => (WIDTH * (k + 0.5)) / scores.length;
  const y = (score) => HEIGHT - 4 - (HEIGHT - 10) * Math.min(1, Math.max(0, score));
  const line = scores.map((score, k) => `${x(k).toFixed(1)},${y(score).toFixed(1)}`).join(" ");
  const cursor = svg("line", { y1: 0, y2: HEIGHT, class: "cursor" });
  const marks = state.found ? state.places.map((place) => {
    const k = Math.min(scores.length - 1, Math.round(place.center_kji[0]));
    return svg("path", { d: `M${x(k) - 7},0h14l-7,11z`, class: "mark" });
  }) : [];
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "strip", role: "img", "aria-label": t("strip.label", { n: peaks(scores, state.found)[0] + 1 }) },
    svg("polygon", { points: `${x(0)},${HEIGHT} ${line} ${x(scores.length - 1)},${HEIGHT}`, class: "area" }),
    svg("polyline", { points: line, class: "curve" }),
    svg("line", { x1: 0, x2: WIDTH, y1: y(0.5), y2: y(0.5), class: "limit" }),
    ...marks,
    cursor,
  );
  const jump = (event) => {
    const box = drawing.getBoundingClientRect();
    onSlice(Math.min(scores.length - 1, Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * scores.length))));
  };
  drawing.addEventListener("pointerdown", (event) => {
    drawing.setPointerCapture(event.pointerId);
    jump(event);
  });
  drawing.addEventListener("pointermove", (event) => event.buttons && jump(event));
  const thumbnails = peaks(scores, state.found).map((k) => thumbnail(`${base}/slices/${plane}/${k}.png`, k, scores[k], onSlice));
  const element = h(
    "div",
    { class: "overview" },
    h("h3", {}, t("strip.title")),
    drawing,
    h("div", { class: "ticks small" }, h("span", {}, t("strip.slice", { n: 1 })), h("span", {}, t("strip.dashed")), h("span", {}, t("strip.slice", { n: scores.length }))),
    h("div", { class: "thumbnails", role: "group", "aria-label": t("strip.thumbnails") }, thumbnails),
  );
  const at = (k) => {
    cursor.setAttribute("x1", x(k));
    cursor.setAttribute("x2", x(k));
    for (const button of thumbnails) button.setAttribute("aria-pressed", String(Number(button.dataset.slice) === k));
  };
  return { element, at, stop: () => {} };
}

/** The slices with the highest scores, apart from each other. */
function peaks(scores, found) {
  const apart = Math.max(2, Math.round(scores.length / 25));
  const order = scores.map((score, k) => [score, k]).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
  const chosen = [];
  for (const [, k] of order) if (chosen.length < THUMBNAILS && chosen.every((other) => Math.abs(other - k) >= apart)) chosen.push(k);
  return chosen;
}

function thumbnail(path, k, score, onSlice) {
  const picture = h("img", { src: api.url(path), alt: "", width: "96", height: "96" });
  const words = t("strip.thumbnail", { slice: k + 1, score });
  return h("button", { type: "button", class: "thumbnail", "data-slice": k, onclick: () => onSlice(k) }, picture, h("span", { class: "unseen" }, words), h("span", { class: score > 0.5 ? "hot" : "", "aria-hidden": "true" }, num(k + 1), " · ", num(score, 2)));
}
