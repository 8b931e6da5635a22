// Each block multiplies its own rows of R with its own grad z, and gives every block the part of grad h that it owns.
constexpr int ROWS = (P_H * HC + 31) / 32;                               // own rows of R, in twos of tiles of 16
constexpr int MTB = (HP + 15) / 16;                                      // tiles of 16 units of grad h
constexpr int KSPLIT = WARPS / MTB > 1 ? (WARPS / MTB < ROWS ? WARPS / MTB : ROWS) : 1;  // warps that share one
constexpr int WM = WARPS / KSPLIT, MW = (MTB + WM - 1) / WM;             // tiles of one warp: every WM-th
constexpr int KTB = (ROWS + KSPLIT - 1) / KSPLIT * 2, KSB = KTB - KREG;
constexpr int SLOTS = CL * KSPLIT, LDZ = KSPLIT * KTB * 16 + 8;
constexpr int Z_BYTES = 2 * PARTS * NB * LDZ * 2, R_BYTES = WARPS * MW * KSB * PARTS * 512;
constexpr int SLOT_BYTES = EXCHANGE == L2 ? 0 : 2 * SLOTS * HC * NB * 4;
constexpr int BACKWARD_SHARED = Z_BYTES + R_BYTES + SLOT_BYTES + 16;
constexpr int INPUTS = K + 3 * S + M;  // saved, before, now, grads, masks

extern "C" __global__ void __launch_bounds__(THREADS, 1) backward(const __grid_constant__ Args args) {
  SHARED(shared);
  bits16* const z_buffer = (bits16*)shared;                     // [2][PARTS][NB][LDZ]
  uint4* const r_shared = (uint4*)(shared + Z_BYTES);           // [WARPS][MW][KSB][PARTS][32]
  float* const slots = (float*)(shared + Z_BYTES + R_BYTES);    // [2][SLOTS][HC][NB]
  u64* const barriers = (u64*)(shared + Z_BYTES + R_BYTES + SLOT_BYTES);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, uw = warp % UW, kw = warp / UW;
  const Lane l = {lane / 4, lane % 4 * 2};
  const int group = blockIdx.x / CL, block = blockIdx.x % CL;
  const Direction& d = args.direction[group / args.tiles];
  const int tile = (int)(args.first_tile + group % args.tiles), b0 = tile * NB, u0 = block * HC + uw * 8;
  const int steps = steps_of(args, d, b0), B = (int)args.B;
  const int ks = warp / WM, wm = warp % WM;
  const bool multiplies = ks < KSPLIT;

  u32 r_held[MW][some(KREG)][PARTS][4];
  auto load_weights = [&](int m, int k, u32 (&v)[PARTS][4]) {
    FOR(j, 4) {
      const int unit = (wm + m * WM) * 16 + l.row + (j & 1) * 8, own = ((multiplies ? ks : 0) * KTB + k) * 16 + l.col + j / 2 * 8;
      u32 parts[PARTS];
      split2(parts, weight_at(d, own / HC, block * HC + own % HC, unit), weight_at(d, (own + 1) / HC, block * HC + (own + 1) % HC, unit));
      FOR(p, PARTS) v[p][j] = parts[p];
    }
  };
  FOR(m, MW) FOR(k, KREG) {
    u32 v[PARTS][4];
    load_weights(m, k, v);
    FOR(p, PARTS) FOR(j, 4) r_held[m][k][p][j] = v[p][j];
    IN_ORDER;
  }
  ROLLED for (int k = KREG; k < KTB; k++) ROLLED for (int m = 0; m < MW; m++) {
    u32 v[PARTS][4];
    load_weights(m, k, v);
    FOR(p, PARTS) r_shared[(((warp * MW + m) * KSB + k - KREG) * PARTS + p) * 32 + lane] = make_uint4(v[p][0], v[p][1], v[p][2], v[p][3]);
  }
  for (int i = threadIdx.x; i < Z_BYTES / 4; i += THREADS) ((u32*)z_buffer)[i] = 0;
  float carried[NF][S][2], vectors[some(V)], vector_grad[some(V)];
  const bool real_unit = u0 + l.row < H;
  FOR(k, V) { vectors[k] = real_unit ? read(&d.vectors[(size_t)k * H + u0 + l.row]) : 0.f; vector_grad[k] = 0.f; }
  FOR(f, NF) FOR(k, S) FOR(j, 2) {
    const int n = b0 + (kw + f * KW) * 8 + l.col + j;
    carried[f][k][j] = n < B && real_unit && kw + f * KW < NT && d.last_grad[k] ? read(&d.last_grad[k][(size_t)n * H + u0 + l.row]) : 0.f;
  }
#if EXCHANGE == CLUSTER
  const address barrier[2] = {shared_address(&barriers[0]), shared_address(&barriers[1])};
  if (threadIdx.x == 0) { barrier_init(barrier[0]); barrier_init(barrier[1]); }
#endif
  __syncthreads();
#if EXCHANGE == CLUSTER
  cluster_sync();
#endif

  Raw next[NF][INPUTS];
  Step coming;
  auto load_step = [&](int position) {  // the position-th step that forward took
    const int t = d.reverse ? steps - 1 - position : position;
    coming = step_at(args, d, t);
    Step last = {0, 0};
    if (position > 0) last = step_at(args, d, d.reverse ? t + 1 : t - 1);
    FOR(f, NF) {
      const int nt = kw + f * KW, n0 = b0 + nt * 8;
      if (nt >= NT) continue;
      auto rows = [&](const io* tensor, int width, int place) {
        return load([&](int n) { return tensor && n < coming.count ? in_row(tensor, coming.row + n, width * H) + place * H : (const io*)0; }, n0, u0, l);
      };
      FOR(k, K) next[f][k] = rows(d.saved, K, k);
      FOR(k, S) {
        if (BEFORE_USED[k])
          next[f][K + k] = load([&](int n) {
            return n >= coming.count ? (const io*)0 : n < last.count ? in_row((const io*)d.kept[k], last.row + n, H) : in_row(d.start[k], n, H); }, n0, u0, l);
        if (NOW_USED[k]) next[f][K + S + k] = rows(d.kept[k], 1, 0);
        next[f][K + 2 * S + k] = rows(d.step_grad[k], 1, 0);
      }
      FOR(m, M) next[f][K + 3 * S + m] = rows(d.masks, M, m);
    }
  };
  // what arrived of grad h for a unit and two batch rows, sent in the s-th step of this loop
  auto arrived = [&](int s, int nt) {
    float2 sum = make_float2(0.f, 0.f);
#if EXCHANGE == L2
    const uint4* from = args.mail + ((((size_t)(s & 1) * (gridDim.x / CL) + group) * CL + block) * SLOTS * HC + uw * 8 + l.row) * (NB / 2) + (nt * 8 + l.col) / 2;
    for (int i0 = 0; i0 < SLOTS; i0 += 8) {
      uint4 v[8];
      FOR(i, 8) if (i0 + i < SLOTS) v[i] = peek(from + (size_t)(i0 + i) * HC * (NB / 2));
      FOR(i, 8) {
        if (i0 + i >= SLOTS) continue;
        v[i] = await_flags(from + (size_t)(i0 + i) * HC * (NB / 2), v[i], s, args.status);
        sum.x += __uint_as_float(v[i].x);
        sum.y += __uint_as_float(v[i].z);
      }
    }
    __syncwarp();  // lanes waited for different times, and what follows is for the whole warp
#else
    FOR(i, SLOTS) {
      const float2 v = *(const float2*)&slots[(((s & 1) * SLOTS + i) * HC + uw * 8 + l.row) * NB + nt * 8 + l.col];
      sum.x += v.x;
      sum.y += v.y;
    }
#endif
    return sum;
  };
  load_step(steps - 1);
  for (int s = 0; s < steps; s++) {
    const int now = s & 1;
    const Step at = coming;
    float2 given[NF][INPUTS];
    FOR(f, NF) FOR(i, INPUTS) {
      const bool used = i < K || i >= K + 2 * S || (i < K + S ? BEFORE_USED[i - K < S ? i - K : 0] : NOW_USED[i - K - S >= 0 && i - K - S < S ? i - K - S : 0]);
      if (used && kw + f * KW < NT) given[f][i] = pair(next[f][i]);
    }
    if (s + 1 < steps) load_step(steps - 2 - s);
    // 1. grad h of all blocks has arrived
#if EXCHANGE == CLUSTER
    if (s > 0) barrier_wait(barrier[now], ((s - 1) / 2) & 1, args.status);
    if (threadIdx.x == 0) barrier_expect(barrier[now ^ 1], SLOTS * HC * NB * 4);
#elif EXCHANGE == LOCAL
    __syncthreads();
#endif
    // 2. the cell, backward
    FOR(f, NF) {
      const int nt = KW == 1 ? f : kw + f * KW, n0 = b0 + nt * 8;
      if (nt >= NT) continue;
      float z_grad[P][2];
      float2 part = make_float2(0.f, 0.f);
      if (s > 0) part = arrived(s, nt);
      FOR(j, 2) {
        float save[some(K)], before[S], after[S], grad[S], mask[some(M)], by_z[P], by_before[S], by_vector[some(V)];
        FOR(k, K) save[k] = j ? given[f][k].y : given[f][k].x;
        FOR(k, S) {
          before[k] = !BEFORE_USED[k] ? 0.f : j ? given[f][K + k].y : given[f][K + k].x;
          after[k] = !NOW_USED[k] ? 0.f : j ? given[f][K + S + k].y : given[f][K + S + k].x;
          grad[k] = carried[f][k][j] + (j ? given[f][K + 2 * S + k].y : given[f][K + 2 * S + k].x);
        }
        grad[0] += j ? part.y : part.x;
        FOR(m, M) mask[m] = j ? given[f][K + 3 * S + m].y : given[f][K + 3 * S + m].x;
        cell_backward(save, before, after, grad, mask, vectors, by_z, by_before, by_vector);
        const bool active = n0 + l.col + j < at.count && real_unit;
#if MEASURE
        if (active) FOR(k, S) in_row(d.arriving, at.row + n0 + l.col + j, S * H)[k * H + u0 + l.row] = grad[k];
#endif
        FOR(k, S) carried[f][k][j] = active ? by_before[k] : grad[k];
        FOR(p, P) z_grad[p][j] = active ? by_z[p] : 0.f;
        FOR(k, V) vector_grad[k] += active ? by_vector[k] : 0.f;
      }
      FOR(p, P_H) {
        u32 parts[PARTS];
        split2(parts, z_grad[P - P_H + p][0], z_grad[P - P_H + p][1]);
        FOR(x, PARTS)
          *(u32*)&z_buffer[((now * PARTS + x) * NB + nt * 8 + l.row) * LDZ + p * HC + uw * 8 + l.col] = transpose8x8(parts[x]);
      }
      FOR(p, P)
        store([&](int n) { return n < at.count ? in_row(d.grad_z, at.row + n, P * H) + p * H : (io*)0; }, n0, u0, l, z_grad[p][0], z_grad[p][1]);
    }
    __syncthreads();
    // 3. R^T grad z, on its way to the blocks that own the units
    const bits16* const z_now = z_buffer + now * PARTS * NB * LDZ;
    if (multiplies) { FOR(nt, NT) {
      float acc[MW][4];
      FOR(m, MW) FOR(j, 4) acc[m][j] = 0.f;
      u32 b[PARTS][4];
      auto load_z = [&](int k) {
        FOR(p, PARTS) ldmatrix4(b[p], &z_now[(p * NB + nt * 8 + lane % 8) * LDZ + (ks * KTB + k) * 16 + lane / 8 * 8]);
      };
      FOR(k2, KREG / 2) {
        load_z(k2 * 2);
        FOR(half, 2) FOR(m, MW) FOR(x, PRODUCTS)
          mma(acc[m], r_held[m][k2 * 2 + half][LEFT[x]], b[RIGHT[x]][half * 2], b[RIGHT[x]][half * 2 + 1]);
      }
      ROLLED for (int k = KREG; k < KTB; k += 2) {
        load_z(k);
        FOR(half, 2) FOR(m, MW) {
          u32 a[PARTS][4];
          FOR(p, PARTS) {
            const uint4 v = r_shared[(((warp * MW + m) * KSB + k + half - KREG) * PARTS + p) * 32 + lane];
            a[p][0] = v.x; a[p][1] = v.y; a[p][2] = v.z; a[p][3] = v.w;
          }
          FOR(x, PRODUCTS) mma(acc[m], a[LEFT[x]], b[RIGHT[x]][half * 2], b[RIGHT[x]][half * 2 + 1]);
        }
      }
      FOR(m, MW) FOR(hi, 2) {
        const int first = (wm + m * WM) * 16 + hi * 8, to = first / HC, unit = first % HC + l.row, n = nt * 8 + l.col;
        if (first >= HP) continue;
#if EXCHANGE == CLUSTER
        const address slot = shared_address(&slots[(((now ^ 1) * SLOTS + block * KSPLIT + ks) * HC + unit) * NB + n]);
        send8(mapa(slot, to), mapa(barrier[now ^ 1], to), __float_as_uint(acc[m][hi * 2]), __float_as_uint(acc[m][hi * 2 + 1]));
#elif EXCHANGE == L2
        uint4* box = args.mail + ((((size_t)(now ^ 1) * (gridDim.x / CL) + group) * CL + to) * SLOTS + block * KSPLIT + ks) * HC * (NB / 2);
        post4(&box[(unit * NB + n) / 2], __float_as_uint(acc[m][hi * 2]), __float_as_uint(acc[m][hi * 2 + 1]), s + 1);
#else
        *(float2*)&slots[(((now ^ 1) * SLOTS + ks) * HC + unit) * NB + n] = make_float2(acc[m][hi * 2], acc[m][hi * 2 + 1]);
#endif
      }
    }}
  }
#if EXCHANGE == CLUSTER
  barrier_wait(barrier[steps & 1], ((steps - 1) / 2) & 1, args.status);
#elif EXCHANGE == LOCAL
  __syncthreads();
#endif
  FOR(f, NF) {
    const int nt = KW == 1 ? f : kw + f * KW;
    if (nt >= NT) continue;
    const float2 part = arrived(steps, nt);
    carried[f][0][0] += part.x;
    carried[f][0][1] += part.y;
    FOR(k, S) store([&](int n) { return n < B ? &d.start_grad[k][(size_t)n * H] : (io*)0; }, b0 + nt * 8, u0, l, carried[f][k][0], carried[f][k][1]);
  }
  FOR(k, V) {
    float sum = vector_grad[k];
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (lane % 4 == 0 && real_unit) d.vector_grad[((size_t)(tile * KW + kw) * V + k) * H + u0 + l.row] = sum;
  }
#if EXCHANGE == CLUSTER
  cluster_sync();
#endif
}
