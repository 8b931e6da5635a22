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
