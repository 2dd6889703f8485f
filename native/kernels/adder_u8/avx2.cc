#include "kernels/adder_u8/adder_u8.h"
#include "kernels/simd_avx2.h"

static constexpr int kPixels = 7;

typedef __m256i Octet;
struct Weights { __m256i q[2]; };  // output channels 0-3, 4-7
typedef __m256i Sums;              // 0 1 4 5 | 2 3 6 7

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
BF_INLINE Sums sums_zero() { return _mm256_setzero_si256(); }
/* A sum of 8 differences fits 16 bits and leaves 48 empty: packing two registers of them into one costs a shuffle and saves an addition.
 * Additions share their ports with vpsadbw, shuffles have one of their own. */
BF_INLINE void sums_add(Sums& acc, Octet a, const Weights& w) {
  acc = _mm256_add_epi32(acc, _mm256_packus_epi32(_mm256_sad_epu8(a, w.q[0]), _mm256_sad_epu8(a, w.q[1])));
}
BF_INLINE void sums_store(int32_t* eight, const Sums& s) {
  _mm256_storeu_si256((__m256i*)eight, _mm256_permute4x64_epi64(s, 0xd8));
}

#include "kernels/adder_u8/tiles.h"

extern "C" void adder_u8_s32_7x16_avx2(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  adder_u8_blocks(args, y0, y1, b0, b1);
}
