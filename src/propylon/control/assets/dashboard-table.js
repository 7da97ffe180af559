// A table with pages: however many rows there are, the page has a screenful of nodes, and an update writes into them.
const at = new URL(import.meta.url).search;
const { h, put, shown, count } = await import("./dashboard-dom.js" + at);

let names = 0;

export class Table {
  // columns: { name, title, width, num, wide, first(row) → text, glance(row) → {text, kind}, order(row) }
  constructor({ title, columns, rows = 12, sort, down = false, open, empty, filters = true, reserve = false, more = [] }) {
    this.columns = columns;
    this.most = rows;
    this.sort = sort;
    this.down = down;
    this.open = open;
    this.reserve = reserve;
    this.page = 0;
    this.rows = [];
    this.order = [];
    this.needle = "";
    this.held = false;
    this.id = "t" + ++names;
    this.counted = h("span", { class: "muted" });
    this.back = h("button", { type: "button", "aria-label": title + ": previous page", onclick: () => this.turn(-1) }, "‹");
    this.on = h("button", { type: "button", "aria-label": title + ": next page", onclick: () => this.turn(1) }, "›");
    this.pages = h("span", { class: "muted", "aria-live": "polite" });
    const search = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter " + title.toLowerCase(), oninput: (e) => { this.needle = e.target.value.toLowerCase(); this.page = 0; this.arrange(true); } });
    this.body = h("tbody");
    this.heads = columns.map((column) => this.heading(column));
    this.table = h("table", { "aria-labelledby": this.id },
      h("colgroup", null, columns.map((c) => this.widthOf(c))),
      h("thead", null, h("tr", null, this.heads)), this.body);
    this.nothing = h("p", { class: "nothing", hidden: true }, empty);
    this.region = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": this.id }, this.table);
    // While somebody points at a row or has the keyboard in one, the rows keep their places.
    this.region.addEventListener("pointerenter", () => { this.held = true; });
    this.region.addEventListener("pointerleave", () => { this.held = this.body.contains(document.activeElement); });
    this.body.addEventListener("focusin", () => { this.held = true; });
    this.body.addEventListener("focusout", () => { this.held = this.region.matches(":hover"); });
    this.pager = h("span", null, this.back, " ", this.pages, " ", this.on);
    this.element = h("section", { class: "panel" },
      h("div", { class: "head" }, h("h2", { id: this.id }, title), this.counted, h("span", { class: "end" }, more, filters && search, this.pager)),
      this.region, this.nothing);
    this.lines = [];
  }

  widthOf(column) {
    const element = h("col", { class: column.wide ? "wide" : null });
    if (column.width) element.style.width = column.width;
    return element;
  }

  heading(column) {
    const button = h("button", { type: "button", title: column.title, onclick: () => this.by(column) }, column.name);
    return h("th", { scope: "col", class: [column.num && "num", column.wide && "wide"].filter(Boolean).join(" ") || null }, column.order ? button : column.name);
  }

  by(column) {
    this.down = this.sort === column ? !this.down : Boolean(column.num);
    this.sort = column;
    this.page = 0;
    this.arrange(true);
  }

  turn(step) { this.page += step; this.arrange(false); }

  show(rows) { this.rows = rows; this.arrange(!this.held); }

  arrange(again) {
    const byKey = new Map(this.rows.map((row) => [row.key, row]));
    if (again || !this.order.length) {
      const fits = this.needle ? this.rows.filter((row) => row.text.toLowerCase().includes(this.needle)) : this.rows;
      this.order = this.sorted(fits).map((row) => row.key);
    }
    const found = this.order.map((key) => byKey.get(key)).filter(Boolean);
    const last = Math.max(0, Math.ceil(found.length / this.most) - 1);
    this.page = Math.min(Math.max(0, this.page), last);
    this.draw(found.slice(this.page * this.most, (this.page + 1) * this.most), found.length);
    put(this.counted, this.needle ? count(found.length) + " of " + count(this.rows.length) : count(this.rows.length));
    put(this.pages, count(this.page + 1) + " / " + count(last + 1));
    this.pager.hidden = last === 0;
    this.back.disabled = this.page === 0;
    this.on.disabled = this.page === last;
    this.heads.forEach((head, i) => {
      const sorted = this.columns[i] === this.sort ? (this.down ? "descending" : "ascending") : "none";
      if (this.columns[i].order) head.setAttribute("aria-sort", sorted);
    });
  }

  sorted(rows) {
    const by = this.sort && this.sort.order;
    if (!by) return rows;
    const sign = this.down ? -1 : 1;
    return [...rows].sort((a, b) => {
      const one = by(a) ?? -1, other = by(b) ?? -1;
      return (one < other ? -sign : one > other ? sign : 0) || (a.key < b.key ? -1 : 1);
    });
  }

  draw(rows, all) {
    this.nothing.hidden = this.rows.length > 0;
    this.region.hidden = this.rows.length === 0;
    // A page that is not full keeps its height where there are more pages, or where rows will come.
    const height = all > this.most || this.reserve ? this.most : Math.max(rows.length, this.lines.length && this.needle ? this.lines.length : 0);
    while (this.lines.length < height) this.lines.push(this.line());
    while (this.lines.length > height) this.lines.pop().element.remove();
    this.lines.forEach((line, i) => this.fill(line, rows[i]));
  }

  line() {
    const line = { row: null, cells: [] };
    line.element = h("tr", { class: "row" }, this.columns.map((column, i) => {
      const css = [column.num && "num", column.wide && "wide", column.mono && "mono"].filter(Boolean).join(" ") || null;
      const inner = i === 0 && this.open
        ? h("button", { type: "button", class: "text", onclick: () => line.row && this.open(line.row) }) : null;
      const cell = h(i === 0 ? "th" : "td", { class: css, scope: i === 0 ? "row" : null }, inner);
      line.cells.push(inner || cell);
      return cell;
    }));
    this.body.append(line.element);
    return line;
  }

  fill(line, row) {
    line.row = row || null;
    line.element.classList.toggle("blank", !row);
    line.element.toggleAttribute("aria-hidden", !row);
    if (!row) line.element.setAttribute("aria-hidden", "true");
    this.columns.forEach((column, i) => {
      const cell = line.cells[i];
      const found = row ? column.glance(row) : " ";
      const text = typeof found === "object" ? found.text : found;
      put(cell, text);
      cell.title = row ? shown(text) : "";
      if (typeof found === "object" || cell.dataset.kind) {
        for (const kind of ["bad", "warn", "good", "muted"]) cell.classList.toggle(kind, found.kind === kind);
        cell.dataset.kind = found.kind || "";
      }
    });
  }
}
