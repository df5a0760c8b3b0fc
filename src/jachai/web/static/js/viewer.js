// A result with a volume → three linked planes with heat map, boxes, presets, and the strip of suspicious slices.

import * as api from "./api.js";
import { colourBar } from "./colours.js";
import { announce, h } from "./dom.js";
import { num, t } from "./language.js";
import { Pane } from "./pane.js";
import { Slices } from "./slices.js";
import { strip } from "./strip.js";

const PRESETS = { lung: [-600, 1500], soft: [40, 400], bone: [480, 2500], brain: [40, 80] };
const FIRST_OPACITY = 0.6;
const LUNG_LIKE_HU = -300;
const CANDIDATES_SHOWN = 3;

/** {element, start, goTo(place), stop}. `base` is the result's path in the API. */
export function viewer(base, result) {
  const grid = h("div", { class: "panes" });
  const notice = h("p", { class: "problem", role: "alert", hidden: true });
  const controls = h("div", { class: "controls" });
  const below = h("div", {});
  const element = h("section", { class: "card viewer", id: "viewer", "aria-label": t("viewer.title") }, h("h2", {}, t("viewer.title")), controls, notice, grid, below);
  const found = result.verdict === "tampered" && result.findings.length > 0;
  const places = found ? result.findings : result.candidates.slice(0, CANDIDATES_SHOWN);
  const first = places[0]?.center_kji ?? result.shape_kji.map((n) => (n - 1) / 2);
  const state = {
    center: first.map((c, n) => Math.min(result.shape_kji[n] - 1, Math.max(0, Math.round(c)))),
    window: { center: -600, width: 1500 },
    opacity: found ? FIRST_OPACITY : FIRST_OPACITY / 2,
    tool: matchMedia("(pointer: coarse)").matches ? "slices" : "window",
    crosshair: true,
    showBoxes: true,
    places,
    found,
    chosen: places[0] ?? null,
  };
  let panes = [];
  let slices = null;
  let overview = null;
  let shown = null;
  let waiting = null;

  const redraw = () => panes.forEach((pane) => pane.draw());
  const wish = {
    slice(pane, index) {
      const before = pane.index;
      state.center[pane.plane.fixed] = index;
      if (index !== before) look(pane, index > before ? 1 : -1);
    },
    center(center, pane) {
      state.center = center;
      look(pane, 1);
    },
    window(center, width) {
      state.window = { center: Math.round(center), width: Math.max(1, Math.round(width)) };
      shown.window();
      redraw();
    },
    enlarge(pane) {
      for (const other of panes) other.element.classList.toggle("main", other === pane);
      redraw();
    },
  };

  function look(active, direction) {
    slices.want([active, ...panes.filter((pane) => pane !== active)].map((pane) => [pane.name, pane.index]), direction);
    overview?.at(state.center[0]);
    redraw();
  }

  async function start() {
    try {
      const volume = await api.volume(base);
      if (!slices) open(volume);
    } catch (problem) {
      notice.hidden = false;
      notice.textContent = problem.words ?? t("error.internal");
    }
  }

  function open(volume) {
    const planes = Object.fromEntries(Object.entries(volume.planes).map(([name, plane]) => [name, { ...plane, pixel_mm: plane.pixel_mm ?? [1, 1] }]));
    const names = Object.keys(planes).sort((a, b) => planes[a].fixed - planes[b].fixed);
    state.valueWords = (value) => (volume.has_hu ? t("viewer.hu", { value: num(Math.round(value)) }) : t("viewer.value", { value: num(value, Number.isInteger(value) ? 0 : 1) }));
    const arrived = (name) => panes.find((pane) => pane.name === name)?.draw();
    const missing = (name, index, problem) => {
      if (state.center[planes[name].fixed] !== index) return;
      notice.hidden = false;
      notice.textContent = t("viewer.problem", { why: problem.words ?? "" });
    };
    slices = new Slices(base, planes, true, (name, index) => {
      if (waiting && slices.slice(names[0], state.center[0])) fitWindow(volume);
      arrived(name);
    }, missing);
    panes = names.map((name) => new Pane(name, planes[name], state, slices, wish));
    grid.replaceChildren(...panes.map((pane) => pane.element));
    grid.classList.toggle("single", panes.length === 1);
    panes[0].element.classList.add("main");
    shown = controlsOf(state, volume, { redraw, wish, panes: () => panes });
    controls.replaceChildren(...shown.elements);
    waiting = true;
    overview = strip(base, names[0], volume, state, (k) => wish.slice(panes[0], k));
    below.replaceChildren(legend(), overview.element, help());
    overview.at(state.center[0]);
    look(panes[0], 1);
  }

  /** The first window: by what surrounds the place in CT, else all values. */
  function fitWindow(volume) {
    waiting = null;
    if (!volume.has_hu) {
      const [low, high] = volume.range;
      wish.window((low + high) / 2, high - low || 1);
      return;
    }
    const around = surroundings(slices.slice(panes[0].name, state.center[0]), panes[0]);
    wish.window(...PRESETS[around < LUNG_LIKE_HU ? "lung" : "soft"]);
  }

  function surroundings({ values, slope, intercept }, pane) {
    const [column, row] = pane.pixelOf(state.center);
    const some = [];
    for (let y = Math.max(0, row - 25); y <= Math.min(pane.plane.rows - 1, row + 25); y += 2)
      for (let x = Math.max(0, column - 25); x <= Math.min(pane.plane.columns - 1, column + 25); x += 2) some.push(values[y * pane.plane.columns + x]);
    some.sort((a, b) => a - b);
    return some[some.length >> 1] * slope + intercept;
  }

  function goTo(place) {
    if (!slices) return;
    state.center = place.center_kji.map((c, n) => Math.min(result.shape_kji[n] - 1, Math.max(0, Math.round(c))));
    state.chosen = place;
    look(panes[0], 1);
    panes.forEach((pane) => pane.closeTo(place));
    announce(t("viewer.at", { slice: state.center[0] + 1, slices: result.shape_kji[0] }));
    element.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  }

  element.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "h") shown?.toggleHeat();
    else if (event.key === "n" && places.length) goTo(places[(places.indexOf(state.chosen) + 1) % places.length]);
  });

  const stop = () => {
    slices?.stop();
    panes.forEach((pane) => pane.stop());
    overview?.stop();
  };
  return { element, start, goTo, stop };
}

function controlsOf(state, volume, { redraw, wish, panes }) {
  const presets = volume.has_hu ? Object.entries(PRESETS).map(([name, values]) => h("button", { type: "button", "data-preset": name, onclick: () => wish.window(...values) }, t(`preset.${name}`))) : [];
  const [low, high] = volume.range;
  presets.push(h("button", { type: "button", "data-preset": "all", onclick: () => wish.window((low + high) / 2, high - low || 1) }, t("preset.all")));
  const center = h("input", { type: "number", id: "window-center", step: "10" });
  const width = h("input", { type: "number", id: "window-width", min: "1", step: "10" });
  for (const input of [center, width]) input.addEventListener("change", () => wish.window(Number(center.value), Number(width.value)));
  const opacity = h("input", { type: "range", id: "opacity", min: "0", max: "100", value: String(100 * state.opacity) });
  const percent = h("output", { for: "opacity" });
  const setOpacity = (share) => {
    state.opacity = share;
    opacity.value = String(Math.round(100 * share));
    percent.textContent = `${num(Math.round(100 * share))} %`;
    opacity.setAttribute("aria-valuetext", percent.textContent);
    redraw();
  };
  opacity.addEventListener("input", () => setOpacity(Number(opacity.value) / 100));
  let kept = state.opacity;
  const toggleHeat = () => {
    if (state.opacity > 0) kept = state.opacity;
    setOpacity(state.opacity > 0 ? 0 : kept);
  };
  setOpacity(state.opacity);
  const check = (id, name) => {
    const box = h("input", { type: "checkbox", id, checked: state[name] });
    box.addEventListener("change", () => {
      state[name] = box.checked;
      redraw();
    });
    return h("label", { class: "check" }, box, t(`viewer.${name}`));
  };
  const tools = ["window", "slices", "move"].map((name) => {
    const choice = h("input", { type: "radio", name: "tool", value: name, checked: state.tool === name });
    choice.addEventListener("change", () => (state.tool = name));
    return h("label", { class: "check" }, choice, t(`tool.${name}`));
  });
  const elements = [
    h("div", { class: "row", role: "group", "aria-label": t("viewer.presets") }, presets),
    h("div", { class: "row" }, h("label", { for: "opacity" }, t("viewer.opacity")), opacity, percent, h("button", { type: "button", onclick: () => panes().forEach((pane) => pane.zoomBy(1.4)), "aria-label": t("viewer.zoom-in") }, "+"), h("button", { type: "button", onclick: () => panes().forEach((pane) => pane.zoomBy(1 / 1.4)), "aria-label": t("viewer.zoom-out") }, "−"), h("button", { type: "button", onclick: () => panes().forEach((pane) => pane.reset()) }, t("viewer.reset"))),
    h(
      "details",
      {},
      h("summary", {}, t("viewer.more")),
      h("fieldset", { class: "row" }, h("legend", {}, t("tool.title")), tools),
      h("div", { class: "row" }, check("show-boxes", "showBoxes"), check("show-crosshair", "crosshair")),
      h("div", { class: "row" }, h("label", { for: "window-center" }, t("viewer.center")), center, h("label", { for: "window-width" }, t("viewer.width")), width),
    ),
  ];
  const window = () => {
    center.value = String(state.window.center);
    width.value = String(state.window.width);
    for (const button of presets) {
      const values = PRESETS[button.dataset.preset];
      button.setAttribute("aria-pressed", String(Boolean(values) && values[0] === state.window.center && values[1] === state.window.width));
    }
  };
  return { elements, window, toggleHeat };
}

function legend() {
  const canvas = h("canvas", { width: "256", height: "14", class: "colourbar", role: "img", "aria-label": t("heat.label") });
  colourBar(canvas);
  return h("div", { class: "legend" }, h("span", { class: "small" }, t("heat.title")), canvas, h("div", { class: "ticks small" }, h("span", {}, t("heat.low")), h("span", {}, t("heat.threshold")), h("span", {}, t("heat.high"))));
}

const help = () =>
  h(
    "details",
    { class: "small" },
    h("summary", {}, t("viewer.help")),
    h("ul", {}, ["mouse", "touch", "keys"].map((name) => h("li", {}, t(`viewer.help.${name}`)))),
  );
