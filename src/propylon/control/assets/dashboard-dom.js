// Make elements and write figures. Text goes into the page as text only: names of services, paths and callers may hold anything.

const LOCALE = navigator.language || "en";
const whole = new Intl.NumberFormat(LOCALE, { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat(LOCALE, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const clockOf = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const secondsOf = new Intl.DateTimeFormat(LOCALE, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dateOf = new Intl.DateTimeFormat(LOCALE, { year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// Control characters, and those that turn the direction of writing round: shown by their numbers.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;

export function shown(text) {
  return String(text ?? "").replace(UNSEEN, (c) => {
    const code = c.codePointAt(0);
    return code < 256 ? "\\x" + code.toString(16).padStart(2, "0") : "\\u" + code.toString(16).padStart(4, "0");
  });
}

// h("p", { class: "muted", onclick: f }, "text", child): strings become text nodes, never markup.
export function h(name, props, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else element.setAttribute(key, key === "title" || key === "aria-label" ? shown(value) : value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : shown(child));
  }
  return element;
}

// Set a text where it has changed: an unchanged node is not drawn again.
export function put(node, text) {
  const found = shown(text);
  if (node.textContent !== found) node.textContent = found;
}

export function count(number) {
  return number === null || number === undefined ? "–" : whole.format(number);
}
export function rate(number) {
  if (number === null || number === undefined) return "–";
  return number !== 0 && number < 100 ? oneDigit.format(number) : whole.format(number);
}
export function share(part, all) {
  if (!all || part === null || part === undefined) return "–";
  const percent = (100 * part) / all;
  return (percent > 0 && percent < 0.1 ? "< " + oneDigit.format(0.1) : oneDigit.format(percent)) + " %";
}
export function ms(number) {
  if (number === null || number === undefined) return "–";
  return (number < 100 ? oneDigit.format(number) : whole.format(number)) + " ms";
}
export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (number >= 1024 && at < units.length - 1) { number /= 1024; at += 1; }
  return (at ? oneDigit.format(number) : whole.format(number)) + " " + units[at];
}
export function clock(seconds) { return clockOf.format(seconds * 1000); }
export function clockWithSeconds(time) { return secondsOf.format(typeof time === "number" ? time * 1000 : Date.parse(time)); }
export function date(seconds) { return dateOf.format(seconds * 1000); }
export function span(seconds) {
  const steps = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, unit] = steps.find(([length]) => seconds >= length) || [1, "s"];
  return count(Math.floor(seconds / size)) + " " + unit;
}
// Since when, as short as it can be said: the time of today, else the date, too.
export function moment(seconds) {
  return Date.now() / 1000 - seconds < 43200 ? clock(seconds) : date(seconds);
}
