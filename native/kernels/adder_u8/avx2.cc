#include "kernels/adder_u8/adder_u8.h"
#include "kernels/simd_avx2.h"

static constexpr int kPixels = 6;

typedef __m256i Octet;
struct Weights { __m256i q[2]; };  // output channels 0-3, 4-7
struct Sums { __m256i q[2]; };     // the same, 64 bits each

BF_INLINE Octet octet_load(const uint8_t* p) {
  int64_t octet;
  __builtin_memcpy(&octet, p, 8);
  return _mm256_set1_epi64x(octet);
}
BF_INLINE Octet octet_load_masked(const uint8_t* p, uint64_t mask) {
  uint64_t octet;
  __builtin_memcpy(&octet, p, 8);
  return _mm256_set1_epi64x((int64_t)(octet & mask));
}
BF_INLINE Weights weights_load(const uint8_t* w) {
  return Weights{{_mm256_load_si256((const __m256i*)w), _mm256_load_si256((const __m256i*)(w + 32))}};
}
BF_INLINE Sums sums_zero() { return Sums{{_mm256_setzero_si256(), _mm256_setzero_si256()}}; }
BF_INLINE void sums_add(Sums& acc, Octet a, const Weights& w) {
  for (int k = 0; k < 2; ++k) acc.q[k] = _mm256_add_epi32(acc.q[k], _mm256_sad_epu8(a, w.q[k]));
}
/* The low halves of the eight 64-bit sums, in order. */
BF_INLINE void sums_store(int32_t* eight, const Sums& s) {
  const __m256 low = _mm256_shuffle_ps(_mm256_castsi256_ps(s.q[0]), _mm256_castsi256_ps(s.q[1]), 0x88);  // 0 1 4 5 | 2 3 6 7
  _mm256_storeu_si256((__m256i*)eight, _mm256_permute4x64_epi64(_mm256_castps_si256(low), 0xd8));
}

#include "kernels/adder_u8/tiles.h"

extern "C" void adder_u8_s32_6x16_avx2(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  adder_u8_blocks(args, y0, y1, b0, b1);
}
