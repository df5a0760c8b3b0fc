// A tag name, attributes and children → an element. Text is always text: names of files can hold anything.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const ICONS = {
  tampered: ["M12 3 2 21h20z", "M12 10v5M12 18v.01"],
  "no-sign": ["M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20", "m7 12.5 3.5 3.5L17 9"],
  inconclusive: ["M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20", "M9.3 9.2a2.8 2.8 0 1 1 3.9 2.6c-.8.4-1.2 1-1.2 1.9M12 17v.01"],
  unreadable: ["M14 2H6v20h12V6zM14 2v4h4", "m9 12 6 6M15 12l-6 6"],
  working: ["M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20", "M12 7v5l3 3"],
  drop: ["M12 15V4M7 9l5-5 5 5", "M4 15v5h16v-5"],
};

/** The drawing of a verdict (or state), beside a text that says the same. */
export function icon(name) {
  const attributes = { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", fill: "none", stroke: "currentColor" };
  return svg("svg", attributes, ...(ICONS[name] ?? ICONS.working).map((d) => svg("path", { d })));
}

/** Say something to a screen reader without moving anything. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}
