// A key of the catalogue → words in the chosen language, with its digits; the engine's English sentences too.

const KNOWN = ["en", "bn"];
const LOCALES = { en: "en-GB", bn: "bn-BD-u-nu-beng" };
let words = {};
let english = {};
let current = "en";
let patterns = null;

export const language = () => current;
export const otherLanguage = () => (current === "en" ? "bn" : "en");

export function preferred() {
  const kept = localStorage.getItem("jachai-language");
  if (KNOWN.includes(kept)) return kept;
  return (navigator.languages ?? []).some((tag) => /^bn\b/i.test(tag)) ? "bn" : "en";
}

async function load(name) {
  const answer = await fetch(`/static/text/${name}.json`);
  if (!answer.ok) throw new Error(`catalogue ${name}: ${answer.status}`);
  return answer.json();
}

export async function choose(name) {
  words = await load(name);
  current = name;
  patterns = null;
  localStorage.setItem("jachai-language", name);
  document.documentElement.lang = name;
}

/** Before `sentence` is used: in another language than English, the engine's English sentences are needed. */
export async function readyForSentences() {
  if (current === "en" || patterns) return;
  english = await load("en");
  patterns = Object.keys(english).filter((key) => key.startsWith("engine.")).map(pattern);
  patterns.sort((a, b) => b.weight - a.weight);
}

/** Words of a key. Numbers among the values are written with the language's digits. `n` chooses between .one and .other. */
export function t(key, values = {}) {
  let text = words[key];
  if (text === undefined && values.n !== undefined) text = words[`${key}.${values.n === 1 ? "one" : "other"}`];
  if (text === undefined) {
    console.error(`the catalogue has no ${key}`);
    return key;
  }
  return put(text, values);
}

/** Like `t`, but for a name that may be new to the catalogue: then the name itself. */
export const named = (prefix, name) => (words[`${prefix}.${name}`] === undefined ? name : t(`${prefix}.${name}`));

const put = (text, values) =>
  text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    if (value === undefined) return whole;
    return typeof value === "number" ? num(value, Number.isInteger(value) ? 0 : 2) : String(value);
  });

export const num = (value, digits = 0) =>
  new Intl.NumberFormat(LOCALES[current], { useGrouping: false, minimumFractionDigits: digits, maximumFractionDigits: digits }).format(value);

/** Digits only: for text that came written. */
export const digits = (text) =>
  current === "bn" ? String(text).replace(/[0-9]/g, (digit) => "০১২৩৪৫৬৭৮৯"[Number(digit)]) : String(text);

export const when = (iso) =>
  new Intl.DateTimeFormat(LOCALES[current], { dateStyle: "medium", timeStyle: "short", hourCycle: "h23" }).format(new Date(iso));

export function bytes(count) {
  const megabytes = count / 1e6;
  return megabytes >= 1 ? t("page.megabytes", { n: num(megabytes, megabytes < 10 ? 1 : 0) }) : t("page.kilobytes", { n: num(Math.ceil(count / 1e3)) });
}

const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");

function pattern(key) {
  const template = english[key];
  const parts = template.split(/\{(\w+)\}/);
  const names = parts.filter((_, n) => n % 2);
  const source = parts.map((part, n) => (n % 2 ? "(.+?)" : literal(part))).join("");
  return { key, names, weight: template.length, expression: new RegExp(`^${source}(?=\\s|$)`) };
}

/** English sentences of the engine → the chosen language, sentence by sentence; what is unknown stays English. */
export function sentence(text) {
  if (current === "en" || !patterns) return text;
  const said = [];
  let rest = text.trim();
  while (rest) {
    const [piece, length] = first(rest);
    said.push(piece);
    rest = rest.slice(length).trim();
  }
  return said.join(" ");
}

function first(rest) {
  for (const { key, names, expression } of patterns) {
    const match = expression.exec(rest);
    if (match) return [put(words[key], Object.fromEntries(names.map((name, n) => [name, digits(match[n + 1])]))), match[0].length];
  }
  const end = rest.search(/[.!?](\s|$)/);
  const length = end < 0 ? rest.length : end + 1;
  return [rest.slice(0, length), length];
}
