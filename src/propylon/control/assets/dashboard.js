// The dashboard: log in, then show what the stream says. Everything is made here; the page itself is empty.
const at = new URL(import.meta.url).search;
const { h, put, bytes, clock, clockWithSeconds, count, date, moment, ms, rate, share, span } = await import("./dashboard-dom.js" + at);
const { Table } = await import("./dashboard-table.js" + at);
const { Chart } = await import("./dashboard-chart.js" + at);
const { Tail } = await import("./dashboard-tail.js" + at);
const { Live, ask, login, setToken } = await import("./dashboard-gateway.js" + at);
const { SIGNS, breakerOf, judge, verdict } = await import("./dashboard-verdict.js" + at);
const { confirmed, showRecord, showRevocation, showRoute, showService } = await import("./dashboard-dialogs.js" + at);

const { version } = document.body.dataset;
const RANK = { bad: 0, warn: 1, muted: 2, good: 3 };
const sum = (rows, i) => rows.reduce((total, row) => total + (row[i] || 0), 0);
const limited = (number) => (number === null ? null : number);

// The door

function door(message) {
  const problem = h("p", { class: "notice", role: "alert", hidden: !message }, message || "");
  const token = h("input", { type: "password", autocomplete: "off", required: true, id: "token" });
  const user = h("input", { autocomplete: "username", required: true });
  const password = h("input", { type: "password", autocomplete: "current-password", required: true });
  const enter = async (prepare) => {
    problem.hidden = true;
    try {
      await prepare();
      await ask("/gateway/log-level");
      open();
    } catch (error) {
      setToken("");
      problem.textContent = why(error);
      problem.hidden = false;
    }
  };
  const forms = [
    h("form", { class: "plain", onsubmit: (e) => { e.preventDefault(); enter(async () => setToken(token.value)); } },
      h("label", null, "Access token", token), h("button", { class: "main" }, "Show the gateway")),
  ];
  if (document.body.dataset.login === "yes") {
    forms.push(h("hr"), h("form", { class: "plain", onsubmit: (e) => { e.preventDefault(); enter(() => login(user.value, password.value)); } },
      h("label", null, "Name", user), h("label", null, "Password", password), h("button", null, "Log in")));
  }
  document.body.replaceChildren(h("main", { class: "door" }, h("div", { class: "panel" }, h("h1", null, "Propylon"),
    h("p", { class: "muted" }, "Your token needs the scope that opens the gateway's own endpoints (usually admin). It stays in this page's memory."),
    problem, forms)));
  token.focus();
}

function why(error) {
  if (error.status === 401) return "The token, or the name and password, is not accepted.";
  if (error.status === 403) return "The token lacks the scope that opens the gateway's own endpoints.";
  if (error.status === 503) return "The gateway cannot verify tokens now: " + error.message;
  return error.message || "The gateway does not answer.";
}

// The page

function figure(name, title) {
  const value = h("dd", null, "–");
  return { element: h("div", null, h("dl", null, h("dt", { title }, name), value)), put: (text) => put(value, text) };
}

function open() {
  const pulse = h("span", { class: "pulse muted", role: "status" }, "connecting");
  const level = h("select", { onchange: () => setLevel(level, live) }, ["debug", "info", "warning", "error", "critical"].map((name) => h("option", { value: name }, name)));
  const sign = h("span", { class: "sign", "aria-hidden": "true" });
  const sentence = h("span", { role: "status" });
  const troubles = h("ul", { class: "troubles", "aria-label": "What is wrong" });
  const figures = {
    rate: figure("Requests / s"), failing: figure("5xx", "Of the requests of the last seconds"), refused: figure("4xx"), p50: figure("p50, last hour"), p95: figure("p95, last hour"),
    p99: figure("p99, last hour"), open: figure("Connections"), workers: figure("Workers"), memory: figure("Memory", "Of all workers"),
  };
  const charts = [new Chart("requests"), new Chart("durations")];
  let opened = null;
  const show = (made) => { opened = made; };

  const services = new Table({
    title: "Services", rows: 12, open: (row) => show(showService(row.key, live, live.time)),
    empty: "No service is configured yet. Write one under services: in propylon.yaml, or let an instance register.",
    columns: [
      { name: "Service", glance: (r) => r.key, order: (r) => r.key },
      { name: "State", width: "132px", glance: (r) => ({ text: SIGNS[r.state.kind] + " " + r.state.word, kind: r.state.kind }), order: (r) => RANK[r.state.kind] },
      { name: "Instances", width: "92px", num: true, wide: true, title: "Instances that are up, of all", glance: (r) => count(r.state.up) + " / " + count(r.state.all), order: (r) => r.state.up - r.state.all },
      { name: "Breaker", width: "118px", wide: true, glance: (r) => ({ text: r.breaker.sign + " " + r.breaker.word, kind: r.breaker.kind }), order: (r) => RANK[r.breaker.kind] },
      { name: "Req / s", width: "82px", num: true, glance: (r) => rate(r.rate), order: (r) => r.rate },
      { name: "Share", width: "84px", num: true, wide: true, title: "Of the requests of the last seconds", glance: (r) => share(r.rate, r.all), order: (r) => r.rate },
      { name: "5xx", width: "84px", num: true, wide: true, title: "Of the last hour's requests", glance: (r) => ({ text: share(r.failed, r.requests), kind: r.failed > r.requests * 0.01 ? "bad" : "" }), order: (r) => r.failed / (r.requests || 1) },
    ],
  });
  services.sort = services.columns[1];
  const routes = new Table({
    title: "Routes", rows: 15, down: true, open: (row) => show(showRoute(row, live, live.time)),
    empty: "No route is configured yet. Write one under routes: in propylon.yaml.",
    columns: [
      { name: "Route", glance: (r) => r.route, order: (r) => r.route },
      { name: "Service", width: "14%", wide: true, glance: (r) => r.service, order: (r) => r.service },
      { name: "Req / s", width: "88px", num: true, glance: (r) => rate(r.row[0]), order: (r) => limited(r.row[0]) },
      { name: "Requests", width: "108px", num: true, wide: true, title: "In the last hour", glance: (r) => count(r.row[3]), order: (r) => r.row[3] },
      { name: "4xx", width: "80px", num: true, wide: true, title: "Of the last hour's requests", glance: (r) => share(r.row[4], r.row[3]), order: (r) => r.row[4] / (r.row[3] || 1) },
      { name: "5xx", width: "80px", num: true, title: "Of the last hour's requests", glance: (r) => ({ text: share(r.row[5], r.row[3]), kind: r.row[5] > r.row[3] * 0.01 ? "bad" : "" }), order: (r) => r.row[5] / (r.row[3] || 1) },
      { name: "p50", width: "96px", num: true, wide: true, glance: (r) => ms(r.row[6]), order: (r) => r.row[6] },
      { name: "p95", width: "96px", num: true, wide: true, glance: (r) => ms(r.row[7]), order: (r) => r.row[7] },
      { name: "p99", width: "96px", num: true, wide: true, glance: (r) => ms(r.row[8]), order: (r) => r.row[8] },
    ],
  });
  routes.sort = routes.columns[2];
  const records = new Table({
    title: "Refusals and errors", rows: 12, reserve: true, open: (row) => showRecord(row.one, (filters) => tail.watch(filters)),
    empty: "Nothing was refused and nothing has failed.",
    columns: [
      { name: "Code", width: "176px", glance: (r) => ({ text: r.one.status + " " + (r.one.code || "upstream"), kind: r.one.status >= 500 ? "bad" : "warn" }), order: (r) => r.one.status },
      { name: "Time", width: "92px", wide: true, glance: (r) => clockWithSeconds(r.one.time), order: (r) => r.one.time },
      { name: "Request", mono: true, glance: (r) => (r.one.method || "–") + " " + (r.one.path || "–"), order: (r) => r.one.path || "" },
      { name: "Caller", width: "120px", wide: true, glance: (r) => r.caller, order: (r) => r.caller },
      { name: "Request id", width: "150px", wide: true, mono: true, glance: (r) => r.one.request_id, order: (r) => r.one.request_id },
    ],
  });
  records.sort = records.columns[1];
  records.down = true;
  const limits = new Table({
    title: "Limits that refuse", rows: 8, empty: "No limit has refused anything since the start.", filters: false,
    columns: [
      { name: "Limit", glance: (r) => r.key, order: (r) => r.key },
      { name: "Rate", width: "110px", glance: (r) => r.one.rate || count(r.one.in_flight) + " at once", order: (r) => r.one.rate || "" },
      { name: "Refused", width: "108px", num: true, glance: (r) => count(r.one.refused), order: (r) => r.one.refused },
      { name: "Shadow", width: "96px", num: true, wide: true, title: "It would have refused", glance: (r) => count(r.one.shadowed), order: (r) => r.one.shadowed },
      { name: "Allowed", width: "108px", num: true, wide: true, glance: (r) => count(r.one.allowed), order: (r) => r.one.allowed },
    ],
  });
  limits.sort = limits.columns[2];
  limits.down = true;
  const callers = new Table({
    title: "Callers over their limit", rows: 8, empty: "Nobody has run into a limit in the last hour.", filters: false, open: (row) => tail.watch({ caller: row.one[1] }),
    columns: [
      { name: "Caller", glance: (r) => r.one[1], order: (r) => r.one[1], title: "Click to watch the caller's requests" },
      { name: "Limit", width: "26%", wide: true, glance: (r) => r.one[0], order: (r) => r.one[0] },
      { name: "Times", width: "96px", num: true, glance: (r) => count(r.one[2]), order: (r) => r.one[2] },
      { name: "Last", width: "84px", num: true, glance: (r) => clock(r.one[4]), order: (r) => r.one[4] },
    ],
  });
  callers.sort = callers.columns[2];
  callers.down = true;
  const trust = new Table({
    title: "Certificates and key sets", rows: 6, filters: false, empty: "The gateway has no certificate of its own, and fetches no key set.",
    columns: [
      { name: "What", glance: (r) => r.what, order: (r) => r.what },
      { name: "State", width: "46%", glance: (r) => ({ text: SIGNS[r.kind] + " " + r.says, kind: r.kind }), order: (r) => RANK[r.kind] },
    ],
  });
  trust.sort = trust.columns[1];
  const reloads = h("div");
  const tail = new Tail((fields) => showRecord(fields, (filters) => tail.watch(filters)));

  const live = new Live({
    changed: (names) => draw(names),
    state: (word) => { pulse.className = "pulse " + (word === "live" ? "muted" : "bad"); put(pulse, word === "live" ? SIGNS.good + " live " + clockWithSeconds(live.time) : SIGNS.bad + " no answer; trying again"); },
    refused: (error) => { tail.stop(); document.querySelectorAll("dialog").forEach((box) => box.close()); door(why(error) + " Log in again."); },
  });

  document.body.replaceChildren(
    h("a", { class: "skip", href: "#main" }, "Skip to the state"),
    h("header", { class: "top" }, h("span", { class: "name" }, "Propylon"), h("span", { class: "muted" }, location.host + ", version " + version), pulse,
      h("span", { class: "end" }, h("label", null, "Log level", level),
        h("button", { type: "button", onclick: showRevocation }, "Revoke…"),
        h("button", { type: "button", onclick: () => { live.stop(); tail.stop(); setToken(""); door(); } }, "Log out"))),
    h("main", { id: "main", tabindex: "-1" },
      h("h1", { class: "verdict" }, sign, sentence), troubles,
      h("div", { class: "figures" }, Object.values(figures).map((one) => one.element)),
      h("div", { class: "panels" }, h("div", { class: "two" }, charts.map((chart) => chart.element)), h("div", { class: "two late" }, services.element, records.element), routes.element,
        h("div", { class: "two" }, limits.element, callers.element), tail.element,
        h("div", { class: "two" }, trust.element, h("section", { class: "panel" }, h("div", { class: "head" }, h("h2", null, "Reloads")), reloads)))),
  );

  function draw(names) {
    const has = (...some) => names === null || some.some((name) => names.has(name));
    const now = live.time;
    const all = live.all("services");
    const rows = [...live.all("routes").values()];
    const whole = sum(rows, 0);
    if (has("services", "certificates", "key_sets", "reloads", "routes")) drawVerdict(verdict(all, live, now));
    if (has("routes", "gateway")) drawFigures(rows, whole);
    if (has("services", "routes")) services.show(serviceRows(all, live, whole));
    if (has("routes", "map")) routes.show(routeRows(live));
    if (has("history")) drawCharts(now);
    if (has("records")) records.show(recordRows(live));
    if (has("limits")) limits.show([...live.all("limits")].map(([key, one]) => ({ key, text: key, one })));
    if (has("callers")) callers.show([...live.all("callers")].map(([key, one]) => ({ key, text: one[0] + " " + one[1], one })));
    if (has("certificates", "key_sets")) trust.show(trustRows(live, now));
    if (has("reloads")) drawReloads(reloads, live);
    if (opened && opened.box.isConnected) { if (has("services", "routes")) opened.draw(); } else opened = null;
  }

  function drawVerdict(found) {
    const element = sign.parentElement;
    for (const kind of Object.keys(SIGNS)) element.classList.toggle(kind, kind === found.kind && kind !== "muted");
    put(sign, SIGNS[found.kind]);
    put(sentence, found.text);
    document.title = SIGNS[found.kind] + " " + found.text + " – Propylon";
    const shown = found.troubles.slice(0, 8);
    const more = found.troubles.length - shown.length;
    const texts = shown.map((one) => one.kind + one.text).join("\n") + more;
    if (troubles.dataset.texts === texts) return;
    troubles.dataset.texts = texts;
    troubles.hidden = !shown.length;
    troubles.replaceChildren(...shown.map((one) => h("li", { class: one.kind }, h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[one.kind]),
      one.service ? h("button", { type: "button", class: "text", onclick: () => show(showService(one.service, live, live.time)) }, one.text) : one.text)),
      ...(more > 0 ? [h("li", { class: "warn" }, "and " + count(more) + " more")] : []));
  }

  function drawFigures(rows, whole) {
    const gateway = live.all("gateway").get("all") || { gauges: {} };
    const gauges = gateway.gauges;
    const known = rows.some((row) => row[0] !== null) || !rows.length;
    figures.rate.put(known ? rate(whole) : "–");
    figures.refused.put(whole ? share(sum(rows, 1), whole) : "–");
    figures.failing.put(whole ? share(sum(rows, 2), whole) : "–");
    const hour = gateway.hour || [];
    [figures.p50, figures.p95, figures.p99].forEach((one, i) => one.put(ms(hour[i])));
    figures.open.put(count(gauges.propylon_open_connections));
    figures.workers.put(count(gauges.propylon_workers));
    figures.memory.put(bytes(gauges.propylon_process_resident_memory_bytes));
    if (document.activeElement !== level && gateway.log_level) level.value = gateway.log_level;
  }

  function drawCharts(now) {
    const points = [...live.all("history").values()].sort((a, b) => a[0] - b[0]);
    for (const chart of charts) chart.show(points, now);
  }

  live.run();
}

function setLevel(select, live) {
  const wanted = select.value;
  select.value = live.all("gateway").get("all")?.log_level || wanted;
  confirmed("Set the log level to " + wanted + "?", {
    says: "In all workers, until the next reload puts the configuration's level into force again.", label: "Set it to " + wanted, danger: false,
    act: () => ask("/gateway/log-level", { method: "PUT", body: { level: wanted } }), done: "The log level is " + wanted + ".",
  });
}

function serviceRows(services, live, all) {
  const found = new Map();
  for (const [key, row] of live.all("routes")) {
    const name = key.split("\0")[1];
    const total = found.get(name) || { rate: null, requests: 0, failed: 0 };
    if (row[0] !== null) total.rate = (total.rate || 0) + row[0];
    total.requests += row[3];
    total.failed += row[5];
    found.set(name, total);
  }
  return [...services].map(([key, service]) => {
    const state = judge(key, service);
    return { key, text: key + " " + state.word, state, breaker: breakerOf(service.circuit), all, rate: 0, requests: 0, failed: 0, ...found.get(key) };
  });
}

const NOTHING = [0, 0, 0, 0, 0, 0, null, null, null];

function routeRows(live) {
  const rows = new Map();
  for (const [key, one] of live.all("map")) rows.set(key, { key, route: one[0], service: one[1], text: one[0] + " " + one[1] + " " + one[2], row: NOTHING });
  for (const [key, row] of live.all("routes")) {
    const [route, service] = key.split("\0");
    const known = rows.get(key) || { key, route: route || "(no route matched)", service: service || "–", text: route + " " + service };
    rows.set(key, { ...known, row });
  }
  return [...rows.values()];
}

function recordRows(live) {
  return [...live.all("records")].map(([key, one]) => {
    const caller = one.principal && one.principal !== "anonymous" ? one.principal : one.client_ip || "–";
    return { key, one, caller, text: [one.status, one.code, one.method, one.path, one.route, caller, one.request_id].join(" ") };
  });
}

function trustRows(live, now) {
  const certificates = [...live.all("certificates").values()].map((one) => {
    if (one.error) return { key: one.file, text: one.file, what: one.file, kind: "bad", says: "cannot be read" };
    const left = one.ends - now;
    return { key: one.file, text: one.file, what: one.names.join(", "), kind: left < 0 ? "bad" : left < 14 * 86400 ? "warn" : "good", says: (left < 0 ? "expired on " : "valid until ") + date(one.ends) };
  });
  const sets = [...live.all("key_sets").values()].map((one) => ({
    key: one.source, text: one.source, what: one.source, kind: one.failing ? (one.has_keys ? "warn" : "bad") : one.has_keys ? "good" : "warn",
    says: one.fetched ? "fetched " + span(Math.max(0, now - one.fetched)) + " ago" + (one.failing ? "; it does not answer now" : "") : "not fetched yet",
  }));
  return [...certificates, ...sets];
}

function drawReloads(element, live) {
  const known = [...live.all("reloads").values()].sort((a, b) => b.time - a.time);
  if (!known.length) {
    element.replaceChildren(h("p", { class: "nothing" }, "The configuration has not been reloaded since the start."));
    return;
  }
  element.replaceChildren(...known.slice(0, 12).map((one, i) => h("details", { class: "reload", open: i === 0 },
    h("summary", null, h("span", { class: one.result === "success" ? "good" : "bad" }, one.result === "success" ? SIGNS.good + " " : SIGNS.bad + " failed "), moment(one.time) + (one.size ? ", " + one.size : "")),
    h("ul", { class: "lines" }, one.lines.map((line) => h("li", null, line))))));
}

door();
