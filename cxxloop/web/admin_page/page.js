// SPDX-License-Identifier: MIT
// The admin page: samples arrive once a second as server-sent events; charts and the summary are made of them.

import { Chart, element } from "./chart.js";

const SAMPLES = 300;
const SUMMARY_EVERY_S = 15;
const PLACES_MAX = 3;

const numbers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const decimals = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

const count = (value) => (value < 10 ? decimals.format(value) : numbers.format(value));
const perSecond = (value, isTick) => (isTick ? compact(value) : `${count(value)}/s`);
const compact = (value) => (value >= 10000 ? `${decimals.format(value / 1000)}k` : count(value));

function milliseconds(value) {
  if (value >= 1000) return `${decimals.format(value / 1000)} s`;
  return value < 1 && value > 0 ? `${decimals.format(value * 1000)} µs` : `${decimals.format(value)} ms`;
}

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    ++unit;
  }
  return `${decimals.format(value)} ${units[unit]}`;
}

function duration(seconds) {
  const parts = [["d", 86400], ["h", 3600], ["min", 60]];
  const found = parts.findIndex(([, length]) => seconds >= length);
  if (found < 0) return `${Math.floor(seconds)} s`;
  const [unit, length] = parts[found];
  const text = `${Math.floor(seconds / length)} ${unit}`;
  const next = parts[found + 1];
  return next ? `${text} ${Math.floor((seconds % length) / next[1])} ${next[0]}` : text;
}

const CHARTS = [
  { title: "Requests", minimum: 1, format: perSecond, series: [{ key: "requests", label: "per second" }] },
  { title: "Latency", minimum: 1, isLogarithmic: true, format: milliseconds,
    series: [{ key: "p50", label: "p50" }, { key: "p95", label: "p95" }, { key: "p99", label: "p99" }] },
  { title: "Loop lag", minimum: 1, isLogarithmic: true, format: milliseconds, series: [{ key: "lag", label: "p99" }] },
  { title: "Connections", minimum: 1, format: (value, isTick) => (isTick ? compact(value) : count(value)),
    series: [{ key: "connections", label: "open" }, { key: "in_flight", label: "requests in flight" }, { key: "websockets", label: "WebSockets" }] },
  { title: "Memory", minimum: 1e6, format: bytes, series: [{ key: "memory", label: "resident, all processes" }] },
  { title: "Tasks", minimum: 1, format: (value, isTick) => (isTick ? compact(value) : count(value)), series: [{ key: "tasks", label: "of asyncio" }] },
];

const at = (id) => document.getElementById(id);
let samples = [];
let server = null;
let isPaused = false;
let summaryAt = 0;

const charts = CHARTS.map((options) => new Chart({ ...options, span: SAMPLES }, point));
at("charts").append(...charts.map((chart) => chart.root));

// One moment in all charts.
function point(cursor) {
  for (const chart of charts) chart.point(cursor);
}

function setState(state, text) {
  if (at("state").dataset.state === state) return;
  at("state").dataset.state = state;
  at("state").textContent = text;
}

function draw() {
  const newest = samples.at(-1);
  if (!newest || isPaused) return;
  for (const chart of charts) chart.show(samples.slice());
  at("uptime").textContent = duration(newest.time - server.started);
  at("workers").textContent = numbers.format(newest.workers);
  at("cpu").textContent = `${decimals.format(newest.cpu)} %`;
  at("traffic").textContent = `${bytes(newest.received)} / ${bytes(newest.sent)} per s`;
  if (newest.time - summaryAt >= SUMMARY_EVERY_S) summarize(newest);
}

function summarize(newest) {
  summaryAt = newest.time;
  const spoken = (value) => (value === null ? "nothing measured" : milliseconds(value));
  const parts = [
    `${count(newest.requests)} requests per second`,
    newest.p99 === null ? "no request has ended in the last second" : `99 of 100 answered within ${milliseconds(newest.p99)}`,
    `loop lag ${spoken(newest.lag)}`,
    `${count(newest.connections)} connections`,
    `${count(newest.tasks)} tasks`,
    bytes(newest.memory),
  ];
  if (newest.errors > 0) parts.splice(1, 0, `${count(newest.errors)} of them failed with 5xx`);
  at("summary").textContent = `${parts.join(", ")}.`;
}

function begin(event) {
  const start = JSON.parse(event.data);
  server = start.server;
  samples = start.history;
  summaryAt = 0;
  at("app").textContent = server.app;
  at("python").textContent = server.python;
  at("version").textContent = `cxxloop ${server.version}, process ${server.pid}`;
  document.title = `${server.app} – cxxloop admin`;
  if (!isPaused) setState("live", "Live");
  draw();
}

function take(event) {
  samples.push(JSON.parse(event.data));
  if (samples.length > SAMPLES) samples.shift();
  draw();
}

const events = new EventSource("events");
events.addEventListener("start", begin);
events.addEventListener("sample", take);
events.addEventListener("error", () => setState("lost", "Connection lost, trying again"));

at("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  at("pause").setAttribute("aria-pressed", String(isPaused));
  if (events.readyState === EventSource.OPEN) setState(isPaused ? "paused" : "live", isPaused ? "Paused" : "Live");
  draw();
});

// "function (/a/long/folder/file.py:3)": only the last folder.
const shortened = (place) => place.replace(/\((?:.*\/)?([^/]+\/[^/]+)\)$/, "($1)");

function taskRow(group, pid) {
  const places = group.stack.slice(-PLACES_MAX).map((place) => element("div", { class: "place", title: place }, shortened(place)));
  return element("tr", {},
    element("td", { class: "number count" }, numbers.format(group.count)),
    element("td", {}, group.coroutine),
    element("td", {}, ...places),
    element("td", { class: "number" }, String(pid)));
}

async function refresh() {
  try {
    const { workers } = await (await fetch("tasks")).json();
    const rows = workers.flatMap((worker) => (worker.groups ?? []).map((group) => [group, worker.pid]));
    rows.sort(([one], [other]) => other.count - one.count);
    at("tasks").replaceChildren(...rows.map(([group, pid]) => taskRow(group, pid)));
    const total = workers.reduce((sum, worker) => sum + (worker.tasks ?? 0), 0);
    const silent = workers.filter((worker) => worker.error).map((worker) => ` Process ${worker.pid}: ${worker.error}.`);
    at("tasks-note").textContent = `${numbers.format(total)} tasks at ${new Date().toLocaleTimeString("en-GB")}.${silent.join("")}`;
  } catch (error) {
    at("tasks-note").textContent = `The tasks cannot be shown: ${error.message}`;
  }
}

at("refresh").addEventListener("click", refresh);
refresh();
