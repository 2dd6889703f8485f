/* Popcount tiles on AVX-512 VPOPCNTDQ: up to 8 pixels x 16 output channels, one load of weights for all pixels. Per pixel and word an
 * operation with the broadcast activation word, a popcount and an addition: 3 vector operations for 512 products, also of ternary weights
 * with binary activations (one vpternlog takes both planes); 6 if both are ternary. */
#ifndef BITFOLD_KERNELS_POPCOUNT_AVX512_H_
#define BITFOLD_KERNELS_POPCOUNT_AVX512_H_

#include "kernels/simd_avx512.h"

static constexpr int kPixels = 8;
static constexpr int kBlocks = 1;
static constexpr int kWeightBlocks = 1;

#include "kernels/popcount_conv.h"

BF_INLINE __m512i word_at(const uint8_t* px) { return _mm512_set1_epi32(*(const int32_t*)px); }

static constexpr int kAndXor = 0x60;  // vpternlog: first and (second xor third)

/* acc += the ones of (a xor w) or (a and w). */
template <bool kXor, int P>
BF_INLINE void count_pairs(const Tile& t, const void* weights, __m512i (&acc)[P]) {
  const int32_t* w = (const int32_t*)weights;
  for_each_run<P>(t, [&](const uint8_t* const(&px)[P], int64_t bytes) __attribute__((always_inline)) {
    for (int64_t k = 0; k < bytes; k += 4, w += 16) {
      const __m512i weight = _mm512_load_si512(w);
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m512i a = word_at(px[p] + k);
        acc[p] = _mm512_add_epi32(acc[p], _mm512_popcnt_epi32(kXor ? _mm512_xor_si512(weight, a) : _mm512_and_si512(weight, a)));
      }
    }
  });
}

/* acc += the ones of: non-zero and (a xor negative). */
template <int P>
BF_INLINE void count_ternary_by_binary(const Tile& t, const void* weights, __m512i (&acc)[P]) {
  const uint8_t* w = (const uint8_t*)weights;
  for_each_run<P>(t, [&](const uint8_t* const(&px)[P], int64_t bytes) __attribute__((always_inline)) {
    for (int64_t k = 0; k < bytes; k += 4, w += 64) {
      const __m512i negative = _mm512_load_si512(w), non_zero = _mm512_load_si512(w + t.weight_plane);
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m512i differ = _mm512_ternarylogic_epi32(non_zero, word_at(px[p] + k), negative, kAndXor);
        acc[p] = _mm512_add_epi32(acc[p], _mm512_popcnt_epi32(differ));
      }
    }
  });
}

/* acc += products of two ternary codes. */
template <int P>
BF_INLINE void count_ternary(const Tile& t, const void* weights, __m512i (&acc)[P]) {
  const uint8_t* w = (const uint8_t*)weights;
  __m512i minus[P];
  BF_UNROLL
  for (int p = 0; p < P; ++p) minus[p] = _mm512_setzero_si512();
  for_each_run<P>(t, [&](const uint8_t* const(&px)[P], int64_t bytes) __attribute__((always_inline)) {
    for (int64_t k = 0; k < bytes; k += 4, w += 64) {
      const __m512i negative = _mm512_load_si512(w), non_zero = _mm512_load_si512(w + t.weight_plane);
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m512i both = _mm512_and_si512(non_zero, word_at(px[p] + k + t.plane_bytes));
        const __m512i differ = _mm512_ternarylogic_epi32(both, word_at(px[p] + k), negative, kAndXor);
        acc[p] = _mm512_add_epi32(acc[p], _mm512_popcnt_epi32(both));
        minus[p] = _mm512_add_epi32(minus[p], _mm512_popcnt_epi32(differ));
      }
    }
  });
  BF_UNROLL
  for (int p = 0; p < P; ++p) acc[p] = _mm512_sub_epi32(acc[p], _mm512_slli_epi32(minus[p], 1));
}

template <Pairs kPairs, int P>
static void count_tile(const Tile& t, const void* weights, int32_t, TileSums counts) {
  __m512i acc[P];
  BF_UNROLL
  for (int p = 0; p < P; ++p) acc[p] = _mm512_setzero_si512();
  if constexpr (kPairs == Pairs::kXor) count_pairs<true, P>(t, weights, acc);
  else if constexpr (kPairs == Pairs::kAnd) count_pairs<false, P>(t, weights, acc);
  else if constexpr (kPairs == Pairs::kTernaryByBinary) count_ternary_by_binary<P>(t, weights, acc);
  else count_ternary<P>(t, weights, acc);
  BF_UNROLL
  for (int p = 0; p < P; ++p) counts[0][p] = acc[p];
}

#endif
