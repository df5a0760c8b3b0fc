// Starts the page: language, theme, and which view the address asks for.

import * as api from "./api.js";
import { h } from "./dom.js";
import { history } from "./history.js";
import { home } from "./home.js";
import * as words from "./language.js";
import { scanPage } from "./scanpage.js";

const { t } = words;
const main = document.getElementById("main");
const THEMES = ["auto", "light", "dark"];
let stop = () => {};
let first = true;
let speaking = false;

function route() {
  if (!speaking) return;
  stop();
  stop = () => {};
  const [, view, id] = location.hash.split("/");
  for (const link of document.querySelectorAll("[data-nav]")) {
    const here = link.dataset.nav === (view === "history" ? "history" : view ? "" : "home");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  main.classList.toggle("full", view === "scan");
  if (view === "scan" && id) stop = scanPage(main, id);
  else if (view === "history") history(main);
  else home(main);
  if (!first) main.focus({ preventScroll: true });
  if (!first) scrollTo(0, 0);
  first = false;
}

function frame() {
  document.title = t("page.title");
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
  const button = document.getElementById("language");
  button.textContent = t("page.other-language");
  button.lang = words.otherLanguage();
  showTheme();
  api.health().then(
    (health) => (document.getElementById("version").textContent = t("page.version", { version: words.digits(health.version), model: health.model?.name ?? "?" })),
    () => {},
  );
}

async function speak(name) {
  await words.choose(name);
  speaking = true;
  frame();
  first = true;
  route();
}

function theme() {
  const kept = localStorage.getItem("jachai-theme");
  return THEMES.includes(kept) ? kept : "auto";
}

function showTheme() {
  document.documentElement.dataset.theme = theme();
  document.getElementById("theme").textContent = t(`page.theme.${theme()}`);
}

function tokenForm() {
  stop();
  const input = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true });
  const wrong = h("p", { class: "problem", role: "alert", hidden: true });
  const form = h("form", { class: "card", id: "token-form" }, h("h1", {}, t("page.token.title")), h("p", {}, t("page.token.what")), h("p", { class: "row" }, h("label", { for: "token" }, t("page.token.label")), input), wrong, h("button", { class: "primary" }, t("page.token.go")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await api.signIn(input.value);
      frame();
      route();
    } catch (problem) {
      wrong.hidden = false;
      wrong.textContent = problem.words ?? t("error.internal");
    }
  });
  if (!document.getElementById("token-form")) {
    main.replaceChildren(form);
    input.focus();
  }
}

document.getElementById("language").addEventListener("click", () => speak(words.otherLanguage()));
document.getElementById("theme").addEventListener("click", () => {
  localStorage.setItem("jachai-theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  showTheme();
});
addEventListener("hashchange", route);
api.onTokenNeeded(() => setTimeout(tokenForm));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
speak(words.preferred());
