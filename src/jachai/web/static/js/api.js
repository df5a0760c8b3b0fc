// A path of the API → its answer, or a Problem that the page can put into words.

import { sentence, t, named } from "./language.js";

const ROOT = "/api/v1";

export class Problem extends Error {
  constructor(code, detail = "", remedy = "", retry = null) {
    super(code);
    Object.assign(this, { code, detail, remedy, retry });
  }

  /** What to tell the user: what is wrong, and what to do. */
  get words() {
    const known = named("error", this.code);
    if (known !== this.code) return known;
    return [this.detail, this.remedy].filter(Boolean).map(sentence).join(" ") || t("error.internal");
  }
}

let whenTokenNeeded = () => {};
export const onTokenNeeded = (action) => {
  whenTokenNeeded = action;
};

function problemOf(status, body, retry) {
  let said = {};
  try {
    said = JSON.parse(body);
  } catch {
    // a proxy's page: the status alone speaks
  }
  const codes = { 401: "unauthorized", 403: "cross-site", 404: "not-found", 413: "too-large", 429: "too-many-requests", 503: "queue-full" };
  const problem = new Problem(said.code ?? codes[status] ?? "internal", said.detail, said.what_to_do, retry);
  if (problem.code === "unauthorized") whenTokenNeeded();
  return problem;
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(ROOT + path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("unreachable");
  }
  if (!answer.ok) throw problemOf(answer.status, await answer.text(), answer.headers.get("Retry-After"));
  return answer;
}

const json = async (path, options) => (await ask(path, options)).json();
const post = (path, options = {}) => json(path, { method: "POST", ...options });

export const url = (path) => ROOT + path;
export const health = () => json("/health");
export const scan = (id) => json(`/scans/${id}`);
export const cancel = (id) => post(`/scans/${id}/cancel`);
export const remove = (id) => ask(`/scans/${id}`, { method: "DELETE" });
export const sample = (name) => post(`/samples/${name}`);
export const signIn = (token) => ask("/session", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }) });
export const result = (id, n) => `/scans/${id}/results/${n}`;
export const volume = (base) => json(`${base}/volume`);
export const evidence = (base) => json(`${base}/evidence`);
export const bytesOf = async (path, signal) => {
  const answer = await ask(path, { signal });
  return { headers: answer.headers, buffer: await answer.arrayBuffer() };
};
export const blobOf = async (path, signal) => (await ask(path, { signal })).blob();

export function list({ search = "", cursor = "", limit = 20 }) {
  const query = new URLSearchParams({ limit: String(limit) });
  if (search) query.set("search", search);
  if (cursor) query.set("cursor", cursor);
  return json(`/scans?${query}`);
}

/** Upload with progress. `files`: [{file, name}]. Returns {promise, abort}. */
export function upload(files, modality, onProgress) {
  const request = new XMLHttpRequest();
  const form = new FormData();
  for (const { file, name } of files) form.append("files", file, name);
  if (modality) form.append("modality", modality);
  const promise = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(problemOf(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    request.onerror = () => reject(new Problem("unreachable"));
    request.onabort = () => reject(new Problem("cancelled"));
  });
  request.open("POST", `${ROOT}/scans`);
  request.send(form);
  return { promise, abort: () => request.abort() };
}

/** Follow a scan until it ends: events where they work, polling where they do not. Returns a function that stops it. */
export function follow(id, onProgress, onEnd, onTrouble) {
  let stopped = false;
  let timer = 0;
  const source = new EventSource(`${ROOT}/scans/${id}/events`);
  const stop = () => {
    stopped = true;
    source.close();
    clearTimeout(timer);
  };
  const end = () => {
    if (!stopped) {
      stop();
      onEnd();
    }
  };
  source.addEventListener("progress", (event) => onProgress(JSON.parse(event.data)));
  source.addEventListener("end", end);
  source.onerror = () => {
    source.close();
    poll();
  };
  async function poll() {
    if (stopped) return;
    try {
      const state = await scan(id);
      if (["done", "failed", "cancelled"].includes(state.state)) return end();
      onProgress(state);
    } catch (error) {
      if (error.code === "not-found") {
        stop();
        onTrouble(error);
        return;
      }
      onTrouble(error);
    }
    timer = setTimeout(poll, 1000);
  }
  return stop;
}
