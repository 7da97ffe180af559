// Charts of the last hour, with uPlot: requests and failures, and three percentiles of the duration.
const at = new URL(import.meta.url).search;
const { h, clock, rate, ms } = await import("./dashboard-dom.js" + at);

const BUCKET = 10;
const HOUR = 3600;

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

const KINDS = {
  requests: {
    title: "Requests a second, last hour",
    names: ["requests", "4xx", "5xx"],
    of: (point) => [point[1] / BUCKET, point[2] / BUCKET, point[3] / BUCKET],
    gap: 0, write: rate,
  },
  durations: {
    title: "Duration, last hour",
    names: ["p50", "p95", "p99"],
    of: (point) => [point[4], point[5], point[6]].map((s) => (s === null ? null : s * 1000)),
    gap: null, write: ms,
  },
};

export class Chart {
  constructor(kind) {
    this.kind = KINDS[kind];
    this.plotted = h("div", { class: "chart", role: "img", "aria-label": this.kind.title });
    this.element = h("section", { class: "panel" },
      h("div", { class: "head" }, h("h2", null, this.kind.title),
        h("ul", { class: "legend" }, this.kind.names.map((name, i) => h("li", { class: "abc"[i] }, h("i"), name)))),
      h("div", { class: "body" }, this.plotted));
    this.points = [];
    this.plot = null;
    new ResizeObserver(() => this.resize()).observe(this.plotted);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.make(); });
  }

  show(points, now) {
    this.points = points;
    this.now = now;
    const data = this.data();
    if (!this.plot) this.make();
    else this.plot.setData(data);
    const latest = data.slice(1).map((series) => series.findLast((value) => value !== null) ?? null);
    this.plotted.setAttribute("aria-label", this.kind.title + ": now " + this.kind.names.map((name, i) => name + " " + this.kind.write(latest[i])).join(", "));
  }

  data() {
    const end = Math.floor(this.now / BUCKET) * BUCKET;
    const known = new Map(this.points.map((point) => [point[0], point]));
    const first = this.points.length ? this.points[0][0] : end;
    const columns = [[], [], [], []];
    for (let time = end - HOUR; time < end; time += BUCKET) {
      const point = known.get(time);
      columns[0].push(time);
      // Without requests the rate is zero, the duration nothing; before the first bucket nothing is known.
      const values = point ? this.kind.of(point) : [this.kind.gap, this.kind.gap, this.kind.gap];
      values.forEach((value, i) => columns[i + 1].push(time < first ? null : value));
    }
    return columns;
  }

  make() {
    if (this.plot) this.plot.destroy();
    this.plot = null;
    const width = this.plotted.clientWidth;
    if (!width || !this.now) return;
    const line = (name, dash) => ({ stroke: colour(name), width: 1.5, dash, points: { show: false }, spanGaps: this.kind.gap === null });
    const axis = { stroke: colour("--muted"), font: "11px system-ui", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    this.plot = new uPlot({
      width, height: 190, legend: { show: false }, cursor: { show: false }, padding: [8, 4, 0, 0],
      scales: { x: { time: true }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, size: 26, values: (_, splits) => splits.map(clock) },
        { ...axis, size: 74, values: (_, splits) => splits.map((value) => this.kind.write(value)) },
      ],
      series: [{}, line("--accent"), line("--second", [6, 3]), line("--third", [2, 2])],
    }, this.data(), this.plotted);
  }

  resize() {
    const width = this.plotted.clientWidth;
    if (this.plot && width) this.plot.setSize({ width, height: 190 });
    else if (!this.plot) this.make();
  }
}
