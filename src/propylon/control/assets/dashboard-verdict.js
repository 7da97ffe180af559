// Judge what is there: how each service is, one sentence for the whole, and what is wrong, the worst first.
const at = new URL(import.meta.url).search;
const { count, moment, share, span } = await import("./dashboard-dom.js" + at);

export const SIGNS = { good: "✓", warn: "▲", bad: "✕", muted: "○" };
const SOON = 14 * 86400;
const FRESH = 86400; // a reload that failed longer ago is history

export function isUp(instance) {
  return !instance.drained && instance.ejected_until === null && (instance.status === "healthy" || instance.status === "starting");
}

export function conditionOf(instance, now) {
  if (instance.drained) return { word: "drained", kind: "warn", sign: "‖" };
  if (instance.ejected_until !== null && instance.ejected_until > now) return { word: "ejected", kind: "bad", sign: SIGNS.bad };
  if (instance.status === "healthy") return { word: "healthy", kind: "good", sign: SIGNS.good };
  if (instance.status === "starting") return { word: "not probed", kind: "muted", sign: SIGNS.muted };
  return { word: instance.status, kind: "bad", sign: SIGNS.bad };
}

export function breakerOf(circuit) {
  if (!circuit) return { word: "none", kind: "muted", sign: SIGNS.muted };
  if (circuit.state === "OPEN") return { word: circuit.held ? "open by hand" : "open", kind: "bad", sign: SIGNS.bad };
  if (circuit.state === "HALF_OPEN") return { word: "half open", kind: "warn", sign: SIGNS.warn };
  return { word: "closed", kind: "good", sign: SIGNS.good };
}

// How a service is: `kind`, a word, and a sentence where something is wrong.
export function judge(name, service) {
  const instances = Object.values(service.instances);
  const up = instances.filter(isUp);
  const circuit = service.circuit;
  const found = { all: instances.length, up: up.length };
  if (circuit && circuit.state === "OPEN") {
    const since = circuit.opened_at ? " since " + moment(Date.parse(circuit.opened_at) / 1000) : "";
    return { ...found, kind: "bad", word: "breaker open", says: name + ": the breaker is open" + since + (circuit.reason ? " (" + circuit.reason + ")" : "") };
  }
  if (!instances.length) return { ...found, kind: "warn", word: "no instance", says: name + ": no instance is there" };
  if (up.length < instances.length) {
    const out = instances.filter((one) => !isUp(one));
    const drained = out.filter((one) => one.drained).length;
    const since = Math.max(...out.map((one) => one.since || 0));
    const what = drained === out.length ? "drained" : "down";
    const says = name + ": " + (instances.length === 1 ? "its only instance is " + what : count(out.length) + " of " + count(instances.length) + " instances " + what) + (since && what === "down" ? " since " + moment(since) : "");
    return { ...found, kind: up.length ? "warn" : "bad", word: up.length ? "degraded" : what, says };
  }
  if (circuit && circuit.state === "HALF_OPEN") return { ...found, kind: "warn", word: "recovering", says: name + ": the breaker lets probes pass" };
  return { ...found, kind: "good", word: "up", says: "" };
}

export function verdict(services, live, now) {
  const troubles = [];
  for (const [name, service] of services) {
    const found = judge(name, service);
    if (found.says) troubles.push({ kind: found.kind, text: found.says, service: name });
  }
  const ill = troubles.length;
  const told = new Set(troubles.filter((one) => one.kind === "bad").map((one) => one.service));
  troubles.push(...others(live, now).filter((one) => !one.route || !told.has(one.route.split("\0")[1])));
  troubles.sort((a, b) => (a.kind === "bad" ? 0 : 1) - (b.kind === "bad" ? 0 : 1));
  const all = services.size;
  let text, kind = "good";
  if (!all) { text = "No service is configured yet"; kind = "muted"; }
  else if (!ill) text = all === 1 ? "The one service answers" : "All " + count(all) + " services answer";
  else {
    const service = troubles.find((one) => one.service);
    kind = troubles.some((one) => one.service && one.kind === "bad") ? "bad" : "warn";
    text = ill === 1 ? service.text : count(ill) + " of " + count(all) + " services have trouble";
  }
  return { text, kind, troubles: ill === 1 ? troubles.filter((one) => !one.service) : troubles };
}

function others(live, now) {
  const found = [];
  for (const one of live.all("certificates").values()) {
    if (one.error) found.push({ kind: "bad", text: "certificate " + one.file + " cannot be read" });
    else if (one.ends < now) found.push({ kind: "bad", text: "certificate of " + one.names[0] + " has expired" });
    else if (one.ends - now < SOON) found.push({ kind: "warn", text: "certificate of " + one.names[0] + " expires in " + span(one.ends - now) });
  }
  for (const one of live.all("key_sets").values()) {
    if (one.failing) found.push({ kind: one.has_keys ? "warn" : "bad", text: "key set " + one.source + " cannot be fetched" + (one.has_keys ? "; the known keys stay" : "") });
  }
  const last = [...live.all("reloads").values()].sort((a, b) => a.time - b.time).at(-1);
  if (last && last.result === "failure" && now - last.time < FRESH) found.push({ kind: "bad", text: "the reload at " + moment(last.time) + " failed: " + last.lines[0] });
  for (const [key, row] of live.all("routes")) {
    if (row[0] >= 0.5 && row[2] / row[0] > 0.05) found.push({ kind: "bad", text: "route " + key.split("\0")[0] + ": " + share(row[2], row[0]) + " of requests fail now (5xx)", route: key });
  }
  return found;
}
