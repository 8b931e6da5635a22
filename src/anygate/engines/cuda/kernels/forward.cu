constexpr int KTW = ((H + 31) / 32 + KW - 1) / KW * 2;         // columns of R of one warp, in tiles of 16
constexpr int KS = KTW - KREG;                                 // of these in shared memory
constexpr int MT = (P_H + 1) / 2;                              // row tiles of one warp: two products each
constexpr int WIDE = (HP > KTW * KW * 16 ? HP : KTW * KW * 16) + 31 & ~31, LDH = WIDE + 8;
constexpr int H_BYTES = 2 * PARTS * NB * LDH * 2, R_BYTES = WARPS * KS * PARTS * MT * 512;
constexpr int SUM_BYTES = KW > 1 ? WARPS * NT * MT * 512 : 0;
constexpr int FORWARD_SHARED = H_BYTES + R_BYTES + SUM_BYTES + 16;

extern "C" __global__ void __launch_bounds__(THREADS, 1) forward(const __grid_constant__ Args args) {
  SHARED(shared);
  bits16* const h_buffer = (bits16*)shared;                       // [2][PARTS][NB][LDH]
  uint4* const r_shared = (uint4*)(shared + H_BYTES);             // [WARPS][KS][PARTS][MT][32]
  float4* const sums = (float4*)(shared + H_BYTES + R_BYTES);     // [UW][KW][NT][MT][32]
  u64* const barriers = (u64*)(shared + H_BYTES + R_BYTES + SUM_BYTES);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, uw = warp % UW, kw = warp / UW;
  const Lane l = {lane / 4, lane % 4 * 2};
  const int group = blockIdx.x / CL, block = blockIdx.x % CL;
  const Direction& d = args.direction[group / args.tiles];
  const int b0 = (int)(args.first_tile + group % args.tiles) * NB, u0 = block * HC + uw * 8;
  const int steps = steps_of(args, d, b0), B = (int)args.B;

  u32 r_held[some(KREG)][PARTS][MT * 4];
  auto load_weights = [&](int k, int q, u32 (&v)[PARTS][4]) {
    FOR(j, 4) {
      const int product = 2 * q + (j & 1), column = (kw * KTW + k) * 16 + (j / 2) * 8 + l.col;
      u32 parts[PARTS];
      weights_at(parts, d, product, u0 + l.row, column);
      FOR(p, PARTS) v[p][j] = parts[p];
    }
  };
  FOR(k, KREG) FOR(q, MT) {
    u32 v[PARTS][4];
    load_weights(k, q, v);
    FOR(p, PARTS) FOR(j, 4) r_held[k][p][q * 4 + j] = v[p][j];
    IN_ORDER;
  }
  ROLLED for (int k = KREG; k < KTW; k++) FOR(q, MT) {
    u32 v[PARTS][4];
    load_weights(k, q, v);
    FOR(p, PARTS) r_shared[(((warp * KS + k - KREG) * PARTS + p) * MT + q) * 32 + lane] = make_uint4(v[p][0], v[p][1], v[p][2], v[p][3]);
  }
  for (int i = threadIdx.x; i < H_BYTES / 4; i += THREADS) ((u32*)h_buffer)[i] = 0;
  __syncthreads();
  for (int i = threadIdx.x; i < NB * (WIDE / 2); i += THREADS) {
    const int n = i / (WIDE / 2), u = i % (WIDE / 2) * 2;
    if (b0 + n >= B || u >= H) continue;
    const io* h = &d.start[0][(size_t)(b0 + n) * H + u];
    u32 parts[PARTS];
    split2(parts, read(h), u + 1 < H ? read(h + 1) : 0.f);
    FOR(p, PARTS) *(u32*)&h_buffer[(p * NB + n) * LDH + u] = parts[p];
  }
  float state[NF][S][2], vectors[some(V)], bias[some(P - P_X)];
  const bool real_unit = u0 + l.row < H;
  FOR(k, V) vectors[k] = real_unit ? read(&d.vectors[(size_t)k * H + u0 + l.row]) : 0.f;
  FOR(k, P - P_X) bias[k] = real_unit && d.bias ? read(&d.bias[(size_t)H_ROW[P_H - (P - P_X) + k] * H + u0 + l.row]) : 0.f;
  FOR(f, NF) FOR(k, S) FOR(j, 2) {
    const int n = b0 + (kw + f * KW) * 8 + l.col + j;
    state[f][k][j] = n < B && real_unit && kw + f * KW < NT ? read(&d.start[k][(size_t)n * H + u0 + l.row]) : 0.f;
  }
#if EXCHANGE == CLUSTER
  const address barrier[2] = {shared_address(&barriers[0]), shared_address(&barriers[1])};
  if (threadIdx.x == 0) { barrier_init(barrier[0]); barrier_init(barrier[1]); }
#endif
  __syncthreads();
#if EXCHANGE == CLUSTER
  cluster_sync();
#endif

  Raw next[NF][some(P_X + M)];
  Step coming;
  auto load_step = [&](int s) {
    coming = step_at(args, d, d.reverse ? steps - 1 - s : s);
    FOR(f, NF) {
      const int nt = kw + f * KW, n0 = b0 + nt * 8;
      if (nt >= NT) continue;
      FOR(p, P_X)
        next[f][p] = load([&](int n) { return n < coming.count ? in_row(d.z_x, coming.row + n, P_X * H) + X_ROW[p] * H : (const io*)0; }, n0, u0, l);
      FOR(m, M)
        next[f][P_X + m] = load([&](int n) { return n < coming.count ? in_row(d.masks, coming.row + n, M * H) + m * H : (const io*)0; }, n0, u0, l);
    }
  };
  load_step(0);
  for (int s = 0; s < steps; s++) {
    const int now = s & 1;
    const Step at = coming;
    float2 given[NF][some(P_X + M)];
    FOR(f, NF) FOR(p, P_X + M) if (kw + f * KW < NT) given[f][p] = pair(next[f][p]);
    if (s + 1 < steps) load_step(s + 1);
    // 1. h of the step before, of all blocks, lies in h_buffer[now]
    bits16* const h_now = h_buffer + now * PARTS * NB * LDH;
#if EXCHANGE == CLUSTER
    if (s > 0) barrier_wait(barrier[now], ((s - 1) / 2) & 1, args.status);
    if (threadIdx.x == 0 && s + 1 < steps) barrier_expect(barrier[now ^ 1], PARTS * NB * HP * 2);
#else
#if EXCHANGE == L2
    constexpr int LETTERS = PARTS * NB * HP / 4, EACH = (LETTERS + THREADS - 1) / THREADS;
    if (s > 0) {
      const uint4* box = args.mail + ((size_t)now * (gridDim.x / CL) + group) * LETTERS;
      for (int i0 = 0; i0 < EACH; i0 += 8) {
        uint4 v[8];
        FOR(i, 8) if ((i0 + i) * THREADS + (int)threadIdx.x < LETTERS) v[i] = peek(&box[(i0 + i) * THREADS + threadIdx.x]);
        FOR(i, 8) {
          const int letter = (i0 + i) * THREADS + threadIdx.x, n = letter / (HP / 4), u = letter % (HP / 4) * 4;
          if (letter >= LETTERS) continue;
          v[i] = await_flags(&box[letter], v[i], s, args.status);
          *(uint2*)&h_now[n * LDH + u] = {v[i].x, v[i].z};
        }
      }
    }
#endif
    __syncthreads();
#endif
    // 2. R h
    float acc[NT][MT][2][4];
    FOR(nt, NT) FOR(q, MT) FOR(j, 8) acc[nt][q][j / 4][j & 3] = 0.f;
    auto multiply = [&](int k, const u32 (&a)[2][PARTS][MT * 4]) {  // by the tiles k and k + 1 of this warp's columns
      FOR(nt, NT) {
        u32 b[PARTS][4];
        FOR(p, PARTS) ldmatrix4(b[p], &h_now[(p * NB + nt * 8 + lane % 8) * LDH + (kw * KTW + k) * 16 + lane / 8 * 8]);
        FOR(half, 2) FOR(x, PRODUCTS) FOR(q, MT) mma(acc[nt][q][half], &a[half][LEFT[x]][q * 4], b[RIGHT[x]][half * 2], b[RIGHT[x]][half * 2 + 1]);
      }
    };
    FOR(k2, KREG / 2) {
      u32 a[2][PARTS][MT * 4];
      FOR(half, 2) FOR(p, PARTS) FOR(i, MT * 4) a[half][p][i] = r_held[k2 * 2 + half][p][i];
      multiply(k2 * 2, a);
    }
    _Pragma("unroll 2") for (int k = KREG; k < KTW; k += 2) {
      u32 a[2][PARTS][MT * 4];
      FOR(half, 2) FOR(p, PARTS) FOR(q, MT) {
        const uint4 v = r_shared[(((warp * KS + k + half - KREG) * PARTS + p) * MT + q) * 32 + lane];
        a[half][p][q * 4] = v.x; a[half][p][q * 4 + 1] = v.y; a[half][p][q * 4 + 2] = v.z; a[half][p][q * 4 + 3] = v.w;
      }
      multiply(k, a);
    }
#if KW > 1
    FOR(nt, NT) FOR(q, MT) {
      const float* one = acc[nt][q][0]; const float* two = acc[nt][q][1];
      sums[(((uw * KW + kw) * NT + nt) * MT + q) * 32 + lane] = make_float4(one[0] + two[0], one[1] + two[1], one[2] + two[2], one[3] + two[3]);
    }
    __syncthreads();
#endif
    // 3. the cell, and h on its way to all blocks
    FOR(f, NF) {
      const int nt = KW == 1 ? f : kw + f * KW, n0 = b0 + nt * 8;
      if (nt >= NT) continue;
      float z_h[MT][4];
#if KW > 1
      FOR(q, MT) FOR(j, 4) z_h[q][j] = 0.f;
      FOR(w, KW) FOR(q, MT) {
        const float4 v = sums[(((uw * KW + w) * NT + nt) * MT + q) * 32 + lane];
        z_h[q][0] += v.x; z_h[q][1] += v.y; z_h[q][2] += v.z; z_h[q][3] += v.w;
      }
#else
      FOR(q, MT) FOR(j, 4) z_h[q][j] = acc[f][q][0][j] + acc[f][q][1][j];
#endif
      float saved[some(K)][2];
      FOR(j, 2) {
        float z[P], before[S], mask[some(M)], new_state[S], save[some(K)];
        FOR(p, P) {
          z[p] = p < P_X ? (j ? given[f][p < P_X ? p : 0].y : given[f][p < P_X ? p : 0].x) : bias[p < P_X ? 0 : p - P_X];
          const int of_h = p - (P - P_H);
          if (of_h >= 0) z[p] += z_h[of_h < 0 ? 0 : of_h / 2][(of_h & 1) * 2 + j];
        }
        FOR(k, S) before[k] = state[f][k][j];
        FOR(m, M) mask[m] = j ? given[f][P_X + m].y : given[f][P_X + m].x;
        cell_forward(z, before, mask, vectors, new_state, save);
        const bool active = n0 + l.col + j < at.count && real_unit;
#if MEASURE
        if (active) FOR(p, P) in_row(d.products, at.row + n0 + l.col + j, P * H)[p * H + u0 + l.row] = z[p];
#endif
        FOR(k, S) state[f][k][j] = active ? new_state[k] : before[k];
        FOR(k, K) saved[k][j] = save[k];
      }
      if (s + 1 < steps) {
        u32 parts[PARTS];
        split2(parts, state[f][0][0], state[f][0][1]);
        FOR(p, PARTS) {
          const u32 h = transpose8x8(parts[p]);  // batch row l.row, units l.col and l.col + 1
          const int place = p * NB + nt * 8;
#if EXCHANGE == CLUSTER
          u32 line[4];
          FOR(j, 4) line[j] = __shfl_sync(~0u, h, lane % 8 * 4 + j);
          const address to = shared_address(&h_buffer[((now ^ 1) * PARTS * NB + place + lane % 8) * LDH + u0]);
          FOR(r, (CL + 3) / 4) {
            const int rank = r * 4 + lane / 8;
            if (rank < CL) send16(mapa(to, rank), mapa(barrier[now ^ 1], rank), line);
          }
#elif EXCHANGE == L2
          uint4* box = args.mail + ((size_t)(now ^ 1) * (gridDim.x / CL) + group) * LETTERS;
          post2((uint2*)box + ((place + l.row) * HP + u0 + l.col) / 2, h, s + 1);
#else
          *(u32*)&h_buffer[((now ^ 1) * PARTS * NB + place + l.row) * LDH + u0 + l.col] = h;
#endif
        }
      }
      FOR(k, S)
        if (d.kept[k])
          store([&](int n) { return n < at.count ? in_row(d.kept[k], at.row + n, H) : (io*)0; }, n0, u0, l, state[f][k][0], state[f][k][1]);
#if SAVE
      FOR(k, K)
        store([&](int n) { return n < at.count ? in_row(d.saved, at.row + n, K * H) + k * H : (io*)0; }, n0, u0, l, saved[k][0], saved[k][1]);
#endif
    }
  }
  FOR(f, NF) FOR(k, S) {
    const int nt = kw + f * KW;
    if (nt < NT) store([&](int n) { return n < B ? &d.last[k][(size_t)n * H] : (io*)0; }, b0 + nt * 8, u0, l, state[f][k][0], state[f][k][1]);
  }
#if EXCHANGE == CLUSTER
  cluster_sync();
#endif
}
