// Ask the gateway. The token is in this module's memory, and nowhere else: closing the page forgets it.

const { prefix } = document.body.dataset;
let token = "";

export function setToken(text) { token = text.trim().replace(/^bearer\s+/i, ""); }
export function hasToken() { return token !== ""; }

export class Refused extends Error {
  constructor(status, message, code) { super(message); this.status = status; this.code = code; }
}

export async function ask(path, { method = "GET", body, form, signal, anonymous } = {}) {
  const headers = {};
  if (!anonymous) headers.Authorization = "Bearer " + token;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(prefix + path, {
    method, headers, signal, cache: "no-store", credentials: "omit", redirect: "error",
    body: form ? new URLSearchParams(form) : body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.ok) return response;
  let said = {};
  try { said = (await response.json()).error || {}; } catch { /* a proxy's own page, say */ }
  throw new Refused(response.status, said.message || "The gateway answered " + response.status, said.code);
}

export async function login(username, password) {
  const response = await ask("/auth/token", { method: "POST", form: { username, password }, anonymous: true });
  setToken((await response.json()).access_token);
}

// Read lines of JSON as they come. Returns when the stream ends; throws where it breaks.
export async function lines(path, signal, each) {
  const response = await ask(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) if (part) each(JSON.parse(part));
  }
}

// What the gateway does: sections of entries, kept up to date by the stream. It comes again by itself.
export class Live {
  constructor({ changed, state, refused }) {
    this.sections = {};
    this.generation = "";
    this.seq = 0;
    this.time = 0;
    this.changed = changed;
    this.state = state;
    this.refused = refused;
    this.stopped = new AbortController();
    this.pause = 1;
  }

  async run() {
    while (!this.stopped.signal.aborted) {
      try {
        await lines("/gateway/live?generation=" + encodeURIComponent(this.generation) + "&seq=" + this.seq, this.stopped.signal, (line) => this.take(line));
      } catch (error) {
        if (this.stopped.signal.aborted) return;
        if (error instanceof Refused && (error.status === 401 || error.status === 403)) { this.refused(error); return; }
        this.state("lost");
        await new Promise((go) => setTimeout(go, this.pause * 1000));
        this.pause = Math.min(15, this.pause * 2);
      }
    }
  }

  take(line) {
    // A line of another worker, or one that comes twice, is no news: entries are set, never added.
    if (line.full) this.sections = {};
    else if (line.generation !== this.generation || line.seq <= this.seq) return;
    for (const [name, entries] of Object.entries(line.set)) {
      if (line.full || !this.sections[name]) this.sections[name] = new Map();
      for (const [key, entry] of Object.entries(entries)) this.sections[name].set(key, entry);
    }
    for (const [name, keys] of Object.entries(line.gone)) for (const key of keys) this.sections[name]?.delete(key);
    this.generation = line.generation;
    this.seq = line.seq;
    this.time = line.time;
    this.pause = 1;
    this.state("live");
    this.changed(line.full ? null : new Set([...Object.keys(line.set), ...Object.keys(line.gone)]));
  }

  stop() { this.stopped.abort(); }
  all(name) { return this.sections[name] || new Map(); }
}
