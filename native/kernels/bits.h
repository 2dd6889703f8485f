/* Helpers of the scalar kernels for packed codes. C99. */
#ifndef BITFOLD_KERNELS_BITS_H_
#define BITFOLD_KERNELS_BITS_H_

#include <stdint.h>

static inline int32_t bf_popcount32(uint32_t v) {
  v = v - ((v >> 1) & 0x55555555u);
  v = (v & 0x33333333u) + ((v >> 2) & 0x33333333u);
  v = (v + (v >> 4)) & 0x0f0f0f0fu;
  return (int32_t)((v * 0x01010101u) >> 24);
}

/* `count` (1 to 32) bits of a packed row from bit `first` on; reads no word beyond the last bit. */
static inline uint32_t bf_bits_at(const uint32_t* words, int32_t first, int32_t count) {
  const int32_t shift = first & 31;
  const uint32_t* word = words + (first >> 5);
  uint32_t bits = word[0] >> shift;
  if (shift + count > 32) bits |= word[1] << (32 - shift);
  return count == 32 ? bits : bits & ((1u << count) - 1u);
}

/* min(count - done, 32): how many bits the next word of a row of `count` holds. */
static inline int32_t bf_bits_left(int32_t count, int32_t done) { return count - done < 32 ? count - done : 32; }

#endif
