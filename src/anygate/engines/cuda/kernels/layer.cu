// What all kernels share: a layer's tensors, and the rows of its time steps. PARTS is 1 for tensors of 16 bits, 0 for
// float64, else they are float32.
#if PARTS == 1
typedef bits16 io;
__device__ __forceinline__ real read(const io* p) { return widen(*p); }
__device__ __forceinline__ void write(io* p, real v) { *p = narrow(v); }
#else
typedef real io;
__device__ __forceinline__ real read(const io* p) { return *p; }
__device__ __forceinline__ void write(io* p, real v) { *p = v; }
#endif

// [rows] is the rows of all time steps: T B, or the sum of batch sizes; offsets [T + 1] their first rows, of packs.
struct Direction {
  const io *z_x, *weight, *bias, *vectors, *masks;  // [rows, P_X, H], [P_H H, H], [P_H H], [V, H], [rows, M, H]
  const long long* offsets;
  const io* start[S];  // [B, H]
  io* kept[S];         // [rows, H]; 0: not wanted
  io* last[S];         // [B, H]
  io* saved;           // [rows, K, H]
  const io* step_grad[S];  // [rows, H]; 0: none
  const io* last_grad[S];  // [B, H]; 0: none
  io* grad_z;              // [rows, P, H]
  io* start_grad[S];       // [B, H]
  real* vector_grad;       // [tiles KW, V, H]; of a step's kernels [B, V, H]
  real* products;          // [rows, P, H]; what measure.cu reads: z, where MEASURE is 1
  real* arriving;          // [rows, S, H]; and dL by the new states, as it came to a step
  long long reverse;
};
struct Args {
  long long T, B, first_tile, tiles;  // tiles: of a direction, in this launch
  uint4* mail;
  u32* status;
  Direction direction[2];
};

struct Step { long long row; int count; };  // the first row of a time step, and how many there are
__device__ __forceinline__ Step step_at(const Args& args, const Direction& d, int t) {
  if (d.offsets) return {d.offsets[t], (int)(d.offsets[t + 1] - d.offsets[t])};
  return {t * args.B, (int)args.B};
}
// Time steps that batch row b takes; sizes fall, so these are the first ones
__device__ __forceinline__ int steps_of(const Args& args, const Direction& d, int b) {
  if (!d.offsets) return (int)args.T;
  int low = 0, high = (int)args.T;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (step_at(args, d, middle).count > b) low = middle + 1; else high = middle;
  }
  return low;
}
template <class T> __device__ __forceinline__ T* in_row(T* tensor, long long row, int width) { return tensor + row * width; }
