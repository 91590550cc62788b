"use strict";
// Keeps the figures of the page up to date: asks /api/status once a second, puts it in words with the same functions as
// the server (format.rs, chart.rs, view.rs) and the words in the place of those before. What comes from the server is
// only ever text.

const FORMAT = 1;
const PERIOD_MS = 1000;
const DEADLINE_MS = 3000;
// One answer may be lost on the way.
const FAILURES_TOLERATED = 1;

// Numbers, as format.rs writes them.

const tenths = (number) => Math.floor(number * 10 + 0.5) / 10;

const percent = (part, whole) => (whole === 0 ? "–" : `${tenths((part * 100) / whole).toFixed(1)} %`);

const count = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");

const counted = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;

const decimalBelowTen = (number) =>
  tenths(number) < 10 ? String(tenths(number)) : count(Math.floor(number + 0.5));

const rate = (number, seconds) => decimalBelowTen(number / Math.max(seconds, 1));

function bytes(number) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (number >= 1023.5 && unit + 1 < units.length) {
    number /= 1024;
    unit += 1;
  }
  return `${decimalBelowTen(number)} ${units[unit]}`;
}

const megabytes = (number) => `${Math.ceil(number / 1048576)} MB`;

function duration(seconds) {
  const whole = (unit) => Math.floor(seconds / unit);
  const two = (first, rest) => (rest[0] === 0 ? first : `${first} ${rest.join(" ")}`);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${whole(60)} min`;
  if (seconds < 86400) return two(`${whole(3600)} h`, [whole(60) % 60, "min"]);
  return two(`${count(whole(86400))} d`, [whole(3600) % 24, "h"]);
}

const timeOfDay = (unixSeconds) => new Date(unixSeconds * 1000).toISOString().slice(11, 19);

// The chart, as chart.rs draws it.

const POINTS_MAX = 360;
const SPAN_MIN = 60;
const DASH = 4;
const AREA_HEIGHT = 50;
const TICK_MINUTES = [10, 30, 60, 120, 240];

const x = (minute, span, end) => tenths(((minute - (end - span)) * 1000) / span);

const ratio = (bin) => (bin.hits * 100) / bin.gets;

const perMinute = (bin) => bin.overGets / bin.over;

function bins({ hits, misses }, span, end) {
  const size = Math.ceil(span / POINTS_MAX);
  const bins = [];
  hits.forEach((found, at) => {
    const minute = end - hits.length + at;
    const number = Math.floor(minute / size);
    if (bins.at(-1)?.number !== number) {
      const middle = (Math.max(minute, number * size) + Math.min(end, (number + 1) * size)) / 2;
      bins.push({ number, x: x(middle, span, end), hits: 0, gets: 0, overGets: 0, over: 0 });
    }
    const bin = bins.at(-1);
    bin.hits += found;
    bin.gets += found + misses[at];
    if (at + 1 < hits.length) {
      bin.overGets += found + misses[at];
      bin.over += 1;
    }
  });
  return bins;
}

function line(bins, bottom) {
  let path = "";
  let isDrawing = false;
  for (const bin of bins) {
    if (bin.gets > 0) {
      const y = tenths(100 - ((ratio(bin) - bottom) * 100) / (100 - bottom));
      path += isDrawing ? `L${bin.x} ${y}` : `M${tenths(bin.x - DASH / 2)} ${y}h${DASH}`;
    }
    isDrawing = bin.gets > 0;
  }
  return path;
}

function area(bins, peak) {
  const over = bins.filter((bin) => bin.over > 0);
  if (over.length === 0) return "";
  const y = (bin) => tenths(100 - (perMinute(bin) / Math.max(peak, 1)) * AREA_HEIGHT);
  const along = over.map((bin) => `L${bin.x} ${y(bin)}`).join("");
  return `M${over[0].x} 100${along}L${over.at(-1).x} 100Z`;
}

function ticks(span, end) {
  const step = TICK_MINUTES.find((step) => Math.floor(span / step) <= 6) ?? TICK_MINUTES.at(-1);
  const ticks = [];
  for (let minute = (Math.floor((end - span) / step) + 1) * step; minute < end; minute += step) {
    const at = x(minute, span, end) / 10;
    if (at >= 5 && at <= 95) ticks.push({ x: `${tenths(at)}%`, text: timeOfDay(minute * 60).slice(0, 5) });
  }
  return ticks;
}

function chartTitle(span) {
  if (span === 60) return "last hour";
  return span < 120 ? `last ${counted(span, "minute")}` : `last ${counted(Math.floor(span / 60), "hour")}`;
}

function chart(minutes, unixSeconds) {
  const span = Math.max(minutes.hits.length, SPAN_MIN);
  const end = Math.floor(unixSeconds / 60) + 1;
  const all = bins(minutes, span, end);
  const asked = all.filter((bin) => bin.gets > 0);
  const least = Math.min(100, ...asked.map(ratio));
  const bottom = [90, 50, 0].find((bottom) => bottom <= least);
  const peak = Math.max(0, ...all.filter((bin) => bin.over > 0).map(perMinute));
  return {
    is_empty: asked.length === 0,
    title: chartTitle(span),
    area_title: peak < 1 ? "look-ups" : `look-ups, at most ${rate(Math.floor(peak), 60)} a second`,
    line: line(all, bottom),
    area: area(all, peak),
    top: "100 %",
    middle: `${(100 + bottom) / 2} %`,
    bottom: `${bottom} %`,
    ticks: ticks(span, end),
  };
}

// The words, as view.rs has them.

const ADVICE = {
  never_seen: "New tokens, or gone for longer than is remembered.",
  expired: "Raise token_cache_time to keep tokens longer.",
  evicted: "Raise -m to keep more of them.",
  flushed: "Somebody flushes: find out who sends flush_all.",
};

const width = (part, whole) => `${tenths(Math.min((part * 100) / Math.max(whole, 1), 100))}%`;

function hitRate(window, isNew) {
  const gets = window.hits + window.misses;
  return { rate: percent(window.hits, gets), of: hitRateOf(window, gets, isNew) };
}

function hitRateOf({ seconds, watched_seconds: watched }, gets, isNew) {
  if (isNew) return "no requests yet";
  if (gets === 0) return "no look-ups";
  const of = counted(gets, "look-up");
  return watched * 20 < seconds * 19 ? `${of} in ${duration(watched)}` : of;
}

function memory(memory) {
  const { need, limit_bytes, packed_from_bytes: from, packed_into_bytes: into } = memory;
  const step = (limit, hits) => ({ limit, rate: percent(hits, need.gets) });
  const others = () => need.steps.map((other) => step(megabytes(other.limit_bytes), other.hits));
  const steps = need ? [step(`${megabytes(limit_bytes)} now`, need.hits), ...others()] : [];
  return {
    used: `${bytes(memory.used_bytes)} of ${bytes(limit_bytes)}`,
    width: width(memory.used_bytes, limit_bytes),
    tables: bytes(memory.table_bytes),
    items: `${count(memory.items)} in ${bytes(memory.item_bytes)}`,
    packed: into === 0 ? "–" : `${tenths(from / into)} to 1`,
    evicted: count(memory.evictions),
    verdict: need ? need.verdict : "Too little has been asked so far to say what memory is needed.",
    is_short: steps.some((step) => step.rate !== steps[0].rate),
    steps,
  };
}

function service(service) {
  const gets = service.hits + service.misses;
  return {
    name: service.service,
    rate: percent(service.hits, gets),
    gets: count(gets),
    sets: count(service.sets),
    validations: count(service.validations_avoided),
    cpu: duration(Math.floor(service.saved_ms / 1000)),
    again: count(service.revalidations),
    connections: count(service.connections),
  };
}

function misses(misses) {
  const all = misses.reduce((sum, missed) => sum + missed.count, 0);
  return misses.map((missed) => ({
    cause: missed.cause.replaceAll("_", " "),
    count: count(missed.count),
    share: percent(missed.count, all),
    width: width(missed.count, all),
    advice: missed.count === 0 ? "" : (ADVICE[missed.cause] ?? ""),
  }));
}

function view(status) {
  const { total, server, connections } = status;
  const isNew = total.hits + total.misses === 0;
  const [now, ...windows] = [10, 60, 3600, 86400].map((seconds) =>
    status.windows.find((window) => window.seconds === seconds),
  );
  const [minute, hour, day] = windows.map((window) => hitRate(window, isNew));
  const name = server.host || "tokencached";
  return {
    title: minute.rate === "–" ? name : `${minute.rate} · ${name}`,
    host: server.host ?? "",
    time: `${timeOfDay(status.unix_seconds)} UTC`,
    is_new: isNew,
    minute,
    hour,
    day,
    spared: {
      validations: count(total.validations_avoided),
      now: `${rate(now.validations_avoided, now.watched_seconds)} a second now`,
      cpu: duration(Math.floor(total.saved_ms / 1000)),
    },
    chart: chart(status.history, status.unix_seconds),
    memory: memory(status.memory),
    services: status.services.map(service),
    misses: misses(status.misses),
    connections: {
      open: `${count(connections.open)} of ${count(connections.max)}`,
      accepted: count(connections.accepted),
      rejected: count(connections.rejected),
      refused: count(connections.refused),
    },
    settings: status.settings.map(([name, value]) => ({ name, value })),
    server: {
      version: `${server.version}, speaks memcached ${server.memcached_version}`,
      uptime: duration(server.uptime_seconds),
      pid: String(server.pid),
      threads: counted(server.threads, "thread"),
    },
  };
}

// The page.

const at = (values, path) => path.split(".").reduce((value, name) => value[name], values);

function show(root, values) {
  const each = (name, apply) => {
    for (const element of root.querySelectorAll(`[data-${name}]`)) {
      const list = element.parentElement?.closest("[data-each]");
      if (!list || !root.contains(list)) apply(element, element.dataset[name]);
    }
  };
  each("each", (element, path) => list(element, path, at(values, path)));
  each("if", (element, path) => (element.hidden = !at(values, path)));
  each("set", (element, setting) => {
    const [attribute, path] = setting.split(":");
    if (element.getAttribute(attribute) !== at(values, path)) element.setAttribute(attribute, at(values, path));
  });
  // What stays the same is left alone, so that a selection stays too.
  each("text", (element, path) => {
    if (element.textContent !== at(values, path)) element.textContent = at(values, path);
  });
}

function list(element, name, rows) {
  const pattern = document.getElementById(name).content;
  const row = pattern.querySelector("g") ?? pattern.firstElementChild;
  while (element.children.length > rows.length) element.lastElementChild.remove();
  while (element.children.length < rows.length) element.append(document.importNode(row, true));
  rows.forEach((values, at) => show(element.children[at], values));
}

// The server.

async function ask() {
  const signal = AbortSignal.timeout(DEADLINE_MS);
  const answer = await fetch("/api/status", { signal, cache: "no-store", credentials: "omit" });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const status = await answer.json();
  if (status.format !== FORMAT) throw new Error(`format ${status.format}`);
  return status;
}

let failures = 0;

async function refresh() {
  try {
    show(document.documentElement, view(await ask()));
    failures = 0;
  } catch {
    failures += 1;
  }
  const isGone = failures > FAILURES_TOLERATED;
  document.getElementById("gone").hidden = !isGone;
  document.documentElement.dataset.state = isGone ? "gone" : "live";
}

// One question at a time, and none while nobody looks.
let isAsking = false;

async function tick() {
  if (isAsking || document.hidden) return;
  isAsking = true;
  await refresh();
  isAsking = false;
}

setInterval(tick, PERIOD_MS);
document.addEventListener("visibilitychange", tick);
tick();
