extern "C" __global__ void __launch_bounds__(THREADS) step_backward(const __grid_constant__ StepArgs a) {
  const Args& args = a.there ? *a.there : a.here;
  if (args.T == 0) return;  // a graph that is being recorded
  const Place at = place_of(a, args);
  if (!at.there) return;
  const Direction& d = args.direction[at.side];
  const long long position = args.T - 1 - at.step;  // the position-th step that forward took
  const int t = (int)(d.reverse ? args.T - 1 - position : position);
  const Step rows = step_at(args, d, t);
  const long long row = rows.row + at.n;
  real* const carried = a.states + ((long long)at.side * S * args.B + at.n) * H + at.u;
  io* const operand = in_row(a.operand, at.row, P_H * H) + at.u;
  carried[0] += read(in_row(a.product, at.row, H) + at.u);
  if (at.n >= rows.count) {  // the row has not begun, or has ended: nothing of it goes through the product
    FOR(p, P_H) write(operand + p * H, 0);
    return;
  }
  const Step last = position == 0 ? Step{0, 0} : step_at(args, d, d.reverse ? t + 1 : t - 1);
  real saved[some(K)], before[S], now[S], grad[S], mask[some(M)], vectors[some(V)], by_z[P], by_before[S], by_vector[some(V)];
  FOR(k, K) saved[k] = read(in_row((const io*)d.saved, row, K * H) + k * H + at.u);
  FOR(k, S) {
    before[k] = !BEFORE_USED[k] ? 0 : read(at.n < last.count ? in_row((const io*)d.kept[k], last.row + at.n, H) + at.u : in_row(d.start[k], at.n, H) + at.u);
    now[k] = !NOW_USED[k] ? 0 : read(in_row((const io*)d.kept[k], row, H) + at.u);
    grad[k] = carried[k * args.B * H] + (d.step_grad[k] ? read(in_row(d.step_grad[k], row, H) + at.u) : 0);
  }
  FOR(m, M) mask[m] = read(in_row(d.masks, row, M * H) + m * H + at.u);
  FOR(k, V) vectors[k] = read(d.vectors + (size_t)k * H + at.u);
  cell_backward(saved, before, now, grad, mask, vectors, by_z, by_before, by_vector);
  FOR(k, S) carried[k * args.B * H] = by_before[k];
  FOR(p, P) write(in_row(d.grad_z, row, P * H) + p * H + at.u, by_z[p]);
  FOR(p, P_H) write(operand + H_ROW[p] * H, by_z[P - P_H + p]);
  FOR(k, V) in_row(d.vector_grad, at.n, V * H)[k * H + at.u] += by_vector[k];
#if MEASURE
  FOR(k, S) in_row(d.arriving, row, S * H)[k * H + at.u] = grad[k];
#endif
}
