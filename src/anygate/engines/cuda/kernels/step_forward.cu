extern "C" __global__ void __launch_bounds__(THREADS) step_forward(const __grid_constant__ StepArgs a) {
  const Args& args = a.there ? *a.there : a.here;
  if (args.T == 0) return;  // a graph that is being recorded
  const Place at = place_of(a, args);
  if (!at.there) return;
  const Direction& d = args.direction[at.side];
  const Step rows = step_at(args, d, (int)(d.reverse ? args.T - 1 - at.step : at.step));
  if (at.n >= rows.count) return;  // the row has ended, or not begun
  const long long row = rows.row + at.n;
  real* const states = a.states + ((long long)at.side * S * args.B + at.n) * H + at.u;
  real z[P], before[S], mask[some(M)], vectors[some(V)], now[S], saved[some(K)];
  FOR(p, P_X) z[p] = read(in_row(d.z_x, row, P_X * H) + X_ROW[p] * H + at.u);
  FOR(k, P - P_X) z[P_X + k] = d.bias ? read(d.bias + H_ROW[P_H - (P - P_X) + k] * H + at.u) : 0;
  FOR(p, P_H) z[P - P_H + p] += read(in_row(a.product, at.row, P_H * H) + H_ROW[p] * H + at.u);
  FOR(k, S) before[k] = states[k * args.B * H];
  FOR(m, M) mask[m] = read(in_row(d.masks, row, M * H) + m * H + at.u);
  FOR(k, V) vectors[k] = read(d.vectors + (size_t)k * H + at.u);
  cell_forward(z, before, mask, vectors, now, saved);
  FOR(k, S) {
    states[k * args.B * H] = now[k];
    if (d.kept[k]) write(in_row(d.kept[k], row, H) + at.u, now[k]);
  }
  write(in_row(a.operand, at.row, H) + at.u, now[0]);
#if SAVE
  FOR(k, K) write(in_row(d.saved, row, K * H) + k * H + at.u, saved[k]);
#endif
#if MEASURE
  FOR(p, P) in_row(d.products, row, P * H)[p * H + at.u] = z[p];
#endif
}
