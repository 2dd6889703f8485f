/* Popcount tiles on AVX-512 VPOPCNTDQ: up to 8 pixels x 16 output channels, one load of weights for all pixels, and per pixel and word
 * an xor (or and) with the broadcast activation word, a popcount and an addition: 3 vector operations for 512 products. */
#ifndef BITFOLD_KERNELS_POPCOUNT_AVX512_H_
#define BITFOLD_KERNELS_POPCOUNT_AVX512_H_

#include "kernels/simd_avx512.h"

static constexpr int kPixels = 8;
static constexpr int kBlocks = 1;
static constexpr int kWeightBlocks = 1;

#include "kernels/popcount_conv.h"

template <bool kXor, int P>
static void count_tile(const Tile& t, const void* weights, int32_t, vi (*counts)[kPixels]) {
  const int32_t* w = (const int32_t*)weights;
  __m512i acc[P];
  BF_UNROLL
  for (int p = 0; p < P; ++p) acc[p] = _mm512_setzero_si512();
  for_each_run<P>(t, [&](const uint8_t* const(&px)[P], int64_t bytes) __attribute__((always_inline)) {
    for (int64_t k = 0; k < bytes; k += 4, w += 16) {
      const __m512i weight = _mm512_load_si512(w);
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m512i a = _mm512_set1_epi32(*(const int32_t*)(px[p] + k));
        acc[p] = _mm512_add_epi32(acc[p], _mm512_popcnt_epi32(kXor ? _mm512_xor_si512(weight, a) : _mm512_and_si512(weight, a)));
      }
    }
  });
  BF_UNROLL
  for (int p = 0; p < P; ++p) counts[0][p] = acc[p];
}

#endif
