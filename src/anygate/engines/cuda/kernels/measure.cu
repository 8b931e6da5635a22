// The sums of `record` for each time step, from what a measured run has kept: one pass over all rows, side by side.
//
// Inside a persistent kernel such sums would wait between two steps for some 400 shuffles; here every time step has
// blocks of its own, MEASURE_CHUNK numbers each, and the whole costs what reading the tensors does. Threads add in a fixed
// order and no two write to one place, so that the bits are the same in every run.
constexpr int THREADS = MEASURE_THREADS, WARPS = THREADS / 32;

struct MeasureArgs {
  long long T, B, chunks;  // of a time step
  double* table;           // [chunks, T, NUMBERS] forward, [chunks, T, 2 S] backward
  Direction d;
};
constexpr int FORWARD_LINE = SLOTS * COUNTS + S - 1, BACKWARD_LINE = 2 * S;
constexpr int MEASURE_FORWARD_SHARED = WARPS * some(FORWARD_LINE) * 8, MEASURE_BACKWARD_SHARED = WARPS * BACKWARD_LINE * 8;

__device__ __forceinline__ Step rows_at(const MeasureArgs& a, long long t) {
  if (a.d.offsets) return {a.d.offsets[t], (int)(a.d.offsets[t + 1] - a.d.offsets[t])};
  return {t * a.B, (int)a.B};
}
// The rows of the step that was taken before step t, or after it where `later`; none at the ends
__device__ __forceinline__ Step beside(const MeasureArgs& a, long long t, bool later) {
  t += (a.d.reverse != 0) != later ? 1 : -1;
  if (t < 0 || t >= a.T) return {0, 0};
  return rows_at(a, t);
}

// Sums of all threads of a block (of the last ones, the largest) to a line of the table
template <int COUNT, int FIRST_LARGEST> __device__ __forceinline__ void to_line(double* sums, const double (&mine)[some(COUNT)], double* line) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  FOR(k, COUNT) {
    double sum = mine[k];
    for (int far = 16; far; far /= 2) {
      const double other = __shfl_xor_sync(~0u, sum, far);
      sum = k < FIRST_LARGEST ? sum + other : other > sum ? other : sum;
    }
    if (lane == 0) sums[warp * COUNT + k] = sum;
  }
  __syncthreads();
  for (int k = threadIdx.x; k < COUNT; k += THREADS) {
    double sum = sums[k];
    for (int w = 1; w < WARPS; w++) {
      const double other = sums[w * COUNT + k];
      sum = k < FIRST_LARGEST ? sum + other : other > sum ? other : sum;
    }
    line[k] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(THREADS) measure_forward(const __grid_constant__ MeasureArgs a) {
  SHARED(shared);
  const Direction& d = a.d;
  const long long t = blockIdx.x / a.chunks, chunk = blockIdx.x % a.chunks;
  const Step at = rows_at(a, t), last = beside(a, t, false);
  Slot slots[some(SLOTS)];
  double largest[S];
  FOR(k, SLOTS) slots[k] = {0, 0, 0, 0, 0, 0, 0, 0};
  FOR(k, S) largest[k] = 0;
  const long long all = (long long)at.count * H, end = (chunk + 1) * MEASURE_CHUNK < all ? (chunk + 1) * MEASURE_CHUNK : all;
  ROLLED for (long long i = chunk * MEASURE_CHUNK + threadIdx.x; i < end; i += THREADS) {
    const int n = (int)(i / H), u = (int)(i % H);
    real z[P], before[S], mask[some(M)], vectors[some(V)], now[S], value[some(SLOTS)], slope[some(SLOTS)], argument[some(SLOTS)];
    FOR(p, P) z[p] = in_row(d.products, at.row + n, P * H)[p * H + u];
    FOR(k, S) before[k] = read(n < last.count ? in_row((const io*)d.kept[k], last.row + n, H) + u : in_row(d.start[k], n, H) + u);
    FOR(m, M) mask[m] = read(in_row(d.masks, at.row + n, M * H) + m * H + u);
    FOR(k, V) vectors[k] = read(d.vectors + (size_t)k * H + u);
    cell_measured(z, before, mask, vectors, now, value, slope, argument);
    cell_counts(slots, value, slope, argument);
    FOR(k, S) { const double size = f_absolute(now[k]); if (size > largest[k]) largest[k] = size; }
  }
  double mine[some(FORWARD_LINE)];
  FOR(k, SLOTS) {
    const Slot& s = slots[k];
    const double line[COUNTS] = {s.sum, s.squares, (double)s.low, (double)s.high, (double)s.near_low, (double)s.near_high, (double)s.flat, (double)s.bad};
    FOR(i, COUNTS) mine[k * COUNTS + i] = line[i];
  }
  FOR(k, S - 1) mine[SLOTS * COUNTS + k] = largest[k < OUTPUT ? k : k + 1];
  to_line<FORWARD_LINE, SLOTS * COUNTS>((double*)shared, mine, a.table + (chunk * a.T + t) * FORWARD_LINE);
}

extern "C" __global__ void __launch_bounds__(THREADS) measure_backward(const __grid_constant__ MeasureArgs a) {
  SHARED(shared);
  const Direction& d = a.d;
  const long long t = blockIdx.x / a.chunks, chunk = blockIdx.x % a.chunks;
  const Step at = rows_at(a, t), last = beside(a, t, false), next = beside(a, t, true);
  double squares[BACKWARD_LINE];
  FOR(k, BACKWARD_LINE) squares[k] = 0;
  const long long all = (long long)at.count * H, end = (chunk + 1) * MEASURE_CHUNK < all ? (chunk + 1) * MEASURE_CHUNK : all;
  ROLLED for (long long i = chunk * MEASURE_CHUNK + threadIdx.x; i < end; i += THREADS) {
    const int n = (int)(i / H), u = (int)(i % H);
    real save[some(K)], before[S], now[S], grad[S], direct[S], mask[some(M)], vectors[some(V)], by_grad[S], by_direct[S];
    FOR(k, K) save[k] = read(in_row((const io*)d.saved, at.row + n, K * H) + k * H + u);
    FOR(k, S) {
      before[k] = read(n < last.count ? in_row((const io*)d.kept[k], last.row + n, H) + u : in_row(d.start[k], n, H) + u);
      now[k] = read(in_row((const io*)d.kept[k], at.row + n, H) + u);
      grad[k] = in_row(d.arriving, at.row + n, S * H)[k * H + u];
      direct[k] = d.step_grad[k] ? read(in_row(d.step_grad[k], at.row + n, H) + u) : 0;
      if (n >= next.count && d.last_grad[k]) direct[k] += read(in_row(d.last_grad[k], n, H) + u);
    }
    FOR(m, M) mask[m] = read(in_row(d.masks, at.row + n, M * H) + m * H + u);
    FOR(k, V) vectors[k] = read(d.vectors + (size_t)k * H + u);
    cell_totals(save, before, now, grad, direct, mask, vectors, by_grad, by_direct);
    FOR(k, S) {
      squares[2 * k] += (double)by_grad[k] * (double)by_grad[k];
      squares[2 * k + 1] += (double)by_direct[k] * (double)by_direct[k];
    }
  }
  to_line<BACKWARD_LINE, BACKWARD_LINE>((double*)shared, squares, a.table + (chunk * a.T + t) * BACKWARD_LINE);
}
