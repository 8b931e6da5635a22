// How the persistent kernels lie on the card, and how they read and write in that order.
//
// A group of CL blocks computes NB = 8 NT batch rows of one direction of a layer, over all time steps in one launch. A
// block owns HC = 8 UW hidden units; a warp holds the rows of R of 8 units (all products interleaved, so that a thread
// ends with every product of its unit) and of every KW-th part of their columns, in registers as far as they reach.
// Batch rows are the n dimension of the tensor cores' products, hidden units the m dimension.
//
// float32 (PARTS 2 or 3): R, h and grad z are sums of so many bfloat16 numbers, whose products are kept down to 2^-16
// or 2^-24. Half types (PARTS 1): the tensors are of that type; states live in float32 in registers.
constexpr int HC = UW * 8, HP = CL * HC, WARPS = UW * KW, THREADS = WARPS * 32, NB = NT * 8;
constexpr int NF = (NT + KW - 1) / KW;  // batch tiles that a warp finishes
constexpr int PRODUCTS = PARTS == 1 ? 1 : PARTS == 2 ? 3 : 6;
__device__ constexpr int LEFT[6] = {0, 0, 1, 1, 0, 2}, RIGHT[6] = {0, 1, 0, 1, 2, 0};

// A pair is the values of unit u0 + row at the batch rows n0 + col and n0 + col + 1. Tensors of 16 bits are read and
// written transposed, so that neighbouring lanes touch neighbouring units. at(n): the address of unit 0 in batch row
// n, or 0 where there is nothing to read (0 is read) or to write.
struct Raw { u32 v[PARTS == 1 ? 1 : 2]; };
struct Lane { int row, col; };
template <class At> __device__ __forceinline__ Raw load(At at, int n0, int u0, Lane l) {
  Raw r;
#if PARTS == 1
  const io* p = at(n0 + l.row);
  const int u = u0 + l.col;
  if (H % 2 == 0) r.v[0] = p && u < H ? *(const u32*)&p[u] : 0u;
  else r.v[0] = (p && u < H ? p[u] : 0u) | (p && u + 1 < H ? (u32)p[u + 1] << 16 : 0u);
#else
  FOR(j, 2) {
    const io* p = at(n0 + l.col + j);
    r.v[j] = p && u0 + l.row < H ? __float_as_uint(p[u0 + l.row]) : 0u;
  }
#endif
  return r;
}
__device__ __forceinline__ float2 pair(Raw r) {
#if PARTS == 1
  return unpack2(transpose8x8(r.v[0]));
#else
  return make_float2(__uint_as_float(r.v[0]), __uint_as_float(r.v[1]));
#endif
}
template <class At> __device__ __forceinline__ void store(At at, int n0, int u0, Lane l, float a, float b) {
#if PARTS == 1
  const u32 v = transpose8x8(pack2(a, b));
  io* p = at(n0 + l.row);
  const int u = u0 + l.col;
  if (H % 2 == 0) {
    if (p && u < H) *(u32*)&p[u] = v;
  } else {
    if (p && u < H) p[u] = (io)v;
    if (p && u + 1 < H) p[u + 1] = (io)(v >> 16);
  }
#else
  FOR(j, 2) {
    io* p = at(n0 + l.col + j);
    if (p && u0 + l.row < H) p[u0 + l.row] = j ? b : a;
  }
#endif
}
// a and b as sums of PARTS numbers of 16 bits, packed in twos
__device__ __forceinline__ void split2(u32 (&parts)[PARTS], float a, float b) {
  FOR(p, PARTS) {
    parts[p] = pack2(a, b);
    if (p + 1 < PARTS) {
      const float2 v = unpack2(parts[p]);
      a -= v.x;
      b -= v.y;
    }
  }
}
__device__ __forceinline__ float weight_at(const Direction& d, int product, int unit, int column) {
  if (product >= P_H || unit >= H || column >= H) return 0.f;
  return read(&d.weight[((size_t)H_ROW[product] * H + unit) * H + column]);
}
// A product's weights of a unit at two neighbouring columns, the first of them even
__device__ __forceinline__ void weights_at(u32 (&parts)[PARTS], const Direction& d, int product, int unit, int column) {
#if PARTS == 1
  if (H % 2 == 0) {
    const bool there = product < P_H && unit < H && column < H;
    parts[0] = there ? *(const u32*)&d.weight[((size_t)H_ROW[product] * H + unit) * H + column] : 0u;
    return;
  }
#endif
  split2(parts, weight_at(d, product, unit, column), weight_at(d, product, unit, column + 1));
}
