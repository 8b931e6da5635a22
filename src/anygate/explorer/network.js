"use strict";
// A small LSTM with any activations: the equations of torch.nn.LSTM, its gradients by hand, Adam,
// and two toy tasks. Gates in PyTorch's order: input, forget, candidate, output.
const Network = (() => {
  const SLOTS = ["input_gate", "forget_gate", "candidate", "output_gate", "cell_output"];
  const STANDARD = { input_gate: "sigmoid", forget_gate: "sigmoid", candidate: "tanh", output_gate: "sigmoid", cell_output: "tanh" };

  // Numbers in [0, 1) that follow from the seed (mulberry32).
  function random(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  // Weights as torch.nn.LSTM(inputs, hidden) and torch.nn.Linear(hidden, 1) draw and order them:
  // W [4H, I], R [4H, H], b [4H] (one bias: the sum of torch's two), v [H], a [1].
  function weights(inputs, hidden, seed, forget_bias = 0) {
    const draw = random(seed), bound = 1 / Math.sqrt(hidden);
    const uniform = (n) => Float64Array.from({ length: n }, () => (2 * draw() - 1) * bound);
    const made = { W: uniform(4 * hidden * inputs), R: uniform(4 * hidden * hidden), b: uniform(4 * hidden), v: uniform(hidden), a: uniform(1) };
    for (let u = 0; u < hidden; u++) made.b[hidden + u] += forget_bias;
    return made;
  }

  // The loss (mean squared error of a linear readout of the last h) of sequences x, T arrays of
  // [B, I], with targets y [B]; its gradients by the weights; per step the norm of dL/dh over the
  // batch; per slot the share of units whose |f'| is under a tenth of the largest |f'| seen.
  function gradients(net, slots, x, y) {
    const T = x.length, B = y.length, H = net.v.length, I = x[0].length / B, n = B * H;
    const steps = [];
    let h = new Float64Array(n), c = new Float64Array(n);
    for (let t = 0; t < T; t++) {
      const z = [0, 1, 2, 3].map((gate) => {
        const into = new Float64Array(n);
        for (let row = 0; row < B; row++)
          for (let u = 0; u < H; u++) {
            const k = gate * H + u;
            let sum = net.b[k];
            for (let j = 0; j < I; j++) sum += net.W[k * I + j] * x[t][row * I + j];
            for (let j = 0; j < H; j++) sum += net.R[k * H + j] * h[row * H + j];
            into[row * H + u] = sum;
          }
        return into;
      });
      const copies = (slot, argument) => Formula.evaluate(slots[slot], argument).map((a) => a.slice());
      const gates = [0, 1, 2, 3].map((gate) => copies(SLOTS[gate], z[gate]));
      const [[i], [f], [g], [o]] = gates;
      const c_new = new Float64Array(n), h_new = new Float64Array(n);
      for (let k = 0; k < n; k++) c_new[k] = f[k] * c[k] + i[k] * g[k];
      const out = copies("cell_output", c_new);
      for (let k = 0; k < n; k++) h_new[k] = o[k] * out[0][k];
      steps.push({ gates, out, c_before: c, h_before: h, c: c_new });
      h = h_new;
      c = c_new;
    }
    let loss = 0;
    const grad = { W: new Float64Array(net.W.length), R: new Float64Array(net.R.length), b: new Float64Array(4 * H), v: new Float64Array(H), a: new Float64Array(1) };
    let dh = new Float64Array(n), dc = new Float64Array(n);
    for (let row = 0; row < B; row++) {
      let guess = net.a[0];
      for (let u = 0; u < H; u++) guess += net.v[u] * h[row * H + u];
      const error = guess - y[row];
      loss += (error * error) / B;
      const d = (2 * error) / B;
      grad.a[0] += d;
      for (let u = 0; u < H; u++) {
        grad.v[u] += d * h[row * H + u];
        dh[row * H + u] = d * net.v[u];
      }
    }
    const norms = new Float64Array(T);
    for (let t = T - 1; t >= 0; t--) {
      const { gates, out, c_before, h_before } = steps[t];
      const [[i, di], [f, df], [g, dg], [o, d_o]] = gates;
      const dz = [0, 1, 2, 3].map(() => new Float64Array(n));
      const dc_before = new Float64Array(n), dh_before = new Float64Array(n);
      let squares = 0;
      for (let k = 0; k < n; k++) {
        squares += dh[k] * dh[k];
        const into_c = dc[k] + dh[k] * o[k] * out[1][k];
        dz[0][k] = into_c * g[k] * di[k];
        dz[1][k] = into_c * c_before[k] * df[k];
        dz[2][k] = into_c * i[k] * dg[k];
        dz[3][k] = dh[k] * out[0][k] * d_o[k];
        dc_before[k] = into_c * f[k];
      }
      norms[t] = Math.sqrt(squares);
      for (let gate = 0; gate < 4; gate++)
        for (let row = 0; row < B; row++)
          for (let u = 0; u < H; u++) {
            const k = gate * H + u, d = dz[gate][row * H + u];
            if (d === 0) continue;
            grad.b[k] += d;
            for (let j = 0; j < I; j++) grad.W[k * I + j] += d * x[t][row * I + j];
            for (let j = 0; j < H; j++) {
              grad.R[k * H + j] += d * h_before[row * H + j];
              dh_before[row * H + j] += d * net.R[k * H + j];
            }
          }
      dh = dh_before;
      dc = dc_before;
    }
    const flat = SLOTS.map((slot, s) => {
      let largest = 0, low = 0;
      for (const step of steps) for (const d of s < 4 ? step.gates[s][1] : step.out[1]) largest = Math.max(largest, Math.abs(d));
      for (const step of steps) for (const d of s < 4 ? step.gates[s][1] : step.out[1]) low += Math.abs(d) < largest / 10;
      return low / (n * T);
    });
    return { loss, grad, norms, flat };
  }

  // One update by Adam with torch's settings, after the norm of all gradients is cut at `clip`.
  function adam(net, grad, memory, rate, clip) {
    let squares = 0;
    for (const g of Object.values(grad)) for (const d of g) squares += d * d;
    const norm = Math.sqrt(squares), scale = clip > 0 && norm > clip ? clip / (norm + 1e-6) : 1;
    memory.t = (memory.t ?? 0) + 1;
    for (const [name, g] of Object.entries(grad)) {
      memory[name] ??= [new Float64Array(g.length), new Float64Array(g.length)];
      const [m, v] = memory[name];
      for (let k = 0; k < g.length; k++) {
        const d = g[k] * scale;
        m[k] += 0.1 * (d - m[k]);
        v[k] = 0.999 * v[k] + 0.001 * d * d;
        net[name][k] -= (rate * (m[k] / (1 - 0.9 ** memory.t))) / (Math.sqrt(v[k] / (1 - 0.999 ** memory.t)) + 1e-8);
      }
    }
    return norm;
  }

  // Batches of [T][B*2] inputs and [B] targets. Both tasks have two inputs a step: number and mark.
  const TASKS = {
    adding: {
      title: "add two marked numbers",
      draw(next, T, B) {
        const x = Array.from({ length: T }, () => new Float64Array(2 * B)), y = new Float64Array(B);
        for (let row = 0; row < B; row++) {
          const half = Math.floor(T / 2), marked = [Math.floor(next() * half), half + Math.floor(next() * (T - half))];
          for (let t = 0; t < T; t++) x[t][2 * row] = next();
          for (const t of marked) { x[t][2 * row + 1] = 1; y[row] += x[t][2 * row]; }
        }
        return { x, y };
      },
      baseline: 1 / 6,
    },
    remember: {
      title: "remember the first number",
      draw(next, T, B) {
        const x = Array.from({ length: T }, () => new Float64Array(2 * B)), y = new Float64Array(B);
        for (let row = 0; row < B; row++) {
          for (let t = 0; t < T; t++) x[t][2 * row] = 2 * next() - 1;
          x[0][2 * row + 1] = 1;
          y[row] = x[0][2 * row];
        }
        return { x, y };
      },
      baseline: 1 / 3,
    },
  };

  // A network in training: update() draws a batch and learns from it.
  class Training {
    constructor({ slots, task, steps, hidden, seed, rate, clip, bias, batch = 16 }) {
      Object.assign(this, { slots, task, steps, rate, clip, batch });
      this.net = weights(2, hidden, seed, bias);
      this.next = random(seed + 1);
      this.memory = {};
      this.losses = [];
      this.stopped = "";
    }
    update() {
      if (this.stopped) return;
      const { x, y } = TASKS[this.task].draw(this.next, this.steps, this.batch);
      const { loss, grad, norms, flat } = gradients(this.net, this.slots, x, y);
      const finite = Number.isFinite(loss) && Object.values(grad).every((g) => g.every(Number.isFinite));
      this.norms = norms;
      this.flat = flat;
      if (!finite) {
        this.stopped = `diverged at update ${this.losses.length + 1}`;
        return;
      }
      this.losses.push(loss);
      adam(this.net, grad, this.memory, this.rate, this.clip);
    }
  }

  // One unit without recurrent weights: a pulse enters at step 5 with the input gate opened by
  // z_i = 4 (z_i = -4 elsewhere) and z_g = pulse; z_f is the same at every step; z_o = 2.
  function unit(slots, { steps, forget, pulse }) {
    const at = (slot, z) => Formula.evaluate(slots[slot], Float64Array.of(z))[0][0];
    const seen = { c: [], h: [], f: [], kept: [] };
    const f = at("forget_gate", forget), o = at("output_gate", 2), START = 5;
    let c = 0, kept = 1;
    for (let t = 0; t < steps; t++) {
      c = f * c + at("input_gate", t === START ? 4 : -4) * at("candidate", t === START ? pulse : 0);
      if (t > START) kept *= f;
      seen.c.push(c);
      seen.h.push(o * at("cell_output", c));
      seen.f.push(f);
      seen.kept.push(t < START ? NaN : kept);
    }
    return seen;
  }

  return { SLOTS, STANDARD, TASKS, Training, random, weights, gradients, adam, unit };
})();
