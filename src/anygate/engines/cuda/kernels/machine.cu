// What the kernels ask of the machine: conversions, tensor-core products, and messages between blocks. Those that need
// sm_80 are for the persistent kernels; EXCHANGE == CLUSTER needs sm_90. tests/cuda/emulate.h has the same functions for a CPU.
typedef unsigned long long u64;
typedef unsigned short bits16;  // a number of 16 bits: bfloat16, or float16 where HALF is 0
#if PARTS == 0
typedef double real;  // what cells are computed in
#else
typedef float real;
#endif
#define FOR(i, n) _Pragma("unroll") for (int i = 0; i < (n); i++)
// no later load is begun before here: hundreds at once would take the registers that they are for
#define IN_ORDER asm volatile("" ::: "memory")
#define ROLLED _Pragma("unroll 1")
#define LOCAL 0
#define CLUSTER 1
#define L2 2
constexpr int some(int n) { return n > 0 ? n : 1; }  // the size of an array that may have no element

#ifndef EMULATED
#define SHARED(name) extern __shared__ __align__(128) unsigned char name[]
typedef u32 address;  // in shared memory

#if HALF == 0
#define MMA_TYPE "f16"
__device__ __forceinline__ u32 pack2(float a, float b) { u32 v; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a)); return v; }
__device__ __forceinline__ float2 unpack2(u32 v) {
  float2 r;
  asm("{ .reg .f16 a, b;\n mov.b32 {a, b}, %2;\n cvt.f32.f16 %0, a;\n cvt.f32.f16 %1, b; }" : "=f"(r.x), "=f"(r.y) : "r"(v));
  return r;
}
#else
#define MMA_TYPE "bf16"
__device__ __forceinline__ u32 pack2(float a, float b) { u32 v; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a)); return v; }
__device__ __forceinline__ float2 unpack2(u32 v) { return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u)); }
#endif
// One number, on cards before sm_80 too
__device__ __forceinline__ float widen(bits16 v) { return unpack2(v).x; }
__device__ __forceinline__ bits16 narrow(float f) {
#if HALF == 0
  bits16 v;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(v) : "f"(f));
  return v;
#else
  const u32 u = __float_as_uint(f);
  return f != f ? 0x7fff : (bits16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
#endif
}

// These three are for a whole warp: never call them where some of its threads may not come.
__device__ __forceinline__ u32 transpose8x8(u32 v) {
  u32 r;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(v));
  return r;
}
__device__ __forceinline__ address shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void ldmatrix4(u32 (&r)[4], const void* p) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(p)) : "memory");
}
__device__ __forceinline__ void mma(float (&d)[4], const u32* a, u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." MMA_TYPE "." MMA_TYPE ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Every wait has a bound, of some seconds: a kernel that hangs costs the user the machine. `status` is memory of the
// host, where the engine finds the reason after CUDA has reported the failed launch.
__device__ __forceinline__ void give_up(u32* status, u32 reason) {
  *(volatile u32*)status = reason;
  __threadfence_system();
  __trap();
}
// Time in units of 4.3 s. A wait looks at it every 4096 tries, whatever a try takes, and gives up in the fourth unit.
__device__ __forceinline__ u32 slow_clock() { u32 t; asm volatile("mov.u32 %0, %%globaltimer_hi;" : "=r"(t)); return t; }
__device__ __forceinline__ void be_patient(u32 tries, u32& since, u32* status, u32 reason) {
  if (tries % 4096 != 4095) return;
  if (tries == 4095) since = slow_clock();
  else if (slow_clock() - since > 3) give_up(status, reason);
}

#if EXCHANGE == L2
// Data and a flag go through the second-level cache in one store of 8 bytes, which no reader sees in part.
__device__ __forceinline__ uint4 peek(const uint4* p) {
  uint4 v;
  asm volatile("ld.volatile.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint4 await_flags(const uint4* p, uint4 v, u32 flag, u32* status) {
  for (u32 tries = 0, since = 0; v.y != flag || v.w != flag; tries++) {
    be_patient(tries, since, status, 1);
    v = peek(p);
  }
  return v;
}
__device__ __forceinline__ void post2(uint2* p, u32 data, u32 flag) { asm volatile("st.volatile.global.v2.u32 [%0], {%1, %2};" ::"l"(p), "r"(data), "r"(flag) : "memory"); }
__device__ __forceinline__ void post4(uint4* p, u32 a, u32 b, u32 flag) {
  asm volatile("st.volatile.global.v4.u32 [%0], {%1, %2, %3, %2};" ::"l"(p), "r"(a), "r"(flag), "r"(b) : "memory");
}
#endif

#if EXCHANGE == CLUSTER
// Stores into a neighbour's shared memory that count their bytes at a barrier there: one message one way a step.
__device__ __forceinline__ u32 mapa(u32 a, u32 rank) { u32 r; asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(rank)); return r; }
__device__ __forceinline__ void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\n barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ __forceinline__ void barrier_init(u32 b) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(b) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void barrier_expect(u32 b, u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(b), "r"(bytes) : "memory"); }
__device__ __forceinline__ void barrier_wait(u32 b, u32 parity, u32* status) {
  u32 done = 0;
  for (u32 tries = 0, since = 0; !done; tries++) {
    be_patient(tries, since, status, 2);
    asm volatile("{ .reg .pred p;\n mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n selp.u32 %0, 1, 0, p; }"
                 : "=r"(done) : "r"(b), "r"(parity) : "memory");
  }
}
__device__ __forceinline__ void send16(u32 to, u32 barrier, const u32 (&v)[4]) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];"
               ::"r"(to), "r"(v[0]), "r"(v[1]), "r"(v[2]), "r"(v[3]), "r"(barrier) : "memory");
}
__device__ __forceinline__ void send8(u32 to, u32 barrier, u32 a, u32 b) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(to), "r"(a), "r"(b), "r"(barrier) : "memory");
}
#endif
#endif  // EMULATED
