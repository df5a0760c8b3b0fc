// Cue values of the findings against the scan's own distribution → a picture; before and after for simulated studies.

import * as api from "./api.js";
import { h, svg } from "./dom.js";
import { named, num, t } from "./language.js";

const LEFT = 12;
const [WIDE, NARROW] = [600, 320];
const PICTURE = 260;
const MOST_FINDINGS = 9;
const CANDIDATES = 3;
const CLOSE_MM = 90;

/** The evidence of one result; fills itself when its data have come. */
export function evidencePanel(base, result, goTo) {
  const body = h("div", {}, h("p", { class: "soft" }, t("page.loading")));
  const element = h("section", { class: "card", id: "evidence" }, h("h2", {}, t("evidence.title")), body);
  api.evidence(base).then(
    (evidence) => body.replaceChildren(...[cues(evidence, result), evidence.before_after?.available ? beforeAfter(base, result) : null].filter(Boolean)),
    (problem) => body.replaceChildren(h("p", { class: "problem" }, problem.words ?? t("error.internal"))),
  );
  return element;
}

function cues(evidence, result) {
  if (!evidence.cues.length) return h("p", {}, t("evidence.none"));
  const found = result.findings.length > 0;
  const values = evidence.cues.flatMap((cue) => [...Object.values(cue.scan_quantiles), ...cue.z_at_findings]).filter(Number.isFinite);
  const [low, high] = [Math.min(-3, ...values), Math.max(3, ...values)];
  const width = matchMedia("(max-width: 620px)").matches ? NARROW : WIDE;
  const x = (z) => LEFT + ((width - 2 * LEFT) * (z - low)) / (high - low);
  return h(
    "div",
    {},
    h("p", {}, t(found ? "evidence.what" : "evidence.what.candidates")),
    evidence.cues.map((cue) => row(cue, x, found, width)),
    h("p", { class: "small soft" }, t("evidence.legend")),
  );
}

function row(cue, x, found, width) {
  const q = cue.scan_quantiles;
  const name = named("cue", cue.name);
  const beyond = cue.z_at_findings.map((z, n) => [z, n]).slice(0, found ? MOST_FINDINGS : CANDIDATES).filter(([z]) => Number.isFinite(z));
  const odd = beyond.filter(([z]) => z > q.p99).map(([, n]) => num(n + 1));
  const words = !beyond.length || !found ? "" : odd.length ? t("evidence.beyond", { places: odd.join(", ") }) : t("evidence.within");
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${width} 46`, class: "cue", role: "img", "aria-label": [name, words].filter(Boolean).join(". ") },
    svg("line", { x1: x(q.p5), x2: x(q.max), y1: 20, y2: 20, class: "whisker" }),
    svg("rect", { x: x(q.p5), width: Math.max(1, x(q.p95) - x(q.p5)), y: 14, height: 12, class: "middle-90" }),
    svg("rect", { x: x(q.p25), width: Math.max(1, x(q.p75) - x(q.p25)), y: 12, height: 16, class: "middle-50" }),
    svg("line", { x1: x(q.p50), x2: x(q.p50), y1: 10, y2: 30, class: "median" }),
    svg("line", { x1: x(q.p99), x2: x(q.p99), y1: 13, y2: 27, class: "tick" }),
    svg("line", { x1: x(q.max), x2: x(q.max), y1: 15, y2: 25, class: "tick" }),
    ...beyond.flatMap(([z, n]) => [svg("circle", { cx: x(z), cy: 20, r: 8, class: found && z > q.p99 ? "odd" : "plain" }), svg("text", { x: x(z), y: 24, "text-anchor": "middle", class: "in-dot" }, num(n + 1))]),
    svg("text", { x: x(0), y: 44, "text-anchor": "middle" }, num(0)),
  );
  return h("div", { class: "cue-row" }, h("h3", {}, name), drawing, words ? h("p", { class: "small" }, words) : null);
}

function beforeAfter(base, result) {
  const place = result.findings[0] ?? result.candidates[0];
  const k = place ? Math.round(place.center_kji[0]) : Math.floor(result.shape_kji[0] / 2);
  const query = "?center=-600&width=1500";
  const pictures = [
    ["before", `${base}/before/axial/${k}.png${query}`],
    ["after", `${base}/slices/axial/${k}.png${query}`],
  ];
  return h(
    "div",
    { class: "before-after" },
    h("h3", {}, t("evidence.before-after")),
    h("p", { class: "small" }, t("evidence.before-after.what", { slice: k + 1 })),
    h("div", { class: "row" }, pictures.map(([name, path]) => h("figure", {}, closeUp(path, place, result, t(`evidence.${name}`)), h("figcaption", {}, t(`evidence.${name}`))))),
  );
}

/** A square round the place, drawn when the picture has come. */
function closeUp(path, place, result, words) {
  const canvas = h("canvas", { width: PICTURE, height: PICTURE, role: "img", "aria-label": words, class: "close-up" });
  const picture = new Image();
  picture.addEventListener("load", () => {
    const context = canvas.getContext("2d");
    const mm = result.spacing_mm ?? [1, 1, 1];
    const side = place ? CLOSE_MM / mm[2] : picture.width;
    const [x, y] = place ? [place.center_kji[2] - side / 2, place.center_kji[1] - side / 2] : [0, 0];
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, x, y, side, side, 0, 0, PICTURE, PICTURE);
    if (!place) return;
    const scale = PICTURE / side;
    const [, [j0, j1], [i0, i1]] = place.box_kji;
    context.strokeStyle = "#38e1ff";
    context.lineWidth = 2;
    context.strokeRect((i0 - x) * scale, (j0 - y) * scale, (i1 - i0) * scale, (j1 - j0) * scale);
  });
  picture.src = api.url(path);
  return canvas;
}
