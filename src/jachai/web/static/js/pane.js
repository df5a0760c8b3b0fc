// One plane on a canvas: grey slice, heat, boxes, crosshair; turns pointer and keys into wishes of the viewer.

import { HEAT } from "./colours.js";
import { h } from "./dom.js";
import { num, t } from "./language.js";

const CLICK_PX = 4;
const MAX_ZOOM = 16;
const SLICE_DRAG_PX = 9;

export class Pane {
  /** `state` is shared by all panes (see viewer.js); `wish` are the viewer's actions. */
  constructor(name, plane, state, slices, wish) {
    Object.assign(this, { name, plane, state, slices, wish, zoom: 1, pan: [0, 0], pointers: new Map(), drawn: "" });
    this.canvas = h("canvas", { tabindex: "0", role: "img", class: "slice" });
    this.grey = document.createElement("canvas");
    this.hot = document.createElement("canvas");
    for (const canvas of [this.grey, this.hot]) Object.assign(canvas, { width: plane.columns, height: plane.rows });
    this.slider = h("input", { type: "range", min: "0", max: String(plane.count - 1), step: "1", "aria-label": t("viewer.slider", { plane: this.title }) });
    this.label = h("span", { class: "pane-label" });
    this.readout = h("output", { class: "readout" });
    this.enlarge = h("button", { type: "button", class: "enlarge", "aria-label": t("viewer.enlarge", { plane: this.title }), title: t("viewer.enlarge", { plane: this.title }) }, "⤢");
    this.element = h("figure", { class: "pane", "data-plane": name }, h("div", { class: "frame" }, this.canvas, this.label, this.enlarge, this.readout), this.slider);
    this.slider.addEventListener("input", () => wish.slice(this, Number(this.slider.value)));
    this.enlarge.addEventListener("click", () => wish.enlarge(this));
    this.listen();
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
  }

  get title() {
    return t(`plane.${this.name}`);
  }

  get index() {
    return this.state.center[this.plane.fixed];
  }

  /** Draw soon; many calls make one drawing. */
  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.paint();
    });
  }

  paint() {
    const { canvas, plane } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    this.fit = this.fitted(width, height);
    const { x, y, sx, sy } = this.fit;
    const there = this.fillGrey();
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    if (this.drawn) context.drawImage(this.grey, x, y, plane.columns * sx, plane.rows * sy);
    if (there && this.fillHeat()) {
      context.globalAlpha = this.state.opacity;
      context.drawImage(this.hot, x, y, plane.columns * sx, plane.rows * sy);
      context.globalAlpha = 1;
    }
    this.boxes(context, ratio);
    if (this.state.crosshair) this.cross(context, width, height, ratio);
    this.letters(context, width, height, ratio);
    this.words(there);
  }

  fitted(width, height) {
    const [mmRow, mmColumn] = this.plane.pixel_mm;
    const scale = this.zoom * Math.min(width / (this.plane.columns * mmColumn), height / (this.plane.rows * mmRow));
    const [sx, sy] = [scale * mmColumn, scale * mmRow];
    return { sx, sy, x: (width - this.plane.columns * sx) / 2 + this.pan[0] * (devicePixelRatio || 1), y: (height - this.plane.rows * sy) / 2 + this.pan[1] * (devicePixelRatio || 1) };
  }

  /** The slice into its canvas with the window applied; false where it has not come yet (the last one stays). */
  fillGrey() {
    const slice = this.slices.slice(this.name, this.index);
    if (!slice) return false;
    const { center, width } = this.state.window;
    const key = `${this.index}/${center}/${width}`;
    if (key === this.drawn) return true;
    this.drawn = key;
    const context = this.grey.getContext("2d");
    this.picture ??= context.createImageData(this.plane.columns, this.plane.rows);
    const pixels = new Uint32Array(this.picture.data.buffer);
    const gain = (255 * slice.slope) / width;
    const offset = (255 * (slice.intercept - center)) / width + 127.5;
    const { values } = slice;
    for (let n = 0; n < pixels.length; n += 1) {
      const level = values[n] * gain + offset;
      const grey = level <= 0 ? 0 : level >= 255 ? 255 : level | 0;
      pixels[n] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
    }
    context.putImageData(this.picture, 0, 0);
    return true;
  }

  fillHeat() {
    const heat = this.state.opacity > 0 ? this.slices.heat(this.name, this.index) : undefined;
    if (!heat) return false;
    if (this.hotIndex === this.index) return this.hotAny;
    this.hotIndex = this.index;
    const context = this.hot.getContext("2d");
    this.hotPicture ??= context.createImageData(this.plane.columns, this.plane.rows);
    const pixels = new Uint32Array(this.hotPicture.data.buffer);
    const colours = new Uint32Array(HEAT.buffer);
    this.hotAny = false;
    for (let n = 0; n < pixels.length; n += 1) {
      pixels[n] = colours[heat[n]];
      if (heat[n] > 51) this.hotAny = true;
    }
    context.putImageData(this.hotPicture, 0, 0);
    return this.hotAny;
  }

  /** Voxel (k, j, i) → (column, row) in this plane. */
  pixelOf(center) {
    const { right, down, flip_right: flipX, flip_down: flipY, rows, columns } = this.plane;
    return [flipX ? columns - 1 - center[right] : center[right], flipY ? rows - 1 - center[down] : center[down]];
  }

  /** A place on the screen (CSS pixels within the canvas) → voxel (k, j, i), or null outside the slice. */
  voxelAt(cssX, cssY) {
    if (!this.fit) return null;
    const ratio = devicePixelRatio || 1;
    const column = Math.floor((cssX * ratio - this.fit.x) / this.fit.sx);
    const row = Math.floor((cssY * ratio - this.fit.y) / this.fit.sy);
    const { plane } = this;
    if (column < 0 || row < 0 || column >= plane.columns || row >= plane.rows) return null;
    const center = [...this.state.center];
    center[plane.right] = plane.flip_right ? plane.columns - 1 - column : column;
    center[plane.down] = plane.flip_down ? plane.rows - 1 - row : row;
    return { center, value: this.valueAt(column, row) };
  }

  valueAt(column, row) {
    const slice = this.slices.slice(this.name, this.index);
    return slice ? slice.values[row * this.plane.columns + column] * slice.slope + slice.intercept : null;
  }

  boxes(context, ratio) {
    if (!this.state.showBoxes) return;
    const { right, down, fixed, flip_right: flipX, flip_down: flipY, rows, columns } = this.plane;
    const { x, y, sx, sy } = this.fit;
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    this.state.places.forEach((place, n) => {
      const [from, to] = place.box_kji[fixed];
      if (this.index < from || this.index >= to) return;
      const span = ([low, high], size, flip) => (flip ? [size - high, size - low] : [low, high]);
      const [x0, x1] = span(place.box_kji[right], columns, flipX);
      const [y0, y1] = span(place.box_kji[down], rows, flipY);
      context.lineWidth = 2 * ratio;
      context.strokeStyle = place === this.state.chosen ? "#38e1ff" : "#b8f3ff";
      context.setLineDash(this.state.found ? [] : [5 * ratio, 4 * ratio]);
      context.strokeRect(x + x0 * sx, y + y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy);
      context.setLineDash([]);
      context.fillStyle = "#38e1ff";
      context.fillText(num(n + 1), x + x1 * sx + 4 * ratio, y + y0 * sy + 10 * ratio);
    });
  }

  cross(context, width, height, ratio) {
    const [column, row] = this.pixelOf(this.state.center);
    const cx = this.fit.x + (column + 0.5) * this.fit.sx;
    const cy = this.fit.y + (row + 0.5) * this.fit.sy;
    const gap = 14 * ratio;
    context.strokeStyle = "rgba(255, 214, 64, 0.75)";
    context.lineWidth = ratio;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [[0, cy, cx - gap, cy], [cx + gap, cy, width, cy], [cx, 0, cx, cy - gap], [cx, cy + gap, cx, height]]) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
  }

  letters(context, width, height, ratio) {
    if (!this.plane.letters) return;
    const [left, right, top, bottom] = this.plane.letters.map((letter) => t(`side.${letter}`));
    const edge = 6 * ratio;
    context.font = `700 ${13 * ratio}px system-ui, sans-serif`;
    context.lineWidth = 3 * ratio;
    context.strokeStyle = "#000";
    context.fillStyle = "#fff";
    for (const [letter, x, y, align] of [[left, edge, height / 2, "left"], [right, width - edge, height / 2, "right"], [top, width / 2, (this.element.classList.contains("main") ? 18 : 38) * ratio, "center"], [bottom, width / 2, height - edge, "center"]]) {
      context.textAlign = align;
      context.strokeText(letter, x, y);
      context.fillText(letter, x, y);
    }
    context.textAlign = "left";
  }

  words(there) {
    const words = t("viewer.slice", { plane: this.title, slice: this.index + 1, slices: this.plane.count });
    this.label.textContent = there ? words : `${words} …`;
    this.canvas.setAttribute("aria-label", words);
    this.canvas.dataset.index = this.index;
    this.canvas.dataset.loaded = String(there);
    this.slider.value = String(this.index);
    this.slider.setAttribute("aria-valuetext", words);
  }

  /** Zoom by a factor, holding a place (CSS pixels) still. */
  zoomBy(factor, cssX = this.canvas.clientWidth / 2, cssY = this.canvas.clientHeight / 2) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, this.zoom * factor));
    const share = zoom / this.zoom;
    const [cx, cy] = [cssX - this.canvas.clientWidth / 2, cssY - this.canvas.clientHeight / 2];
    this.pan = zoom === 1 ? [0, 0] : [cx - share * (cx - this.pan[0]), cy - share * (cy - this.pan[1])];
    this.zoom = zoom;
    this.draw();
  }

  reset() {
    this.zoom = 1;
    this.pan = [0, 0];
    this.draw();
  }

  /** Zoom so that a place fills about a third of the pane. */
  closeTo(place) {
    const { right, down } = this.plane;
    const [mmRow, mmColumn] = this.plane.pixel_mm;
    const size = ([low, high]) => high - low;
    const extent = Math.max(size(place.box_kji[right]) * mmColumn, size(place.box_kji[down]) * mmRow, 1);
    const whole = Math.min(this.plane.columns * mmColumn, this.plane.rows * mmRow);
    this.reset();
    this.zoom = Math.min(4, Math.max(1, whole / (5 * extent)));
    const ratio = devicePixelRatio || 1;
    this.fit = this.fitted(this.canvas.width, this.canvas.height);
    const [column, row] = this.pixelOf(this.state.center);
    this.pan = [(this.canvas.width / 2 - this.fit.x - (column + 0.5) * this.fit.sx) / ratio, (this.canvas.height / 2 - this.fit.y - (row + 0.5) * this.fit.sy) / ratio];
    this.draw();
  }

  step(count) {
    this.wish.slice(this, Math.min(this.plane.count - 1, Math.max(0, this.index + count)));
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => (this.readout.textContent = ""));
    canvas.addEventListener("dblclick", () => this.reset());
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  wheel(event) {
    event.preventDefault();
    if (event.ctrlKey || event.metaKey) {
      this.zoomBy(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
      return;
    }
    this.rolled = (this.rolled ?? 0) + (event.deltaMode === 1 ? event.deltaY * 33 : event.deltaY);
    const steps = Math.trunc(this.rolled / 50);
    if (steps) {
      this.rolled -= steps * 50;
      this.step(Math.sign(steps) * Math.min(10, Math.abs(steps) > 2 ? Math.abs(steps) - 1 : 1));
    }
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.pointers.size === 1) this.press = { x: event.offsetX, y: event.offsetY, moved: false, index: this.index, window: { ...this.state.window }, touch: event.pointerType === "touch", button: event.button };
    else this.press = null;
  }

  move(event) {
    this.tell(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    if (this.pointers.size === 2) this.pinch(event, before);
    else if (this.press) this.drag(event, before);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
  }

  pinch(event, before) {
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const distance = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
    const now = [event.offsetX, event.offsetY];
    this.zoomBy(distance(now) / Math.max(1, distance(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    this.pan = [this.pan[0] + (now[0] - before[0]) / 2, this.pan[1] + (now[1] - before[1]) / 2];
    this.draw();
  }

  drag(event, before) {
    const { press } = this;
    const [dx, dy] = [event.offsetX - press.x, event.offsetY - press.y];
    if (!press.moved && Math.hypot(dx, dy) < CLICK_PX) return;
    press.moved = true;
    const tool = press.button === 1 || event.shiftKey ? "move" : press.button === 2 ? "zoom" : this.state.tool;
    if (tool === "move") {
      this.pan = [this.pan[0] + event.offsetX - before[0], this.pan[1] + event.offsetY - before[1]];
      this.draw();
    } else if (tool === "zoom") this.zoomBy(Math.exp((before[1] - event.offsetY) / 120), press.x, press.y);
    else if (tool === "slices") this.wish.slice(this, Math.min(this.plane.count - 1, Math.max(0, press.index + Math.round(dy / SLICE_DRAG_PX))));
    else this.wish.window(press.window.center + (dy * press.window.width) / 400, Math.max(1, press.window.width * Math.exp(dx / 250)));
  }

  up(event) {
    const { press } = this;
    this.pointers.delete(event.pointerId);
    if (event.type === "pointerup" && press && !press.moved && press.button === 0) {
      const at = this.voxelAt(event.offsetX, event.offsetY);
      if (at) this.wish.center(at.center, this);
    }
    if (!this.pointers.size) this.press = null;
  }

  tell(event) {
    const at = this.voxelAt(event.offsetX, event.offsetY);
    this.readout.textContent = at && at.value !== null ? this.state.valueWords(at.value) : "";
    if (at) this.readout.dataset.value = at.value;
  }

  key(event) {
    const moves = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity };
    if (event.shiftKey && event.key.startsWith("Arrow")) {
      const [x, y] = { ArrowUp: [0, 20], ArrowDown: [0, -20], ArrowLeft: [20, 0], ArrowRight: [-20, 0] }[event.key];
      this.pan = [this.pan[0] + x, this.pan[1] + y];
      this.draw();
    } else if (event.key in moves) this.step(moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoomBy(1.25);
    else if (event.key === "-") this.zoomBy(0.8);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
  }

  stop() {
    this.observer.disconnect();
  }
}
