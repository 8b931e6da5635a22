"use strict";
// The page: controls, pictures and the state that a link carries.
const Page = (() => {
  const by = (id) => document.getElementById(id);
  const { SLOTS, STANDARD, TASKS } = Network;
  const BOUNDS = { steps: [2, 120, 1], hidden: [1, 32, 1], rate: [0.0001, 1, 0], clip: [0, 1000, 0], bias: [-5, 10, 0], seed: [0, 999999, 1], forget: [-2, 8, 0], pulse: [-5, 5, 0] };
  const START = { slots: STANDARD, slot: "candidate", otherslot: "candidate", other: "relu", task: "adding", steps: 40, hidden: 12, rate: 0.01, clip: 1, bias: 1, seed: 1, forget: 4, pulse: 2 };
  const PRESETS = {
    standard: {},
    remember: { slot: "forget_gate", forget: 5, otherslot: "forget_gate", other: "hard_sigmoid", task: "remember", steps: 50, bias: 4 },
    explodes: { slots: { ...STANDARD, candidate: "relu", cell_output: "relu" }, slot: "cell_output", otherslot: "forget_gate", other: "softplus", rate: 0.1, clip: 0, steps: 60 },
    offcentre: { slots: STANDARD, slot: "candidate", otherslot: "candidate", other: "sigmoid", forget: 4, pulse: -3 },
  };
  const state = structuredClone(START);
  let slots = {}, other = null, pair = null, running = false;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  // ---- state and link ---------------------------------------------------------------------------
  // A link is a stranger's text: each field is checked, and what does not fit keeps its standard.

  function adopt(given) {
    const text = (value) => typeof value === "string" && value.length <= 2000;
    const next = structuredClone(START);
    for (const slot of SLOTS) if (text(given.slots?.[slot])) next.slots[slot] = given.slots[slot];
    if (SLOTS.includes(given.slot)) next.slot = given.slot;
    if (SLOTS.includes(given.otherslot)) next.otherslot = given.otherslot;
    if (text(given.other)) next.other = given.other;
    if (Object.hasOwn(TASKS, given.task)) next.task = given.task;
    for (const key of Object.keys(BOUNDS)) next[key] = bounded(key, given[key], next[key]);
    Object.assign(state, next);
  }
  function bounded(key, value, otherwise) {
    const [low, high, whole] = BOUNDS[key];
    const number = typeof value === "string" && value.trim() === "" ? NaN : Number(value);
    if (!Number.isFinite(number)) return otherwise;
    const within = Math.min(high, Math.max(low, number));
    return whole ? Math.round(within) : within;
  }
  function from_link() {
    try {
      adopt(JSON.parse(decodeURIComponent(location.hash.slice(1))) ?? {});
    } catch {
      adopt({});
    }
  }
  const link = () => `#${encodeURIComponent(JSON.stringify(state))}`;

  // ---- pictures -----------------------------------------------------------------------------------

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const short = (v) => (v === 0 ? "0" : Math.abs(v) >= 1e4 || Math.abs(v) < 1e-3 ? v.toExponential(0).replace("e+", "e") : String(+v.toPrecision(3)));
  function ticks(low, high, log) {
    if (log) {
      const from = Math.ceil(low), to = Math.floor(high), step = Math.max(1, Math.ceil((to - from) / 5));
      return Array.from({ length: Math.max(0, Math.floor((to - from) / step) + 1) }, (_, k) => from + k * step);
    }
    const rough = (high - low) / 6, base = 10 ** Math.floor(Math.log10(rough));
    const step = base * ([1, 2, 5, 10].find((s) => s * base >= rough) ?? 10), found = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) found.push(Math.abs(v) < step / 1e6 ? 0 : v);
    return found;
  }
  // Lines of {x, y, colour, dash, label} with ticks; shade: intervals of x. log: of y.
  function draw(canvas, lines, { log = false, shade = [], xlabel = "", ylimits = null, alt = "" } = {}) {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth || 640, height = Math.round(Math.min(280, Math.max(200, width * 0.4)));
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.height = `${height}px`;
    canvas.setAttribute("aria-label", alt);
    const g = canvas.getContext("2d");
    g.scale(ratio, ratio);
    g.font = "12px system-ui, sans-serif";
    const value = (v) => (log ? Math.log10(v) : v);
    const ys = lines.flatMap((l) => Array.from(l.y, value)).filter(Number.isFinite), xs = lines.flatMap((l) => [l.x[0], l.x[l.x.length - 1]]);
    let [x0, x1] = [Math.min(...xs), Math.max(...xs)], [y0, y1] = ylimits ?? [ys.reduce((a, b) => Math.min(a, b), Infinity), ys.reduce((a, b) => Math.max(a, b), -Infinity)];
    if (!(x1 > x0)) x1 = x0 + 1;
    if (!Number.isFinite(y0 + y1)) [y0, y1] = [0, 1];
    if (log && y1 - y0 < 1) [y0, y1] = [(y0 + y1 - 1) / 2, (y0 + y1 + 1) / 2];
    if (!(y1 - y0 > 1e-9)) [y0, y1] = [y0 - 0.5, y1 + 0.5];
    const pad = (y1 - y0) * 0.05, left = 46, bottom = 34, top = 20;
    y0 -= pad; y1 += pad;
    const px = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - 8), py = (y) => top + (1 - (y - y0) / (y1 - y0)) * (height - top - bottom);
    g.fillStyle = colour("shade");
    for (const [from, to] of shade) g.fillRect(px(from), top, px(to) - px(from), height - top - bottom);
    g.strokeStyle = colour("line"); g.fillStyle = colour("muted"); g.lineWidth = 1;
    g.textAlign = "right"; g.textBaseline = "middle";
    for (const t of ticks(y0, y1, log)) { g.beginPath(); g.moveTo(left, py(t)); g.lineTo(width - 8, py(t)); g.stroke(); g.fillText(log ? short(10 ** t) : short(t), left - 5, py(t)); }
    g.textAlign = "center"; g.textBaseline = "top";
    for (const t of ticks(x0, x1)) g.fillText(short(t), px(t), height - bottom + 5);
    g.fillText(xlabel, (left + width) / 2, height - 15);
    g.save(); g.beginPath(); g.rect(left, top, width - left - 8, height - top - bottom); g.clip(); g.lineWidth = 2;
    for (const line of lines) {
      g.strokeStyle = line.colour; g.setLineDash(line.dash ?? []); g.beginPath();
      let pen = false;
      line.y.forEach((v, k) => {
        const y = value(v);
        if (!Number.isFinite(y)) { pen = false; return; }
        const clamped = Math.max(y0 - (y1 - y0), Math.min(y1 + (y1 - y0), y));
        pen ? g.lineTo(px(line.x[k]), py(clamped)) : g.moveTo(px(line.x[k]), py(clamped));
        pen = true;
      });
      g.stroke();
    }
    g.restore();
    g.textAlign = "left"; g.textBaseline = "middle";
    let at = left;
    for (const line of lines) {
      g.strokeStyle = line.colour; g.lineWidth = 2; g.setLineDash(line.dash ?? []); g.beginPath(); g.moveTo(at, 9); g.lineTo(at + 22, 9); g.stroke();
      g.fillStyle = colour("ink"); g.fillText(line.label, at + 27, 9);
      at += 27 + g.measureText(line.label).width + 18;
    }
  }
  const count = (n) => Float64Array.from({ length: n }, (_, k) => k);

  function draw_formula() {
    const active = slots[state.slot];
    if (!active) return;
    const x = Float64Array.from({ length: 601 }, (_, k) => (k - 300) / 50);
    const [f, slope] = Formula.evaluate(active, x).map((a) => a.slice());
    const largest = slope.reduce((m, v) => (Number.isFinite(v) ? Math.max(m, Math.abs(v)) : m), 0);
    const shade = [];
    slope.forEach((v, k) => {
      if (!(Math.abs(v) < 0.1) || k === 0) return;
      const last = shade[shade.length - 1];
      if (last && last[1] >= x[k - 1] - 1e-9) last[1] = x[k]; else shade.push([x[k - 1], x[k]]);
    });
    const seen = [...f, ...slope].filter(Number.isFinite), limits = [Math.max(-4, Math.min(-0.2, ...seen)), Math.min(4, Math.max(1.1, ...seen))];
    draw(by("curve"), [{ x, y: f, colour: colour("a"), label: "f(x)" }, { x, y: slope, colour: colour("b"), dash: [6, 4], label: "slope f′(x)" }],
      { shade, ylimits: limits, xlabel: "x (shaded: slope under 0.1)", alt: `Curve of ${active.text} and its slope for x from -6 to 6` });
    const at = (v) => Formula.evaluate(active, Float64Array.of(v)).map((a) => short(a[0]));
    const [f0, s0] = at(0), finite = f.filter(Number.isFinite);
    by("facts").textContent = `f(0) = ${f0}, slope there ${s0}; over −6 ≤ x ≤ 6: f from ${short(Math.min(...finite))} to ${short(Math.max(...finite))}, steepest |f′| = ${short(largest)}. ` +
      (state.slot.endsWith("gate") ? "A gate wants 0 to 1: the share that passes." : "Candidate and output want both signs, and about x for small x.");
  }
  function draw_unit() {
    if (!SLOTS.every((s) => slots[s])) return;
    const n = 60, seen = Network.unit(slots, { steps: n, forget: state.forget, pulse: state.pulse }), x = count(n);
    draw(by("unit"), [
      { x, y: seen.c, colour: colour("a"), label: "cell c" }, { x, y: seen.h, colour: colour("b"), label: "output h" },
      { x, y: seen.kept, colour: colour("muted"), dash: [3, 3], label: "share kept" }], { xlabel: "time step", alt: "Cell, output and the product of the forget gates over 60 steps" });
    const f = seen.f[0], kept = seen.kept[55];
    by("unittext").textContent = `Forget gate ${short(f)} at every step, so after 50 steps ${short(kept)} of the pulse is left` +
      (Math.abs(kept) > 1.001 ? ": it grows. A gate above 1 makes the cell explode." : Math.abs(f) < 1 && f !== 0 ? `; half of it is gone after ${short(Math.log(0.5) / Math.log(Math.abs(f)))} steps.` : ".");
  }
  function draw_training() {
    const [a, b] = pair ?? [null, null];
    const lines = (pick) => [a, b].map((t, k) => ({ y: Array.from(t ? pick(t) : []), colour: colour(k ? "b" : "a"), label: k ? "B" : "A", dash: k ? [6, 4] : [] })).map((l) => ({ ...l, x: count(l.y.length || 1) }));
    const text = (t) => (t.stopped || (t.losses.length ? `loss ${short(average(t))}` : "not begun"));
    draw(by("loss"), lines((t) => t.losses), { log: true, xlabel: "update", alt: a ? `Loss of A: ${text(a)}; of B: ${text(b)}` : "" });
    draw(by("gradient"), lines((t) => t.norms ?? []), { log: true, xlabel: "time step", alt: "Norm of the gradient by time step, for A and B" });
    by("state").textContent = a ? `Update ${Math.max(a.losses.length, b.losses.length)}. A: ${text(a)}. B: ${text(b)}. Guessing the mean gives ${short(TASKS[state.task].baseline)}.` : "";
    const rows = SLOTS.map((slot, k) => [slot, ...[a, b].map((t) => (t?.flat && Number.isFinite(t.flat[k]) ? `${Math.round(100 * t.flat[k])} %` : "–"))]);
    const table = by("flat");
    table.replaceChildren(row("th", ["slot", "A", "B"]), ...rows.map((cells) => row("td", cells)));
  }
  const average = (t) => { const last = t.losses.slice(-20); return last.reduce((a, b) => a + b, 0) / last.length; };
  function element(name, text, more = {}) {
    const made = Object.assign(document.createElement(name), more);
    made.textContent = text;
    return made;
  }
  function row(kind, cells) {
    const made = document.createElement("tr");
    made.append(...cells.map((c, k) => element(k ? kind : "th", c, { scope: k ? "" : "row" })));
    return made;
  }

  // ---- actions --------------------------------------------------------------------------------------

  function read(text, into) {
    try {
      const found = Formula.resolve(text);
      by(into).textContent = "";
      return found;
    } catch (error) {
      if (!(error instanceof Formula.FormulaError)) throw error;
      by(into).textContent = error.position >= 0 && text.length <= 80 ? `${text}\n${" ".repeat(error.position)}^ ${error.message}` : error.message;
      return null;
    }
  }
  function build() {
    const ready = SLOTS.every((s) => slots[s]) && other;
    if (!ready) { pair = null; stop(); return; }
    const { task, steps, hidden, rate, clip, bias, seed } = state;
    const more = { task, steps, hidden, rate, clip, bias, seed };
    pair = [new Network.Training({ slots, ...more }), new Network.Training({ slots: { ...slots, [state.otherslot]: other }, ...more })];
  }
  function update() {
    if (!pair) return;
    pair.forEach((t) => t.update());
    if (pair.every((t) => t.stopped)) stop();
  }
  function stop() {
    running = false;
    by("train").textContent = "Train";
  }
  function frame() {
    if (!running) return;
    const until = performance.now() + (calm.matches ? 400 : 24);
    do update(); while (running && performance.now() < until);
    draw_training();
    if (running && Math.max(...pair.map((t) => t.losses.length)) < 3000) setTimeout(frame, calm.matches ? 600 : 4);
    else stop();
  }
  function show() {
    by("slotname").textContent = state.slot.replace("_", " ");
    document.querySelector(`#chips input[value=${state.slot}]`).checked = true;
    if (document.activeElement !== by("formula")) by("formula").value = state.slots[state.slot];
    if (document.activeElement !== by("other")) by("other").value = state.other;
    for (const key of [...Object.keys(BOUNDS), "otherslot", "task"]) if (document.activeElement !== by(key)) by(key).value = state[key];
    for (const key of ["forget", "pulse"]) document.querySelector(`output[for=${key}]`).value = short(state[key]);
    const changed = SLOTS.filter((s) => state.slots[s].trim() !== STANDARD[s]);
    const quote = (text) => JSON.stringify(text);
    by("python").textContent = `anygate.LSTM(input_size, hidden_size${changed.map((s) => `, ${s}=${quote(state.slots[s])}`).join("")})`;
    by("command").textContent = `anygate compare ${shell(state.slots[state.otherslot])} ${shell(state.other)} --slot ${state.otherslot}`;
    history.replaceState(null, "", link());
  }
  const shell = (text) => (/^[\w.]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

  // Everything from the state: after a preset, a link, or an edit of a formula.
  function refresh() {
    slots = {};
    for (const slot of SLOTS) slots[slot] = read(state.slots[slot], slot === state.slot ? "error" : "copied");
    other = read(state.other, "othererror");
    by("copied").textContent = "";
    build();
    show();
    draw_formula();
    draw_unit();
    draw_training();
  }

  function start() {
    for (const slot of SLOTS) {
      const label = element("label", ""), radio = Object.assign(document.createElement("input"), { type: "radio", name: "slot", value: slot });
      label.append(radio, slot.replace("_", " "));
      by("chips").append(label);
      radio.addEventListener("change", () => { state.slot = slot; refresh(); });
      by("otherslot").append(element("option", slot.replace("_", " "), { value: slot }));
    }
    for (const [name, task] of Object.entries(TASKS)) by("task").append(element("option", task.title, { value: name }));
    for (const [name] of DATA.activations) by("names").append(element("option", "", { value: name }));
    by("formula").addEventListener("input", () => { state.slots[state.slot] = by("formula").value; refresh(); });
    by("other").addEventListener("input", () => { state.other = by("other").value; refresh(); });
    for (const key of ["otherslot", "task"]) by(key).addEventListener("change", () => { state[key] = by(key).value; refresh(); });
    for (const key of Object.keys(BOUNDS))
      by(key).addEventListener("input", () => {
        state[key] = bounded(key, by(key).value, state[key]);
        if (key === "forget" || key === "pulse") { show(); draw_unit(); } else refresh();
      });
    by("train").addEventListener("click", () => {
      if (running) { stop(); return; }
      if (!pair) return;
      if (pair.every((t) => t.stopped) || Math.max(...pair.map((t) => t.losses.length)) >= 3000) build();
      running = true;
      by("train").textContent = "Pause";
      frame();
    });
    by("once").addEventListener("click", () => { stop(); update(); draw_training(); });
    by("reset").addEventListener("click", () => { stop(); refresh(); });
    for (const button of document.querySelectorAll("[data-preset]"))
      button.addEventListener("click", () => { stop(); adopt({ ...START, ...PRESETS[button.dataset.preset] }); refresh(); });
    for (const button of document.querySelectorAll("[data-copy]"))
      button.addEventListener("click", async () => {
        const what = button.dataset.copy, text = what === "link" ? location.href.split("#")[0] + link() : by(what).textContent;
        try {
          await navigator.clipboard.writeText(text);
          by("copied").textContent = "Copied.";
        } catch {
          by("copied").textContent = `Copy by hand: ${text}`;
        }
      });
    addEventListener("hashchange", () => { if (location.hash !== link()) { stop(); from_link(); refresh(); } });
    let redraw = 0;
    addEventListener("resize", () => { clearTimeout(redraw); redraw = setTimeout(() => { draw_formula(); draw_unit(); draw_training(); }, 100); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
    from_link();
    refresh();
  }
  return { start, state, training: () => pair };
})();
if (typeof document !== "undefined") Page.start();
