// What opens over the page: details of a service, a route or a request, and the question before an action.
const at = new URL(import.meta.url).search;
const { h, clockWithSeconds, count, date, moment, ms, share } = await import("./dashboard-dom.js" + at);
const { Chart } = await import("./dashboard-chart.js" + at);
const { Table } = await import("./dashboard-table.js" + at);
const { ask } = await import("./dashboard-gateway.js" + at);
const { breakerOf, conditionOf, isUp } = await import("./dashboard-verdict.js" + at);

export function toast(text) {
  const note = h("div", { class: "toast", role: "status" }, text);
  document.body.append(note);
  setTimeout(() => note.remove(), 5000);
}

function dialog(title, small) {
  const body = h("div", { class: "body" });
  const close = h("button", { type: "button", onclick: () => box.close() }, "Close");
  const id = "d" + Math.random().toString(36).slice(2);
  const box = h("dialog", { class: small ? "small" : null, "aria-labelledby": id },
    h("div", { class: "head" }, h("h2", { id }, title), close), body);
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return { box, body, close };
}

// Ask before something is done; what is done is told, and so is a refusal.
export function confirmed(question, { says, label, danger = true, act, done }) {
  const { box, body, close } = dialog(question, true);
  const failed = h("p", { class: "notice", role: "alert", hidden: true });
  const go = h("button", { type: "button", class: danger ? "danger" : "main", onclick: async () => {
    go.disabled = true;
    try {
      await act();
      box.close();
      toast(done);
    } catch (error) {
      failed.textContent = error.message;
      failed.hidden = false;
      go.disabled = false;
    }
  } }, label);
  close.textContent = "Cancel";
  body.append(h("p", null, says), failed, h("div", { class: "acts" }, go));
  close.focus();
}

export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [
    h("dt", null, name), h("dd", null, value instanceof Node ? value : String(value)),
  ]));
}

async function showHistory(box, query, charts, now) {
  try {
    const response = await ask("/gateway/history?" + new URLSearchParams(query));
    const { points } = await response.json();
    if (box.isConnected) for (const chart of charts) chart.show(points, now);
  } catch (error) { toast("The history cannot be read: " + error.message); }
}

function charts() { return [new Chart("requests"), new Chart("durations")]; }

const INSTANCES = [
  { name: "Instance", glance: (r) => r.key, order: (r) => r.key, mono: true },
  { name: "State", width: "132px", glance: (r) => ({ text: r.condition.sign + " " + r.condition.word, kind: r.condition.kind }), order: (r) => (isUp(r.one) ? 1 : 0) },
  { name: "Probe", width: "96px", num: true, wide: true, glance: (r) => ms(r.one.latency_ms), order: (r) => r.one.latency_ms },
  { name: "Failures", width: "84px", num: true, wide: true, title: "Failed requests in a row", glance: (r) => count(r.one.failures), order: (r) => r.one.failures },
  { name: "Share", width: "84px", num: true, title: "Of the service's requests since this page was opened", glance: (r) => share(r.one.requests, r.all), order: (r) => r.one.requests },
];

export function showService(name, live, now) {
  const { box, body } = dialog("Service " + name);
  const drawn = charts();
  const state = h("div");
  const acts = h("div", { class: "acts" });
  const table = new Table({ title: "Instances", columns: INSTANCES, rows: 10, sort: INSTANCES[1], empty: "No instance is there. Requests are answered 503 until one registers.", open: (row) => showInstance(name, row, live) });
  body.append(state, acts, h("h3", null, "Last hour"), h("div", { class: "two" }, drawn.map((c) => c.element)), h("h3", null, "Choose an instance to drain or restore it"), table.element);
  const draw = () => {
    const service = live.all("services").get(name);
    if (!service) { box.close(); return; }
    const breaker = breakerOf(service.circuit);
    state.replaceChildren(facts([
      ["Breaker", h("span", { class: breaker.kind }, breaker.sign + " " + breaker.word)],
      ["Why", service.circuit?.reason], ["Open since", service.circuit?.opened_at && date(Date.parse(service.circuit.opened_at) / 1000)],
      ["Probes from", service.circuit?.retry_after && date(Date.parse(service.circuit.retry_after) / 1000)],
      ["Failures", service.circuit && count(service.circuit.failures) + " within its window"],
    ]));
    const open = service.circuit?.state === "OPEN";
    acts.replaceChildren(...(service.circuit ? [
      h("button", { type: "button", onclick: () => circuit(name, "CLOSED") }, open ? "Close the breaker" : "Reset the breaker"),
      !(open && service.circuit.held) && h("button", { type: "button", class: "danger", onclick: () => circuit(name, "OPEN") }, open ? "Keep the breaker open" : "Open the breaker"),
    ].filter(Boolean) : []));
    const instances = Object.values(service.instances);
    const all = instances.reduce((sum, one) => sum + one.requests, 0);
    table.show(instances.map((one) => ({ key: one.id, text: one.id + " " + one.status, one, all, condition: conditionOf(one, live.time) })));
  };
  draw();
  showHistory(box, { service: name }, drawn, now);
  return { box, draw };
}

function circuit(name, state) {
  const opens = state === "OPEN";
  confirmed(opens ? "Open the breaker of " + name + "?" : "Close the breaker of " + name + "?", {
    says: opens ? "All requests to " + name + " are refused with 503, in all workers, until somebody closes the breaker again."
      : "Requests to " + name + " pass again, in all workers, and earlier failures are forgotten.",
    label: opens ? "Open the breaker" : "Close the breaker", danger: opens,
    act: () => ask("/circuits/" + encodeURIComponent(name), { method: "PUT", body: { state } }),
    done: "The breaker of " + name + " is " + (opens ? "open." : "closed."),
  });
}

function showInstance(service, row, live) {
  const { one } = row;
  const others = Object.values(live.all("services").get(service)?.instances || {}).filter((other) => other.id !== one.id && isUp(other)).length;
  const where = "/services/" + encodeURIComponent(service) + "/" + encodeURIComponent(one.id) + "/drain";
  confirmed((one.drained ? "Restore " : "Drain ") + one.id + " of " + service + "?", {
    says: one.drained ? "It gets requests again, in all workers."
      : "It gets no new requests, in all workers, until it is restored. Requests in flight complete. " + (others ? count(others) + " other instances stay." : "No other instance is up: " + service + " will answer 503."),
    label: one.drained ? "Restore" : "Drain", danger: !one.drained,
    act: () => ask(where, { method: one.drained ? "DELETE" : "PUT" }),
    done: one.id + (one.drained ? " is restored." : " is drained."),
  });
}

export function showRoute(row, live, now) {
  const { box, body } = dialog("Route " + row.route);
  const drawn = charts();
  const state = h("div");
  body.append(state, h("h3", null, "Last hour"), h("div", { class: "two" }, drawn.map((c) => c.element)));
  const draw = () => {
    const known = live.all("map").get(row.key) || [];
    const now_ = live.all("routes").get(row.key) || [];
    state.replaceChildren(facts([
      ["Matches", known[2] && (known[3] ? known[3] + " " : "") + known[2] + (known[4] ? "" : " and below")],
      ["Service", row.service], ["Requests", count(now_[3])], ["4xx", count(now_[4]) + " (" + share(now_[4], now_[3]) + ")"],
      ["5xx", count(now_[5]) + " (" + share(now_[5], now_[3]) + ")"],
      ["Duration", "p50 " + ms(now_[6]) + ", p95 " + ms(now_[7]) + ", p99 " + ms(now_[8])],
    ]));
  };
  draw();
  showHistory(box, { route: row.route, service: row.service }, drawn, now);
  return { box, draw };
}

const FIELDS = [
  ["Time", (f) => f.time], ["Request id", (f) => f.request_id], ["Trace", (f) => f.trace_id], ["Request", (f) => [f.method, f.path].filter(Boolean).join(" ")],
  ["Host", (f) => f.host], ["Caller", (f) => f.principal], ["Address", (f) => f.client_ip], ["Status", (f) => f.status],
  ["Stage and error", (f) => f.error], ["Limits", (f) => (f.violated || f.rate_limit || []).join(", ")], ["Route", (f) => f.route || "none matched"], ["Service", (f) => f.service],
  ["Instance", (f) => f.instance], ["Upstream said", (f) => f.upstream_status], ["Attempts", (f) => f.attempts],
  ["Took", (f) => ms(f.duration_ms)], ["Of it upstream", (f) => (f.upstream_ms === null ? "" : ms(f.upstream_ms))], ["Flags", (f) => (f.flags || []).join(", ")],
];

export function showRecord(fields, watch) {
  const { box, body } = dialog((fields.code || "Status " + fields.status) + " at " + clockWithSeconds(fields.time));
  body.append(facts(FIELDS.map(([name, of]) => [name, of(fields)])));
  if (fields.method && fields.path) {
    body.append(h("h3", null, "Why: the decision for this method and path, by the gateway's own code"),
      h("pre", null, "propylon explain " + fields.method + " '" + fields.path.replaceAll("'", "'\\''") + "'"));
  }
  const caller = fields.principal && fields.principal !== "anonymous" && fields.principal !== "private" ? fields.principal : fields.client_ip;
  body.append(h("div", { class: "acts" },
    fields.route && h("button", { type: "button", onclick: () => { box.close(); watch({ route: fields.route }); } }, "Watch this route live"),
    caller && h("button", { type: "button", onclick: () => { box.close(); watch({ caller }); } }, "Watch this caller live")));
}

export function showRevocation() {
  const { body } = dialog("Revoke a token or a session", true);
  const token = h("input", { type: "password", autocomplete: "off", required: true });
  const user = h("input", { autocomplete: "off", required: true });
  const found = h("div");
  body.append(
    h("form", { class: "plain", onsubmit: (e) => {
      e.preventDefault();
      confirmed("Revoke this token?", { says: "Whoever has it is refused at once, in all workers.", label: "Revoke the token", done: "The token is revoked.",
        act: async () => { await ask("/auth/revoke", { method: "POST", form: { token: token.value.trim() } }); token.value = ""; } });
    } }, h("label", null, "Token", token), h("div", { class: "acts" }, h("button", { class: "danger" }, "Revoke the token"))),
    h("form", { class: "plain", onsubmit: async (e) => {
      e.preventDefault();
      try { await listSessions(user.value.trim(), found); } catch (error) { found.replaceChildren(h("p", { class: "notice", role: "alert" }, error.message)); }
    } }, h("label", null, "User", user), h("div", { class: "acts" }, h("button", null, "List the user's sessions"))), found);
}

async function listSessions(user, found) {
  const where = "/users/" + encodeURIComponent(user) + "/sessions";
  const said = await (await ask(where)).json();
  const sessions = said.sessions || said;
  found.replaceChildren(h("h3", null, count(sessions.length) + " sessions of " + user), h("div", { class: "acts" }, sessions.map((one) =>
    h("button", { type: "button", class: "danger", onclick: () => confirmed("End this session of " + user + "?", {
      says: "Its refresh token and its access tokens are refused from now on.", label: "End the session", done: "The session has ended.",
      act: async () => { await ask(where + "/" + encodeURIComponent(one.id), { method: "DELETE" }); await listSessions(user, found); },
    }) }, "End the login of " + date(one.begun) + (one.address ? " from " + one.address : "")))));
}
