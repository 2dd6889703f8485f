#include "kernels/adder_u8/adder_u8.h"
#include "kernels/simd_avx512.h"

static constexpr int kPixels = 8;

typedef __m512i Octet;
typedef __m512i Weights;  // one register holds 8 x 8 bytes
typedef __m512i Sums;     // 64 bits for each output channel

BF_INLINE Octet octet_load(const uint8_t* p) {
  int64_t octet;
  __builtin_memcpy(&octet, p, 8);
  return _mm512_set1_epi64(octet);
}
BF_INLINE Octet octet_load_masked(const uint8_t* p, uint64_t mask) {
  uint64_t octet;
  __builtin_memcpy(&octet, p, 8);
  return _mm512_set1_epi64((int64_t)(octet & mask));
}
BF_INLINE Weights weights_load(const uint8_t* w) { return _mm512_load_si512((const void*)w); }
BF_INLINE Sums sums_zero() { return _mm512_setzero_si512(); }
BF_INLINE void sums_add(Sums& acc, Octet a, const Weights& w) { acc = _mm512_add_epi64(acc, _mm512_sad_epu8(a, w)); }
BF_INLINE void sums_store(int32_t* eight, const Sums& s) { _mm256_storeu_si256((__m256i*)eight, _mm512_cvtepi64_epi32(s)); }

#include "kernels/adder_u8/tiles.h"

extern "C" void adder_u8_s32_8x16_avx512(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  adder_u8_blocks(args, y0, y1, b0, b1);
}
