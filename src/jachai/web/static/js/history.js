// Earlier scans: search, open, delete.

import * as api from "./api.js";
import { announce, h, icon } from "./dom.js";
import { bytes, t, when } from "./language.js";
import { nameOf, verdictOf } from "./verdict.js";

const TYPING_MS = 250;

export function history(main) {
  const list = h("ul", { class: "history" });
  const more = h("button", { type: "button", hidden: true }, t("page.history.more"));
  const search = h("input", { type: "search", id: "search", autocomplete: "off" });
  let cursor = "";
  let asked = 0;
  async function load(fresh) {
    const turn = (asked += 1);
    try {
      const page = await api.list({ search: search.value.trim(), cursor: fresh ? "" : cursor });
      if (turn !== asked) return;
      if (fresh) list.replaceChildren();
      list.append(...page.items.map((scan) => row(scan, () => load(true))));
      if (!list.children.length) list.append(h("li", { class: "soft" }, t(search.value ? "page.history.none-found" : "page.history.none")));
      cursor = page.next_cursor ?? "";
      more.hidden = !cursor;
    } catch (problem) {
      list.replaceChildren(h("li", { class: "problem", role: "alert" }, problem.words ?? t("error.internal")));
    }
  }
  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => load(true), TYPING_MS);
  });
  more.addEventListener("click", () => load(false));
  main.replaceChildren(
    h("h1", {}, t("page.history.title")),
    h("p", { class: "row" }, h("label", { for: "search" }, t("page.history.search")), search),
    list,
    more,
  );
  load(true);
}

function row(scan, reload) {
  const state = verdictOf(scan);
  const remove = h("button", { type: "button", class: "quiet", "aria-label": t("page.history.delete.label", { name: nameOf(scan) }) }, t("page.history.delete"));
  const item = h(
    "li",
    { class: "card entry" },
    h("span", { class: `badge ${state.kind}` }, icon(state.icon), h("span", {}, state.words)),
    h("a", { href: `#/scan/${scan.id}`, class: "path" }, nameOf(scan)),
    h("span", { class: "soft small" }, scan.sample ? when(scan.created) : `${when(scan.created)} · ${t("page.files", { n: scan.files.count })}, ${bytes(scan.files.bytes)}`),
    remove,
  );
  remove.addEventListener("click", () => confirm(item, scan, reload));
  return item;
}

function confirm(item, scan, reload) {
  const yes = h("button", { type: "button", class: "danger" }, t("page.history.delete.yes"));
  const no = h("button", { type: "button" }, t("page.history.delete.no"));
  const question = h("div", { class: "row question", role: "group", "aria-label": t("page.history.delete.ask") }, h("span", {}, t("page.history.delete.ask")), yes, no);
  item.append(question);
  item.querySelector("button.quiet").hidden = true;
  no.focus();
  no.addEventListener("click", () => {
    question.remove();
    const again = item.querySelector("button.quiet");
    again.hidden = false;
    again.focus();
  });
  yes.addEventListener("click", async () => {
    try {
      await api.remove(scan.id);
      announce(t("page.history.deleted"));
      reload();
    } catch (problem) {
      question.replaceChildren(h("span", { role: "alert" }, problem.words));
    }
  });
}
