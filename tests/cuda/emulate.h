// CUDA's language as far as anygate's kernels use it, for a C++ compiler of this machine: every thread of a
// launch is a fiber. Which warp runs next, how far, and when a message between blocks arrives is drawn from a
// seed, so a barrier that is missing shows as a result that is wrong or changes with the seed, and one too
// many as a deadlock, which ends the process.
#pragma once
#include <setjmp.h>
#include <ucontext.h>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>
#define EMULATED
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__
typedef unsigned int u32;
struct uint2 { u32 x, y; };
struct uint4 { u32 x, y, z, w; };
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
inline uint4 make_uint4(u32 a, u32 b, u32 c, u32 d) { return {a, b, c, d}; }
inline float2 make_float2(float a, float b) { return {a, b}; }
inline float4 make_float4(float a, float b, float c, float d) { return {a, b, c, d}; }
inline u32 __float_as_uint(float f) { u32 u; memcpy(&u, &f, 4); return u; }
inline float __uint_as_float(u32 u) { float f; memcpy(&f, &u, 4); return f; }
inline double __longlong_as_double(long long u) { double f; memcpy(&f, &u, 8); return f; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __fmul_rn(float a, float b) { return a * b; }
// The machine's approximate instructions, with errors that reach the documented size (2^-22.5 of the result's power
// of two, 1 ulp), of a sign that the bits give. Where the machine is exact (powers of two) this is too.
inline float off_by(double y, double units) {
  const float nearest = (float)y;
  const u32 bits = __float_as_uint(nearest);
  if (!(std::isfinite(nearest) && std::fabs(nearest) > 2e-38f) || nearest == y) return nearest;
  const double error = ldexp(units, ilogb(nearest) - 23);
  return (float)((bits * 2654435761u) >> 31 ? y + error : y - error);
}
inline float ex2(float x) { return off_by(exp2((double)x), 1.414 - 0.5); }
inline float rcp(float x) { return off_by(1. / (double)x, 0.5); }

#ifdef EXCHANGE
inline u32 pack_bits(float f) {
#if HALF == 0
  _Float16 h = (_Float16)f; uint16_t bits; memcpy(&bits, &h, 2); return bits;
#else
  u32 u = __float_as_uint(f); return std::isnan(f) ? 0x7fff : (u + 0x7fff + ((u >> 16) & 1)) >> 16;
#endif
}
inline float unpack_bits(u32 bits) {
#if HALF == 0
  uint16_t b = (uint16_t)bits; _Float16 h; memcpy(&h, &b, 2); return (float)h;
#else
  return __uint_as_float(bits << 16);
#endif
}
inline float widen(unsigned short bits) { return unpack_bits(bits); }
inline unsigned short narrow(float f) { return (unsigned short)pack_bits(f); }
inline u32 pack2(float a, float b) { return pack_bits(a) | pack_bits(b) << 16; }
inline float2 unpack2(u32 v) { return {unpack_bits(v & 0xffff), unpack_bits(v >> 16)}; }

namespace emulate {
enum { FINE, DEADLOCK, LEFT_OVER, GAVE_UP };
struct Barrier { u32 size = 0, arrived = 0, generation = 0; };
struct Mbarrier { uintptr_t place; u32 phase = 0; int pending = 1; long bytes = 0; void settle() { if (pending == 0 && bytes == 0) { pending = 1; phase ^= 1; } } };
struct Warp { Barrier barrier; uint64_t slot[2][32][6]; };
struct Block { unsigned char *raw, *shared; Barrier barrier; std::vector<Warp> warps; std::vector<Mbarrier> mbarriers; u32 index; };
struct Message { void* to; u32 words[4]; int count; Mbarrier* counts; };
struct Fiber { jmp_buf place; ucontext_t start; char* stack = nullptr; Block* block; u32 thread, turn; bool started, done; const volatile u32* word; u32 value; };
inline std::vector<Fiber*> pool;       // with their stacks, kept from launch to launch
inline std::vector<Block> blocks;      // those that run together
inline std::vector<Message> messages;
inline Barrier together;
inline Fiber* self;
inline jmp_buf scheduler;
inline void (*body)();
inline size_t shared_bytes;
inline u32 block_count, failure;
inline uint64_t random_state;
inline u32 draw() { random_state ^= random_state << 13; random_state ^= random_state >> 7; random_state ^= random_state << 17; return (u32)(random_state >> 16); }
// until *word is no longer value; 0: until it is this thread's turn again
inline void pause(const volatile u32* word, u32 value) {
  self->word = word; self->value = value;
  if (!_setjmp(self->place)) _longjmp(scheduler, 1);
}
inline void fail(u32 reason) { failure = reason; pause(nullptr, 0); }
inline void arrive(Barrier& b) {
  const u32 generation = b.generation;
  if (++b.arrived == b.size) { b.arrived = 0; b.generation++; return; }
  pause(&b.generation, generation);
}
inline void begin() { body(); self->done = true; _longjmp(scheduler, 1); }
inline Warp& warp() { return self->block->warps[self->thread / 32]; }
// every lane gives some words and sees those of all lanes
inline uint64_t (*exchange(std::initializer_list<uint64_t> words))[6] {
  auto& slot = warp().slot[self->turn ^= 1];
  int i = 0; for (uint64_t w : words) slot[self->thread % 32][i++] = w;
  arrive(warp().barrier);
  return slot;
}
inline void deliver() {
  const size_t k = draw() % messages.size();
  const Message m = messages[k];
  messages[k] = messages.back(); messages.pop_back();
  memcpy(m.to, m.words, m.count * 4);
  if (m.counts) { m.counts->bytes -= m.count * 4; m.counts->settle(); }
}
inline void run_together(u32 first, u32 count, u32 threads) {
  blocks.assign(count, Block());
  together = Barrier(); together.size = count * threads;
  size_t used = 0;
  for (u32 b = 0; b < count; b++) {
    Block& block = blocks[b];
    block.raw = (unsigned char*)malloc(shared_bytes + 128); memset(block.raw, 0xA5, shared_bytes + 128);
    block.shared = block.raw + (128 - (uintptr_t)block.raw % 128) % 128;
    block.barrier.size = threads; block.warps.resize(threads / 32); block.index = first + b;
    for (auto& w : block.warps) w.barrier.size = 32;
    for (u32 t = 0; t < threads; t++, used++) {
      if (used == pool.size()) { pool.push_back(new Fiber()); pool[used]->stack = (char*)malloc(128 << 10); }
      Fiber& f = *pool[used];
      f.block = &block; f.thread = t; f.turn = 0; f.started = f.done = false; f.word = nullptr;
      getcontext(&f.start); f.start.uc_stack.ss_sp = f.stack; f.start.uc_stack.ss_size = 128 << 10; f.start.uc_link = nullptr;
      makecontext(&f.start, begin, 0);
    }
  }
  auto can_run = [](const Fiber& f) { return !f.done && (!f.word || *f.word != f.value); };
  const u32 warps = (u32)used / 32;
  size_t left = used; u32 idle = 0, late = draw() % warps;
  while (left && failure == FINE) {
    while (!messages.empty() && draw() % 4) deliver();
    const u32 w = draw() % warps;
    // One warp is late for a while, until nothing else can go on: it is overtaken wherever that is possible.
    if (draw() % 512 == 0) late = draw() % warps;
    if (w == late && idle <= 2 * warps) { idle++; continue; }
    bool moved, any = false;
    do {
      moved = false;
      const u32 turn = draw();
      for (u32 i = 0; i < 32 && failure == FINE; i++) {
        Fiber& f = *pool[w * 32 + (i + turn) % 32];
        if (!can_run(f)) continue;
        f.word = nullptr; self = &f; moved = any = true;
        if (!_setjmp(scheduler)) { if (f.started) _longjmp(f.place, 1); f.started = true; setcontext(&f.start); }
        left -= f.done;
      }
    } while (moved && failure == FINE && draw() % 8);
    idle = any ? 0 : idle + 1;
    if (idle > 4 * warps && messages.empty()) {
      bool could = false; for (u32 i = 0; i < used; i++) could |= can_run(*pool[i]);
      if (!could) failure = DEADLOCK;
    }
  }
  if (failure == FINE && !messages.empty()) failure = LEFT_OVER;  // a letter that nobody waited for
  messages.clear();
  for (auto& b : blocks) free(b.raw);
}
// blocks run `count` at a time, as many as may wait for each other
inline u32 launch(u32 grid, u32 count, u32 threads, size_t shared, u32 seed, void (*kernel)()) {
  body = kernel; shared_bytes = shared; failure = FINE; random_state = 0x9E3779B97F4A7C15ull * (seed + 1);
  block_count = grid;
  for (u32 first = 0; first < grid && failure == FINE; first += count) run_together(first, count, threads);
  return failure;
}
}  // namespace emulate
struct dim { u32 x; };
#define threadIdx (dim{emulate::self->thread})
#define blockIdx (dim{emulate::self->block->index})
#define gridDim (dim{emulate::block_count})
#define SHARED(name) unsigned char* const name = emulate::self->block->shared
typedef uintptr_t address;
inline void __syncthreads() { emulate::arrive(emulate::self->block->barrier); }
inline void __syncwarp() { emulate::arrive(emulate::warp().barrier); }
inline u32 __shfl_sync(u32, u32 v, int from) { return (u32)emulate::exchange({v})[from][0]; }
inline float __shfl_xor_sync(u32, float v, int mask) { return __uint_as_float((u32)emulate::exchange({__float_as_uint(v)})[emulate::self->thread % 32 ^ mask][0]); }
inline double __shfl_xor_sync(u32, double v, int mask) { uint64_t u; memcpy(&u, &v, 8); u = emulate::exchange({u})[emulate::self->thread % 32 ^ mask][0]; memcpy(&v, &u, 8); return v; }
inline u32 transpose8x8(u32 v) {
  auto s = emulate::exchange({v}); int lane = emulate::self->thread % 32, row = lane / 4; u32 r = 0;
  for (int j = 0; j < 2; j++) { int col = lane % 4 * 2 + j; r |= (u32)((s[col * 4 + row / 2][0] >> (row % 2 * 16)) & 0xffff) << (16 * j); }
  return r;
}
inline void ldmatrix4(u32 (&r)[4], const void* p) {
  auto s = emulate::exchange({(uint64_t)p}); int lane = emulate::self->thread % 32;
  if ((uintptr_t)p % 16) emulate::fail(emulate::GAVE_UP);
  for (int m = 0; m < 4; m++) memcpy(&r[m], (char*)s[m * 8 + lane / 4][0] + lane % 4 * 4, 4);
}
inline void mma(float (&d)[4], const u32* a, u32 b0, u32 b1) {
  auto s = emulate::exchange({a[0], a[1], a[2], a[3], b0, b1}); int lane = emulate::self->thread % 32;
  float left[2][16], right[2][16];
  for (int i = 0; i < 2; i++) for (int k = 0; k < 16; k += 2) {
    float2 v = unpack2((u32)s[lane / 4 * 4 + k % 8 / 2][k / 8 * 2 + i]), w = unpack2((u32)s[(lane % 4 * 2 + i) * 4 + k % 8 / 2][4 + k / 8]);
    left[i][k] = v.x; left[i][k + 1] = v.y; right[i][k] = w.x; right[i][k + 1] = w.y;
  }
  for (int i = 0; i < 4; i++) { float sum = 0; for (int k = 0; k < 16; k++) sum += left[i / 2][k] * right[i % 2][k]; d[i] += sum; }
}
inline address shared_address(const void* p) { return (address)p; }
inline void give_up(u32*, u32) { emulate::fail(emulate::GAVE_UP); }
inline uint4 peek(const uint4* p) { return *p; }
inline uint4 await_flags(const uint4* p, uint4 v, u32 flag, u32* status) {
  while (v.y != flag || v.w != flag) { emulate::pause(v.y != flag ? &p->y : &p->w, v.y != flag ? v.y : v.w); v = *p; }
  return v;
}
inline void post2(uint2* p, u32 data, u32 flag) { emulate::messages.push_back({p, {data, flag}, 2, nullptr}); }
inline void post4(uint4* p, u32 a, u32 b, u32 flag) { emulate::messages.push_back({p, {a, flag, b, flag}, 4, nullptr}); }
inline void cluster_sync() { emulate::arrive(emulate::together); }
inline address mapa(address a, u32 rank) { return a - (address)emulate::self->block->shared + (address)emulate::blocks[rank].shared; }
inline emulate::Mbarrier& mbarrier_at(address a) {
  for (auto& b : emulate::blocks) for (auto& m : b.mbarriers) if (m.place == a) return m;
  abort();
}
inline void barrier_init(address a) { auto& list = emulate::self->block->mbarriers; list.reserve(4); list.push_back({a}); }
inline void barrier_expect(address a, u32 bytes) { auto& m = mbarrier_at(a); m.bytes += bytes; m.pending--; m.settle(); }
inline void barrier_wait(address a, u32 parity, u32*) { auto& m = mbarrier_at(a); while (m.phase == parity) emulate::pause(&m.phase, parity); }
inline void send16(address to, address bar, const u32 (&v)[4]) { emulate::messages.push_back({(void*)to, {v[0], v[1], v[2], v[3]}, 4, &mbarrier_at(bar)}); }
inline void send8(address to, address bar, u32 a, u32 b) { emulate::messages.push_back({(void*)to, {a, b}, 2, &mbarrier_at(bar)}); }
#endif
