// The functions of formulas that are not one operation of the machine, in float32, within 4 ulp over
// the whole range, infinities, NaN and zeros of both signs included (tests/cuda/test_functions.py).
//
// They are made of machine instructions and of functions that CUDA and every C library have: expm1f,
// logf, log1pf, erff, sinf, cosf, sinhf, coshf, asinhf, atanf (CUDA documents 1 to 3 ulp for them),
// floorf, rintf.
// The two approximate instructions, of which the hot ones are made, are documented as within 2^-22.5
// (ex2.approx) and 1 ulp (rcp.approx); the tests' emulator puts errors of that size into them.
// Products whose rounding is put back are __fmul_rn, which no compiler joins with a sum.

typedef unsigned int u32;
#define INFINITE __uint_as_float(0x7f800000u)

#ifndef EMULATED
__device__ __forceinline__ float ex2(float x) { float y; asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
__device__ __forceinline__ float rcp(float x) { float y; asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
#endif

__device__ __forceinline__ float f_maximum(float a, float b) { return a > b || a != a ? a : b; }
__device__ __forceinline__ float f_minimum(float a, float b) { return a < b || a != a ? a : b; }
__device__ __forceinline__ float f_clip(float x, float low, float high) { return f_minimum(f_maximum(x, low), high); }
// x within [low, high], NaN stays NaN
__device__ __forceinline__ float held(float x, float low, float high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}
__device__ __forceinline__ float f_sign(float x) { return x > 0.f ? 1.f : x < 0.f ? -1.f : x + 0.f; }
__device__ __forceinline__ float f_rounded(float x) { return rintf(x); }
__device__ __forceinline__ float f_absolute(float x) { return fabsf(x); }
__device__ __forceinline__ float f_sqrt(float x) { return sqrtf(x); }

// 2^(x log2 e), with what the product's rounding took put back
__device__ __forceinline__ float f_exp(float x) {
  x = held(x, -104.f, 89.f);
  const float t = __fmul_rn(x, 1.44269502f);
  const float rest = fmaf(x, 1.92596303e-8f, fmaf(x, 1.44269502f, -t));
  const float y = ex2(t);
  return y == INFINITE ? y : fmaf(y, rest * 0.693147182f, y);
}
__device__ __forceinline__ float f_sigmoid(float x) {
  const float e = f_exp(-fabsf(x));
  return (x >= 0.f ? 1.f : e) * rcp(1.f + e);
}
// x + x^3 p(x^2) near 0, else 1 - 2/(exp(2|x|) + 1)
__device__ __forceinline__ float f_tanh(float x) {
  const float size = fabsf(x), square = size * size;
  float p = 2.26950180e-3f;
  p = fmaf(p, square, -8.32318700e-3f);
  p = fmaf(p, square, 2.17625033e-2f);
  p = fmaf(p, square, -5.39584607e-2f);
  p = fmaf(p, square, 1.33332998e-1f);
  p = fmaf(p, square, -3.33333343e-1f);
  const float far = fmaf(-2.f, rcp(f_exp(2.f * size) + 1.f), 1.f);
  return copysignf(size < 0.625f ? fmaf(size * square, p, size) : far, x);
}
__device__ __forceinline__ float f_softplus(float x) { return f_maximum(x, 0.f) + log1pf(f_exp(-fabsf(x))); }
// exp(-scale x^2), scale 1 or 1/2, with what the square's rounding took put back
__device__ __forceinline__ float bell(float x, float scale) {
  const float square = __fmul_rn(x, x), rest = fmaf(x, x, -square);
  const float t = __fmul_rn(square, -1.44269502f * scale);
  float low = fmaf(square, -1.44269502f * scale, -t);
  low = fmaf(square, -1.92596303e-8f * scale, low);
  low = fmaf(rest, -1.44269502f * scale, low);
  const float y = ex2(t);
  return fmaf(y, low * 0.693147182f, y);
}
__device__ __forceinline__ float f_gaussian(float x) { return bell(held(x, -40.f, 40.f), 1.f); }
__device__ __forceinline__ float f_normal_pdf(float x) { return bell(held(x, -60.f, 60.f), 0.5f) * 0.398942280f; }
// The same without the approximate instruction, for products of several factors: exp of -scale x^2 = n ln 2 + r
// by its Taylor series
__device__ __forceinline__ float exact_bell(float x, float scale) {
  const float square = __fmul_rn(x, x), rest = fmaf(x, x, -square), whole = -scale * square;
  const float n = rintf(whole * 1.44269502f);
  const float r = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, whole)) - scale * rest;
  float p = 1.98412698e-4f;
  p = fmaf(p, r, 1.38888889e-3f);
  p = fmaf(p, r, 8.33333377e-3f);
  p = fmaf(p, r, 4.16666679e-2f);
  p = fmaf(p, r, 1.66666672e-1f);
  p = fmaf(p, r, 0.5f);
  const int half = (int)n / 2, other = (int)n - half;  // 2^n in two factors: it may be subnormal
  const float value = 1.f + fmaf(r * r, p, r);
  return value * __uint_as_float((u32)(half + 127) << 23) * __uint_as_float((u32)(other + 127) << 23);
}
// exp(a^2) erfc(a) for a in [0, 10.3], as g(q)/(a + 2) with a polynomial in q = (a - 2)/(a + 2), fitted
// to 0.14 ulp. It hardly changes with a, so that rounding of a does little harm
__device__ __forceinline__ float scaled_erfc(float a) {
  const float d = a + 2.f, lost = a - (d - 2.f), first = rcp(d);
  const float r = fmaf(first, fmaf(-first, lost, fmaf(-first, d, 1.f)), first), q = fmaf(-4.f, r, 1.f);
  float g = 6.45794353e-05f;
  g = fmaf(g, q, 4.02803853e-05f);
  g = fmaf(g, q, -5.87842718e-04f);
  g = fmaf(g, q, -8.24137358e-04f);
  g = fmaf(g, q, 3.06113600e-03f);
  g = fmaf(g, q, 6.47266721e-03f);
  g = fmaf(g, q, -2.15055346e-02f);
  g = fmaf(g, q, -3.64412926e-02f);
  g = fmaf(g, q, 2.79471755e-01f);
  g = fmaf(g, q, -6.87160730e-01f);
  g = fmaf(g, q, 1.02158272e+00f);
  return g * r;
}
__device__ __forceinline__ float f_erfc(float x) {
  const float size = held(fabsf(x), 0.f, 10.3f), tail = scaled_erfc(size) * exact_bell(size, 1.f);
  const float value = x < 0.f ? 2.f - tail : tail;
  return size < 0.45f ? 1.f - erff(x) : value;
}
// Of exp(-x^2/2) exactly and of the scaled erfc at a rounded |x|/sqrt 2
__device__ __forceinline__ float f_normal_cdf(float x) {
  const float size = held(fabsf(x), 0.f, 14.5f);
  const float tail = 0.5f * scaled_erfc(size * 0.707106769f) * exact_bell(size, 0.5f);
  return x > 0.f ? 1.f - tail : tail;
}
__device__ __forceinline__ float f_hypot(float x, float y) {
  x = fabsf(x);
  y = fabsf(y);
  const float large = f_maximum(x, y), small = f_minimum(x, y), ratio = small / large;
  const float length = large * sqrtf(fmaf(ratio, ratio, 1.f));
  return large == INFINITE || large == 0.f ? large : length;
}
__device__ __forceinline__ float one_at_infinity(float x, float value) { return fabsf(x) == INFINITE ? copysignf(1.f, x) : value; }
__device__ __forceinline__ float f_isru(float x) { return one_at_infinity(x, x / f_hypot(x, 1.f)); }
__device__ __forceinline__ float f_softsign(float x) { return one_at_infinity(x, x / (1.f + fabsf(x))); }
