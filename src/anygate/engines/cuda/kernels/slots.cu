// What is added up of a slot of the cell; which number a condition holds against, a cell's own text says.
struct Slot { double sum, squares; u32 low, high, near_low, near_high, flat, bad; };
__device__ __forceinline__ void count(Slot& s, real value, real slope, real argument, real steep, real split, real low, real high) {
  const bool small = f_absolute(slope) < steep;
  s.sum += value;
  s.squares += (double)value * (double)value;
  s.low += small && argument < split;
  s.high += small && argument >= split;
  s.near_low += value < low;
  s.near_high += value > high;
  s.flat += slope == 0;
  s.bad += value - value != 0;
}
