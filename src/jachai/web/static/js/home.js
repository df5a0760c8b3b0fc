// The first view: choose or drop a study, see what it seems to be, examine it.

import * as api from "./api.js";
import { announce, h, icon } from "./dom.js";
import { fromDrop, fromInput, understand } from "./intake.js";
import { bytes, num, t } from "./language.js";

const LEFT_SHOWN = 8;

export function home(main) {
  const chosen = h("div", { class: "chosen", "aria-live": "polite" });
  main.replaceChildren(
    h("h1", {}, t("page.home.title")),
    h("p", { class: "lead" }, t("page.home.lead")),
    dropZone((files) => show(files, chosen)),
    chosen,
    samples(chosen),
    limits(),
  );
}

function dropZone(onFiles) {
  const several = picker({ multiple: true }, onFiles);
  const folder = picker({ webkitdirectory: true }, onFiles);
  const zone = h(
    "section",
    { class: "drop", "aria-label": t("page.drop.label") },
    icon("drop"),
    h("p", { class: "drop-title" }, t("page.drop.title")),
    h("p", { class: "soft" }, t("page.drop.what")),
    h(
      "div",
      { class: "row centre" },
      h("button", { type: "button", class: "primary", id: "choose-files", onclick: () => several.click() }, t("page.drop.files")),
      h("button", { type: "button", id: "choose-folder", onclick: () => folder.click() }, t("page.drop.folder")),
    ),
    several,
    folder,
  );
  const over = (on) => (event) => {
    event.preventDefault();
    zone.classList.toggle("over", on);
  };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", async (event) => {
    over(false)(event);
    onFiles(await fromDrop(event.dataTransfer));
  });
  return zone;
}

function picker(attributes, onFiles) {
  const input = h("input", { type: "file", class: "unseen", tabindex: "-1", "aria-hidden": "true", ...attributes });
  input.addEventListener("change", () => {
    onFiles(fromInput(input.files));
    input.value = "";
  });
  return input;
}

async function show(files, chosen) {
  if (!files.length) return;
  chosen.replaceChildren(h("p", { class: "card" }, t("page.chosen.looking", { n: files.length })));
  const seen = await understand(files);
  const go = h("button", { type: "button", class: "primary", id: "examine" }, t("page.chosen.examine"));
  const modality = needsModality(seen) ? modalityChoice() : null;
  chosen.replaceChildren(
    h(
      "section",
      { class: "card", "aria-label": t("page.chosen.title") },
      h("h2", {}, t("page.chosen.title")),
      h("ul", { class: "understood" }, understood(seen)),
      leftOut(seen.left),
      modality?.row,
      seen.files.length
        ? h("p", { class: "soft small" }, t("page.chosen.size", { n: seen.files.length, size: bytes(seen.bytes) }))
        : h("p", { class: "problem", role: "alert" }, t("page.chosen.nothing")),
      h("div", { class: "row" }, seen.files.length ? go : null, h("button", { type: "button", onclick: () => chosen.replaceChildren() }, t("page.chosen.discard"))),
    ),
  );
  go.addEventListener("click", () => send(seen.files, modality?.value() ?? null, chosen));
  if (seen.files.length) go.focus();
}

const needsModality = (seen) => seen.pictures + seen.volumes > 0;

function understood(seen) {
  const lines = seen.series.map(({ modality, count }) =>
    ["CT", "MR"].includes(modality)
      ? t(`page.chosen.series.${modality}`, { n: count })
      : t("page.chosen.series.else", { n: count, modality: modality || "?" }),
  );
  for (const kind of ["pictures", "volumes", "zips", "index", "unknown"]) if (seen[kind]) lines.push(t(`page.chosen.${kind}`, { n: seen[kind] }));
  if (seen.pictures) lines.push(t("page.chosen.pictures.why"));
  return lines.map((line) => h("li", {}, line));
}

function leftOut(names) {
  if (!names.length) return null;
  const rest = names.length - LEFT_SHOWN;
  return h(
    "details",
    {},
    h("summary", {}, t("page.chosen.left", { n: names.length })),
    h("ul", { class: "path small" }, names.slice(0, LEFT_SHOWN).map((name) => h("li", {}, name)), rest > 0 ? h("li", {}, t("page.more", { n: rest })) : null),
  );
}

function modalityChoice() {
  const select = h(
    "select",
    { id: "modality" },
    h("option", { value: "" }, t("page.modality.auto")),
    h("option", { value: "CT" }, t("page.modality.CT")),
    h("option", { value: "MR" }, t("page.modality.MR")),
  );
  return { row: h("p", {}, h("label", { for: "modality" }, t("page.modality.label"), " "), select), value: () => select.value || null };
}

function send(files, modality, chosen) {
  const bar = h("progress", { max: "1", value: "0", "aria-label": t("page.upload.title") });
  const share = h("span", {}, num(0), " %");
  const sending = api.upload(files, modality, (fraction) => {
    bar.value = fraction;
    share.textContent = `${num(Math.floor(100 * fraction))} %`;
  });
  chosen.replaceChildren(
    h(
      "section",
      { class: "card" },
      h("h2", {}, t("page.upload.title")),
      h("div", { class: "row" }, bar, share),
      h("p", { class: "soft small" }, t("page.upload.where")),
      h("button", { type: "button", onclick: () => sending.abort() }, t("page.cancel")),
    ),
  );
  announce(t("page.upload.title"));
  sending.promise.then(open, (problem) => refuse(problem, chosen, () => send(files, modality, chosen)));
}

const open = (scan) => {
  location.hash = `#/scan/${scan.id}`;
};

function refuse(problem, chosen, again) {
  if (problem.code === "cancelled") {
    chosen.replaceChildren();
    return;
  }
  chosen.replaceChildren(
    h(
      "section",
      { class: "card problem", role: "alert" },
      h("p", {}, problem.words),
      h("div", { class: "row" }, h("button", { type: "button", class: "primary", onclick: again }, t("page.again")), h("button", { type: "button", onclick: () => chosen.replaceChildren() }, t("page.chosen.discard"))),
    ),
  );
}

function samples(chosen) {
  const start = (name) => () =>
    api.sample(name).then(open, (problem) => refuse(problem, chosen, start(name)));
  const button = (name) => h("button", { type: "button", id: `sample-${name}`, onclick: start(name) }, t(`page.sample.${name}`));
  return h("section", { class: "samples" }, h("h2", {}, t("page.sample.title")), h("p", { class: "soft" }, t("page.sample.what")), h("div", { class: "row" }, button("intact"), button("tampered")));
}

function limits() {
  const points = ["noise", "whole", "before", "disease"].map((name) => h("li", {}, t(`blind.${name}`)));
  return h("details", { class: "limits" }, h("summary", {}, t("blind.title")), h("ul", {}, points));
}
