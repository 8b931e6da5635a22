// One time step of a layer whose products are torch's: a thread for a batch row and a unit. Any H, any card, and float64.
//
// Launched for each step with the numbers of the call (`here`), or by a CUDA graph of a few steps that is launched again
// and again: its nodes are fixed, so they find those numbers and how far the call has come in memory (`there`, `base`).
constexpr int THREADS = 128;
constexpr int STEP_FORWARD_SHARED = 0, STEP_BACKWARD_SHARED = 0;

struct StepArgs {
  long long step;         // how many were taken before, or before since *base was written
  const long long* base;  // 0: step counts from the beginning
  const Args* there;      // 0: `here`
  const io* product;      // [2, B, P_H H]: R h of each direction; backward [2, B, H]: R^T grad z
  io* operand;            // [2, B, H]: h; backward [2, B, P_H H]: grad z of the products that see a state
  real* states;           // [2, S, B, H]; backward dL by them, without what comes through the products
  Args here;
};

// The place of a thread: a direction, a batch row, a unit; `there` is false for those beyond the last
struct Place {
  int side, n, u;
  long long step, row;  // row: of the tensors [2, B, ...]
  bool there;
};
__device__ __forceinline__ Place place_of(const StepArgs& a, const Args& args) {
  const long long each = (args.B * H + THREADS - 1) / THREADS, i = blockIdx.x % each * THREADS + threadIdx.x;
  const int side = (int)(blockIdx.x / each), n = (int)(i / H);
  const long long step = a.step + (a.base ? *a.base : 0);
  return {side, n, (int)(i % H), step, side * args.B + n, i < args.B * H && step < args.T};
}
