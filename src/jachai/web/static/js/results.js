// A finished scan → verdict, how sure, findings, what was not examined, viewer, evidence, reports.

import * as api from "./api.js";
import { h, icon, svg } from "./dom.js";
import { evidencePanel } from "./evidence.js";
import { digits, named, num, otherLanguage, language, sentence, t } from "./language.js";
import { certainty, headline, nameOf, toneOf } from "./verdict.js";
import { viewer } from "./viewer.js";

const CANDIDATES_SHOWN = 3;
const REFUSED_SHOWN = 12;

/** Show the results of a finished scan. Returns a function that ends the viewer. */
export function results(main, scan) {
  const body = h("div", { id: "result" });
  const ends = { now: () => {} };
  const choose = (n) => {
    ends.now();
    ends.now = result(body, scan, scan.results[n]);
  };
  main.replaceChildren(...[h("h1", { class: "path scan-name" }, nameOf(scan)), several(scan, choose), body].filter(Boolean));
  if (scan.results.length) choose(gravest(scan.results));
  else body.replaceChildren(h("p", { class: "problem" }, t("verdict.unreadable")));
  return () => ends.now();
}

function gravest(all) {
  const order = ["tampered", "inconclusive", "no-sign", "unreadable"];
  return all.map((r, n) => [order.indexOf(r.verdict), n]).sort((a, b) => a[0] - b[0] || a[1] - b[1])[0][1];
}

function several(scan, choose) {
  if (scan.results.length < 2) return null;
  const first = gravest(scan.results);
  const buttons = scan.results.map((result, n) =>
    h(
      "button",
      { type: "button", class: `badge ${toneOf(result)}`, "aria-pressed": String(n === first), onclick: () => press(n) },
      icon(toneOf(result)),
      h("span", {}, t("page.series", { n: n + 1, what: seriesWords(result) }), ": ", t(`verdict.${result.verdict}.short`)),
    ),
  );
  const press = (n) => {
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", String(k === n)));
    choose(n);
  };
  return h("section", { class: "series", "aria-label": t("page.series.label") }, h("p", {}, t("page.series.several", { n: scan.results.length })), h("div", { class: "row" }, buttons));
}

const seriesWords = (result) => [result.modality ? named("modality", result.modality) : "", result.shape_kji ? t("page.slices", { n: result.shape_kji[0] }) : ""].filter(Boolean).join(", ");

function result(body, scan, result) {
  const base = api.result(scan.id, result.n);
  const shown = result.viewer ? viewer(base, result) : null;
  const goTo = (place) => shown?.goTo(place);
  body.replaceChildren(
    verdictCard(result),
    h(
      "div",
      { class: "columns" },
      h("div", { class: "side" }, sure(result), places(result, goTo), ledger(result), notExamined(scan, result), downloads(scan, base, result)),
      h("div", { class: "wide" }, shown?.element ?? null, result.viewer ? evidencePanel(base, result, goTo) : null, technical(result)),
    ),
  );
  shown?.start();
  return () => shown?.stop();
}

function verdictCard(result) {
  return h(
    "section",
    { class: `verdict ${toneOf(result)}`, id: "verdict", "data-verdict": result.verdict },
    icon(toneOf(result)),
    h("div", {}, h("h2", {}, headline(result)), h("p", {}, sentence(result.reason)), h("p", {}, h("strong", {}, t("next.title"), " "), t(`next.${toneOf(result)}`))),
  );
}

function sure(result) {
  return h(
    "section",
    { class: "card", id: "sure" },
    h("h2", {}, t("sure.title")),
    certainty(result).map((words, n) => h("p", { class: n ? "small" : "" }, words)),
    result.score === null ? null : scale(result.score),
  );
}

function scale(score) {
  const x = 10 + 280 * score;
  return svg(
    "svg",
    { viewBox: "0 0 300 50", class: "scale", role: "img", "aria-label": t("sure.scale", { score }) },
    svg("rect", { x: 10, y: 22, width: 280, height: 8, rx: 4, class: "track" }),
    svg("rect", { x: 150, y: 22, width: 140, height: 8, rx: 4, class: "track-beyond" }),
    svg("line", { x1: 150, x2: 150, y1: 16, y2: 36, class: "limit" }),
    svg("circle", { cx: x, cy: 26, r: 7, class: "dot" }),
    svg("text", { x: Math.min(Math.max(x, 16), 284), y: 12, "text-anchor": "middle", class: "strong" }, num(score, 2)),
    svg("text", { x: 150, y: 48, "text-anchor": "middle" }, t("sure.threshold")),
    svg("text", { x: 10, y: 48 }, num(0)),
    svg("text", { x: 290, y: 48, "text-anchor": "end" }, num(1)),
  );
}

function places(result, goTo) {
  const found = result.verdict === "tampered" && result.findings.length > 0;
  const shown = found ? result.findings : result.candidates.slice(0, CANDIDATES_SHOWN);
  if (!shown.length) return null;
  const title = found ? t("findings.title") : t("findings.candidates");
  const meaning = found ? t("findings.click") : t(result.verdict === "no-sign" ? "findings.candidates.no-sign" : "findings.candidates.open");
  return h(
    "section",
    { class: "card", id: "findings" },
    h("h2", {}, title),
    h("p", { class: "small soft" }, meaning),
    h(
      "ol",
      { class: "places" },
      shown.map((place, n) => h("li", {}, placeButton(place, n, result, goTo))),
    ),
  );
}

function slicePlace([k, j, i]) {
  return { slice: Math.round(k) + 1, row: Math.round(j) + 1, column: Math.round(i) + 1 };
}

function networkParts(parts) {
  const whole = parts.reduce((sum, part) => sum + part.fall, 0);
  return parts.map(({ name, fall }) => t("findings.network.part", { name: named("network", name), share: Math.round((100 * fall) / whole) }));
}

function placeButton(place, n, result, goTo) {
  const words = result.verdict === "tampered" ? t(`kind.${place.kind}`) : t("findings.place");
  const where = t("findings.where", { slice: Math.round(place.center_kji[0]) + 1, slices: result.shape_kji[0] });
  const size = place.diameter_mm === null ? null : t("findings.size", { mm: num(place.diameter_mm) });
  const twin = place.same_as_kji && t("findings.twin", slicePlace(place.same_as_kji));
  const network = place.network.length > 0 && t("findings.network", { parts: networkParts(place.network).join(", ") });
  const judged = place.judged !== null && result.verdict === "tampered" && t("findings.judged", { p: num(Math.min(place.judged, 0.99), 2) });
  return h(
    "button",
    { type: "button", class: "place", "data-slice": Math.round(place.center_kji[0]), onclick: () => goTo(place) },
    h("span", { class: "number" }, num(n + 1)),
    h("span", {}, h("b", {}, words), h("br"), h("span", { class: "small" }, [where, size, t("findings.score", { score: place.score }), twin, network, judged].filter(Boolean).join(" · "))),
  );
}

/** What the ledger says of it, where one was asked: another question than the verdict's, and an alarm of its own. */
function ledger({ ledger: said }) {
  if (!said) return null;
  return h(
    "section",
    { class: `card ${said.alarm ? "problem" : ""}`, id: "ledger" },
    h("h2", {}, t("ledger.title", { answer: t(`ledger.answer.${said.answer}`) })),
    h("p", {}, sentence(said.words)),
    h("p", { class: "small soft" }, t("ledger.note")),
  );
}

function notExamined(scan, result) {
  const refused = Object.entries({ ...scan.refused, ...result.refused });
  const items = [];
  if (result.warnings.length) items.push(h("h3", {}, t("not-examined.warnings")), list(result.warnings));
  if (refused.length) items.push(refusedList(refused));
  if (!refused.length) items.push(h("p", {}, t("not-examined.no-file")));
  if (!result.complete) items.push(h("p", { class: "problem" }, t("not-examined.incomplete")));
  if (result.notes.length) items.push(h("h3", {}, t("not-examined.notes")), list(result.notes));
  return h(
    "section",
    { class: "card", id: "not-examined" },
    h("h2", {}, t("not-examined.title")),
    items,
    h("details", {}, h("summary", {}, t("blind.title")), h("ul", {}, ["noise", "whole", "before", "disease"].map((name) => h("li", {}, t(`blind.${name}`))))),
  );
}

const list = (sentences) => h("ul", { class: "small" }, sentences.map((text) => h("li", {}, sentence(text))));

function refusedList(refused) {
  const item = ([name, why]) => h("li", {}, h("span", { class: "path" }, name), ": ", sentence(why));
  return [
    h("h3", {}, t("not-examined.files", { n: refused.length })),
    h("ul", { class: "small" }, refused.slice(0, REFUSED_SHOWN).map(item)),
    refused.length > REFUSED_SHOWN ? h("details", {}, h("summary", {}, t("page.more", { n: refused.length - REFUSED_SHOWN })), h("ul", { class: "small" }, refused.slice(REFUSED_SHOWN).map(item))) : null,
  ];
}

function downloads(scan, base, result) {
  const link = (id, path, words) => h("a", { class: "button", id, href: api.url(path), download: true }, words);
  const now = language();
  const other = otherLanguage();
  return h(
    "section",
    { class: "card", id: "reports" },
    h("h2", {}, t("report.get.title")),
    h("p", { class: "small soft" }, t("report.get.what")),
    h(
      "div",
      { class: "row" },
      link("report-pdf", `/scans/${scan.id}/report.pdf?language=${now}`, t("report.get.pdf")),
      link("report-html", `/scans/${scan.id}/report.html?language=${now}`, t("report.get.html")),
      link("report-pdf-other", `/scans/${scan.id}/report.pdf?language=${other}`, t("report.get.pdf.other")),
    ),
    h(
      "details",
      {},
      h("summary", {}, t("report.get.data")),
      h("div", { class: "row" }, link("report-json", `/scans/${scan.id}/report.json`, t("report.get.json")), result.viewer ? link("heatmap", `${base}/heatmap.nii.gz`, t("report.get.heat")) : null),
    ),
  );
}

function technical(result) {
  const facts = [
    [t("fact.engine"), `${result.model.name} ${digits(result.model.version)}`],
    [t("fact.sha"), result.model.sha256],
    [t("fact.modality"), result.modality ? named("modality", result.modality) : t("fact.unknown")],
    [t("fact.size"), result.shape_kji ? t("fact.size.value", { slices: num(result.shape_kji[0]), rows: num(result.shape_kji[1]), columns: num(result.shape_kji[2]) }) : null],
    [t("fact.spacing"), result.spacing_mm ? result.spacing_mm.map((mm) => (mm === null ? "?" : num(mm, 2))).join(" × ") + ` ${t("unit.mm")}` : null],
    [t("fact.seconds"), t("fact.seconds.value", { n: num(result.seconds, 1) })],
    [t("fact.series"), result.series_uid],
  ];
  return h(
    "details",
    { class: "card" },
    h("summary", {}, t("fact.title")),
    h("dl", {}, facts.filter(([, value]) => value).map(([name, value]) => [h("dt", {}, name), h("dd", { class: "path" }, value)])),
  );
}
