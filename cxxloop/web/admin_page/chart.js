// SPDX-License-Identifier: MIT
// A line chart of samples: drawn as SVG, read by the mouse, by arrow keys, and as a table.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 150;
const LEFT = 58;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 20;
const ROWS_EVERY_S = 10;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// The end of an axis: 1, 2, 2.5 or 5 times a power of ten.
export function niceMaximum(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((step) => step * power >= value * 0.999) * power;
}

// An axis from zero to above the largest value.
function linearScale(values, minimum) {
  const top = niceMaximum(Math.max(minimum, ...values) * 1.05);
  return { ticks: [0, top / 2, top], part: (value) => value / top };
}

// An axis over whole powers of ten, around all values: a slow request must not press the fast ones flat.
function logarithmicScale(values, minimum) {
  const found = values.filter((value) => value > 0);
  const end = Math.ceil(Math.log10(Math.max(minimum, ...found)) - 1e-9);
  const begin = Math.min(Math.floor(Math.log10(Math.min(minimum, ...found)) + 1e-9), end - 2);
  const step = end - begin > 4 ? 2 : 1;
  const ticks = [];
  for (let power = end; power >= begin; power -= step) ticks.push(10 ** power);
  return { ticks, part: (value) => (value > 0 ? Math.max((Math.log10(value) - begin) / (end - begin), 0) : 0) };
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
export const timeText = (sample) => clock.format(new Date(sample.time * 1000));

export class Chart {
  // options: title, series [{key, label}], format(value), minimum (the axis reaches it at least), isLogarithmic, span (samples
  // from left to right).
  // onCursor(index from the end, or null): the reader looks at another moment.
  constructor(options, onCursor) {
    this.options = options;
    this.onCursor = onCursor;
    this.samples = [];
    this.cursor = null;
    this.build();
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  build() {
    const { title, series } = this.options;
    const id = `chart-${series[0].key}`;
    this.at = element("p", { class: "at" }, "now");
    this.values = series.map(() => element("dd", {}, "–"));
    const list = element("dl", { class: "values" });
    series.forEach((line, i) => {
      const swatch = shape("svg", { class: "swatch", width: 18, height: 6, "aria-hidden": "true" });
      swatch.append(shape("line", { class: `series series-${i + 1}`, x1: 1, x2: 17, y1: 3, y2: 3 }));
      const name = element("dt", {}, ...(series.length > 1 ? [swatch] : []), line.label);
      list.append(element("div", { class: "value" }, name, this.values[i]));
    });
    this.svg = shape("svg", { "aria-hidden": "true", height: HEIGHT });
    // A slider over time is what arrow keys and screen readers know how to read.
    this.plot = element("div", {
      class: "plot", tabindex: "0", role: "slider", "aria-label": `${title}, moments`, "aria-orientation": "horizontal",
      "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-valuetext": "no sample yet",
    }, this.svg);
    this.table = element("tbody");
    const header = element("tr", {}, element("th", { scope: "col" }, "Time"));
    for (const line of series) header.append(element("th", { scope: "col", class: "number" }, line.label));
    const caption = element("caption", {}, `${title}: every tenth second of the last five minutes, the newest first`);
    const scroll = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, table` },
      element("table", {}, caption, element("thead", {}, header), this.table));
    this.details = element("details", {}, element("summary", {}, "Table"), scroll);
    this.details.addEventListener("toggle", () => this.fillTable());
    this.root = element("figure", { class: "card", role: "group", "aria-labelledby": id },
      element("figcaption", { class: "card-head" }, element("h3", { id }, title), this.at), list, this.plot, this.details);
    this.plot.addEventListener("pointermove", (event) => this.onCursor(this.indexAt(event)));
    this.plot.addEventListener("pointerleave", () => this.onCursor(null));
    this.plot.addEventListener("blur", () => this.onCursor(null));
    this.plot.addEventListener("keydown", (event) => this.onKey(event));
  }

  get width() {
    return Math.max(this.plot.clientWidth, 120);
  }

  x(back) {
    return this.width - RIGHT - (back * (this.width - LEFT - RIGHT)) / (this.options.span - 1);
  }

  indexAt(event) {
    const left = this.plot.getBoundingClientRect().left;
    const step = (this.width - LEFT - RIGHT) / (this.options.span - 1);
    const back = Math.round((this.width - RIGHT - (event.clientX - left)) / step);
    return Math.min(Math.max(back, 0), Math.max(this.samples.length - 1, 0));
  }

  onKey(event) {
    const steps = { ArrowLeft: 1, ArrowDown: 1, ArrowRight: -1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: Infinity, End: -Infinity };
    if (event.key === "Escape") return this.onCursor(null);
    if (!(event.key in steps) || this.samples.length === 0) return;
    event.preventDefault();
    this.onCursor(Math.min(Math.max((this.cursor ?? 0) + steps[event.key], 0), this.samples.length - 1));
  }

  show(samples) {
    this.samples = samples;
    this.draw();
    const newest = samples.at(-1);
    if (this.details.open && newest && Math.round(newest.time) % ROWS_EVERY_S === 0) this.fillTable();
  }

  point(cursor) {
    this.cursor = cursor;
    this.draw();
  }

  draw() {
    const { series, format, minimum, isLogarithmic } = this.options;
    const values = this.samples.flatMap((sample) => series.map((line) => sample[line.key] ?? 0));
    const scale = (isLogarithmic ? logarithmicScale : linearScale)(values, minimum);
    const y = (value) => HEIGHT - BOTTOM - scale.part(value) * (HEIGHT - TOP - BOTTOM);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.svg.replaceChildren(...this.axes(scale.ticks, y));
    const last = this.samples.length - 1;
    series.forEach((line, i) => {
      const runs = this.runs(line.key, y);
      if (series.length === 1) {
        for (const run of runs) {
          const area = `M${run[0][0]},${y(0)}L${run.map((p) => p.join(",")).join("L")}L${run.at(-1)[0]},${y(0)}Z`;
          this.svg.append(shape("path", { class: "area", d: area }));
        }
      }
      // A moment alone is a dot of a line without length.
      const d = runs.map((run) => `M${run.map((p) => p.join(",")).join("L")}${run.length === 1 ? "h0" : ""}`).join("");
      this.svg.append(shape("path", { class: `series series-${i + 1}`, d }));
    });
    if (this.cursor !== null && this.cursor <= last) this.drawCursor(last - this.cursor, y);
    this.say(last, format);
  }

  // Parts of a line without a gap, as points.
  runs(key, y) {
    const runs = [];
    let run = null;
    const last = this.samples.length - 1;
    this.samples.forEach((sample, i) => {
      const value = sample[key];
      if (value === null || value === undefined) {
        run = null;
        return;
      }
      if (run === null) runs.push((run = []));
      run.push([this.x(last - i).toFixed(1), y(value).toFixed(1)]);
    });
    return runs;
  }

  axes(ticks, y) {
    const parts = [];
    for (const tick of ticks) {
      const at = Math.round(y(tick)) + 0.5;
      parts.push(shape("line", { class: "grid", x1: LEFT, x2: this.width - RIGHT, y1: at, y2: at }));
      const label = shape("text", { class: "tick", x: LEFT - 8, y: at + 4, "text-anchor": "end" });
      label.textContent = this.options.format(tick, true);
      parts.push(label);
    }
    for (let minutes = 0; minutes <= (this.options.span - 1) / 60; ++minutes) {
      const label = shape("text", { class: "tick", x: this.x(minutes * 60), y: HEIGHT - 4, "text-anchor": minutes ? "middle" : "end" });
      label.textContent = minutes ? `−${minutes} min` : "now";
      parts.push(label);
    }
    return parts;
  }

  drawCursor(index, y) {
    const sample = this.samples[index];
    const x = this.x(this.samples.length - 1 - index);
    this.svg.append(shape("line", { class: "cross", x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }));
    this.options.series.forEach((line, i) => {
      if (sample[line.key] === null || sample[line.key] === undefined) return;
      this.svg.append(shape("circle", { class: `dot dot-${i + 1}`, cx: x, cy: y(sample[line.key]), r: 4 }));
    });
  }

  // The values of the moment that is looked at, for eyes and for screen readers.
  say(last, format) {
    if (last < 0) return;
    const index = Math.max(last - (this.cursor ?? 0), 0);
    const sample = this.samples[index];
    const texts = this.options.series.map((line) => (sample[line.key] === null ? "–" : format(sample[line.key])));
    texts.forEach((text, i) => { this.values[i].textContent = text; });
    this.at.textContent = this.cursor === null ? "now" : timeText(sample);
    const spoken = this.options.series.map((line, i) => `${line.label} ${texts[i] === "–" ? "none" : texts[i]}`).join(", ");
    this.plot.setAttribute("aria-valuemax", last);
    // While nobody reads, what a screen reader could announce stays as it is.
    if (this.cursor === null && document.activeElement === this.plot) return;
    this.plot.setAttribute("aria-valuenow", index);
    this.plot.setAttribute("aria-valuetext", `${timeText(sample)}: ${spoken}`);
  }

  fillTable() {
    if (!this.details.open) return;
    const rows = this.samples.filter((sample, i) => i === this.samples.length - 1 || Math.round(sample.time) % ROWS_EVERY_S === 0);
    this.table.replaceChildren(...rows.reverse().map((sample) => {
      const row = element("tr", {}, element("th", { scope: "row" }, timeText(sample)));
      for (const line of this.options.series) {
        const value = sample[line.key];
        row.append(element("td", { class: "number" }, value === null ? "none" : this.options.format(value)));
      }
      return row;
    }));
  }
}
