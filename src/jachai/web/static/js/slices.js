// A plane and an index → the slice's numbers and its heat, from memory or the server; neighbours come before they are asked for.

import * as api from "./api.js";

const MAX_BYTES = 260e6;
const WHOLE_BYTES = 0.85 * MAX_BYTES;
const AT_ONCE = 4;
const AHEAD = 24;
const BEHIND = 8;

/** Slices of one result. `onSlice` is called when one has come, `onProblem` when one cannot be had. */
export class Slices {
  constructor(base, planes, hasHeat, onSlice, onProblem) {
    Object.assign(this, { base, planes, hasHeat, onSlice, onProblem });
    this.kept = new Map();
    this.bytes = 0;
    this.running = new Map();
    this.plan = [];
    this.failed = new Map();
    this.stopped = new AbortController();
  }

  /** {values: Int16Array, slope, intercept} or undefined. */
  slice(plane, index) {
    return this.peek(`slice/${plane}/${index}`);
  }

  /** Uint8Array (0…255 = heat 0…1) or undefined. */
  heat(plane, index) {
    return this.peek(`heat/${plane}/${index}`);
  }

  peek(key) {
    const item = this.kept.get(key);
    if (item) {
      this.kept.delete(key);
      this.kept.set(key, item);
    }
    return item;
  }

  /** What is looked at now (first), and in which direction the user moves in the first of them. */
  want(looked, direction) {
    const keys = [];
    const add = (plane, index) => {
      if (index < 0 || index >= this.planes[plane].count) return;
      keys.push(`slice/${plane}/${index}`);
      if (this.hasHeat) keys.push(`heat/${plane}/${index}`);
    };
    for (const [plane, index] of looked) add(plane, index);
    const [plane, index] = looked[0];
    for (let n = 1; n <= AHEAD; n += 1) {
      add(plane, index + n * direction);
      if (n <= BEHIND) add(plane, index - n * direction);
    }
    for (const [other, at] of looked.slice(1)) for (const n of [1, -1, 2, -2]) add(other, at + n);
    if (this.planes[plane].count * this.size(plane) < WHOLE_BYTES) for (let n = AHEAD + 1; n < this.planes[plane].count; n += 1) [index + n, index - n].forEach((at) => add(plane, at));
    this.plan = keys;
    this.pump();
  }

  size(plane) {
    return this.planes[plane].rows * this.planes[plane].columns * 3;
  }

  pump() {
    while (this.running.size < AT_ONCE && this.plan.length && !this.stopped.signal.aborted) {
      const key = this.plan.shift();
      if (!this.kept.has(key) && !this.running.has(key) && (this.failed.get(key) ?? 0) < 3) this.fetch(key);
    }
  }

  async fetch(key) {
    const [kind, plane, index] = key.split("/");
    this.running.set(key, true);
    try {
      const item = kind === "slice" ? await this.numbers(plane, index) : await this.colours(plane, index);
      this.keep(key, item);
      this.onSlice(plane, Number(index));
    } catch (problem) {
      if (problem.name !== "AbortError") {
        this.failed.set(key, (this.failed.get(key) ?? 0) + 1);
        if (kind === "slice") this.onProblem(plane, Number(index), problem);
      }
    } finally {
      this.running.delete(key);
      this.pump();
    }
  }

  async numbers(plane, index) {
    const { headers, buffer } = await api.bytesOf(`${this.base}/slices/${plane}/${index}.raw`, this.stopped.signal);
    return { values: new Int16Array(buffer), slope: Number(headers.get("X-Slope") ?? 1), intercept: Number(headers.get("X-Intercept") ?? 0) };
  }

  async colours(plane, index) {
    const blob = await api.blobOf(`${this.base}/heat/${plane}/${index}.png`, this.stopped.signal);
    return greyOf(await createImageBitmap(blob, { colorSpaceConversion: "none" }));
  }

  keep(key, item) {
    this.kept.set(key, item);
    this.bytes += sizeOf(item);
    for (const [oldest, old] of this.kept) {
      if (this.bytes <= MAX_BYTES) break;
      this.kept.delete(oldest);
      this.bytes -= sizeOf(old);
    }
  }

  stop() {
    this.stopped.abort();
    this.plan = [];
    this.kept.clear();
  }
}

const sizeOf = (item) => (ArrayBuffer.isView(item) ? item : item.values).byteLength;

let reader = null;

/** Grey levels of a decoded picture. */
export function greyOf(bitmap) {
  reader ??= document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  if (reader.canvas.width !== bitmap.width || reader.canvas.height !== bitmap.height) {
    reader.canvas.width = bitmap.width;
    reader.canvas.height = bitmap.height;
  }
  reader.drawImage(bitmap, 0, 0);
  const rgba = reader.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const grey = new Uint8Array(bitmap.width * bitmap.height);
  for (let n = 0; n < grey.length; n += 1) grey[n] = rgba[4 * n];
  bitmap.close();
  return grey;
}
