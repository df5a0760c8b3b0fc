// One scan: its way through the queue, its progress, then its results.

import * as api from "./api.js";
import { announce, h, icon } from "./dom.js";
import { named, num, readyForSentences, sentence, t } from "./language.js";
import { results } from "./results.js";
import { nameOf } from "./verdict.js";

const STEPS = ["queued", "reading", "examining", "done"];
const STEP_OF = { examining: "examining" };

/** Show scan `id` in `main`. Returns a function that ends everything it started. */
export function scanPage(main, id) {
  let end = () => {};
  let left = false;
  const stop = () => {
    left = true;
    end();
  };
  main.replaceChildren(h("p", { class: "soft" }, t("page.loading")));
  show();
  return stop;

  async function show() {
    let scan;
    try {
      scan = await api.scan(id);
      await readyForSentences();
    } catch (problem) {
      if (left) return;
      main.replaceChildren(trouble(problem, problem.code === "not-found" ? null : show));
      return;
    }
    if (left) return;
    if (scan.state === "done") end = results(main, scan);
    else if (scan.state === "queued" || scan.state === "running") end = progress(main, scan, show);
    else main.replaceChildren(ended(scan));
    if (scan.state === "done") announce(t("page.progress.done"));
  }
}

function trouble(problem, again) {
  return h(
    "section",
    { class: "card problem", role: "alert" },
    h("p", {}, problem.words ?? t("error.internal")),
    h("div", { class: "row" }, again ? h("button", { type: "button", class: "primary", onclick: again }, t("page.again")) : null, h("a", { href: "#/" }, t("page.nav.new"))),
  );
}

function ended(scan) {
  const failed = scan.state === "failed";
  const why = failed && scan.error ? named("error", scan.error.code) : "";
  const detail = why && why === scan.error.code ? sentence(scan.error.detail ?? "") : why;
  return h(
    "section",
    { class: `card ${failed ? "problem" : ""}`, role: failed ? "alert" : null },
    h("h1", { class: "path" }, nameOf(scan)),
    h("p", { class: "big" }, t(`page.ended.${scan.state}`)),
    detail ? h("p", {}, detail) : null,
    failed ? h("p", {}, t("page.ended.failed.meaning")) : null,
    h("p", {}, h("a", { href: "#/" }, t("page.nav.new"))),
  );
}

function progress(main, scan, onEnd) {
  const bar = h("progress", { max: "1", "aria-label": t("page.progress.title") });
  const words = h("p", { class: "big", id: "progress-words", role: "status" });
  const trouble = h("p", { class: "problem", role: "alert", hidden: true }, t("error.unreachable.waiting"));
  const steps = new Map(STEPS.slice(0, 3).map((step) => [step, h("li", {}, t(`page.step.${step}`))]));
  const stopIt = h("button", { type: "button", id: "cancel" }, t("page.cancel"));
  main.replaceChildren(
    h(
      "section",
      { class: "card progress" },
      h("h1", { class: "path" }, icon("working"), nameOf(scan)),
      words,
      h("div", { class: "row" }, bar),
      h("ol", { class: "steps" }, [...steps.values()]),
      trouble,
      h("p", { class: "soft small" }, t("page.progress.leave")),
      stopIt,
    ),
  );
  let said = "";
  const update = ({ state, stage, fraction, position }) => {
    trouble.hidden = true;
    const at = state === "queued" ? "queued" : (STEP_OF[stage] ?? "reading");
    for (const [name, item] of steps) {
      const where = STEPS.indexOf(name) - STEPS.indexOf(at);
      item.className = where < 0 ? "past" : where === 0 ? "now" : "";
      if (where === 0) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    }
    if (state === "queued") bar.removeAttribute("value");
    else bar.value = fraction ?? 0;
    const sentenceNow = state === "queued" ? waiting(position) : named("stage", stage || "starting");
    if (sentenceNow !== said) words.textContent = said = sentenceNow;
    bar.setAttribute("aria-valuetext", state === "queued" ? sentenceNow : `${num(Math.round(100 * (fraction ?? 0)))} %`);
  };
  update(scan);
  const stop = api.follow(scan.id, update, onEnd, (problem) => {
    trouble.hidden = false;
    if (problem.code === "not-found") trouble.textContent = problem.words;
  });
  stopIt.addEventListener("click", async () => {
    stopIt.disabled = true;
    try {
      await api.cancel(scan.id);
    } catch (problem) {
      trouble.hidden = false;
      trouble.textContent = problem.words;
      stopIt.disabled = false;
      return;
    }
    stop();
    onEnd();
  });
  return stop;
}

const waiting = (position) => (position && position > 1 ? t("page.progress.waiting", { n: position - 1 }) : t("page.progress.next"));
