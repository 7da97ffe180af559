// Requests as they end, of all workers, with filters: asked for only while somebody watches.
const at = new URL(import.meta.url).search;
const { h, clockWithSeconds, count, ms, put } = await import("./dashboard-dom.js" + at);
const { lines } = await import("./dashboard-gateway.js" + at);

const MOST = 200;
const COLUMNS = [["Time", "84px"], ["Status", "64px"], ["Took", "92px"], ["Request", null], ["Route", "150px"], ["Caller", "130px"]];

export class Tail {
  constructor(open) {
    this.open = open;
    this.stopped = null;
    this.field = (name, label, props) => h("label", null, label, (this[name] = h("input", { type: "text", autocomplete: "off", ...props })));
    this.go = h("button", { type: "button", class: "main", onclick: () => (this.stopped ? this.stop() : this.start()) }, "Watch");
    this.note = h("span", { class: "muted", role: "status" }, "Not watching");
    this.body = h("tbody");
    const form = h("form", { class: "filters", onsubmit: (e) => { e.preventDefault(); this.start(); } },
      this.field("route", "Route"), this.field("service", "Service"), this.field("caller", "Caller or address"), this.field("text", "Path holds"),
      h("label", null, "Method", (this.method = h("select", null, ["", "GET", "POST", "PUT", "PATCH", "DELETE"].map((m) => h("option", { value: m }, m || "any"))))),
      h("label", null, "Status", (this.least = h("select", null, [["0", "any"], ["400", "400 and above"], ["500", "500 and above"]].map(([v, t]) => h("option", { value: v }, t))))),
      this.field("slower", "Slower than (ms)", { type: "number", min: "0", step: "any" }), h("button", { class: "unseen", tabindex: "-1", "aria-hidden": "true" }, "Apply"));
    const table = h("table", { "aria-labelledby": "tail-title" },
      h("colgroup", null, COLUMNS.map(([, width]) => { const col = h("col"); if (width) col.style.width = width; return col; })),
      h("thead", null, h("tr", null, COLUMNS.map(([name]) => h("th", { scope: "col" }, name)))), this.body);
    this.element = h("section", { class: "panel" },
      h("div", { class: "head" }, h("h2", { id: "tail-title" }, "Live requests"), this.note, h("span", { class: "end" }, this.go)), form,
      h("div", { class: "tail", tabindex: "0", role: "region", "aria-labelledby": "tail-title" }, table));
    this.left = 0;
  }

  watch(filters) {
    for (const name of ["route", "service", "caller", "text"]) this[name].value = filters[name] || "";
    this.start();
    this.element.scrollIntoView({ block: "start" });
    this.go.focus({ preventScroll: true });
  }

  async start() {
    this.stop();
    const stopped = (this.stopped = new AbortController());
    this.body.replaceChildren();
    this.left = 0;
    this.go.textContent = "Stop";
    put(this.note, "Watching; nothing has come yet");
    const query = new URLSearchParams({
      route: this.route.value, service: this.service.value, caller: this.caller.value, text: this.text.value, method: this.method.value,
      least_status: this.least.value, slower_than: String((Number(this.slower.value) || 0) / 1000),
    });
    // A stream lasts a minute: then the token is checked again.
    while (!stopped.signal.aborted) {
      try {
        await lines("/gateway/tail?" + query, stopped.signal, (line) => this.take(line));
      } catch (error) {
        if (stopped.signal.aborted) return;
        this.stop();
        put(this.note, "Stopped: " + error.message);
      }
    }
  }

  stop() {
    if (this.stopped) this.stopped.abort();
    this.stopped = null;
    this.go.textContent = "Watch";
    put(this.note, "Not watching");
  }

  take(line) {
    if (!line.records) return;
    this.left += line.skipped;
    for (const fields of line.records) {
      const bad = fields.status >= 500 ? "bad" : fields.status >= 400 ? "warn" : null;
      const open = h("button", { type: "button", class: "text mono", onclick: () => this.open(fields) }, (fields.method || "–") + " " + (fields.path || "–"));
      const cells = [clockWithSeconds(fields.time), h("span", { class: bad }, String(fields.status)), ms(fields.duration_ms), open, fields.route || "–", fields.principal && fields.principal !== "anonymous" ? fields.principal : fields.client_ip || "–"];
      this.body.prepend(h("tr", { class: "row" }, cells.map((cell) => h("td", null, cell))));
    }
    while (this.body.childElementCount > MOST) this.body.lastElementChild.remove();
    put(this.note, "Watching" + (this.left ? "; " + count(this.left) + " more were too many to show: filter" : ""));
  }
}
