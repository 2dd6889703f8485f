/* What popcount tiles on AVX2 share: byte counters of up to 12 pixels x 16, 6 x 32 or 6 x 64 output channels.
 *
 * AVX2 has no popcount, but a byte shuffle looks up 16 entries at once: half a byte of the weights indexes a table that the activations
 * choose. Weights lie as one byte of 32 output channels in a register; splitting their nibbles is shared by all pixels of a tile. */
#ifndef BITFOLD_KERNELS_POPCOUNT_AVX2_H_
#define BITFOLD_KERNELS_POPCOUNT_AVX2_H_

#include "kernels/simd_avx2.h"

static constexpr int kPixels = 12;
static constexpr int kBlocks = 8;
static constexpr int kWeightBlocks = 2;

#include "kernels/popcount_conv.h"

namespace {

/* acc += x, in place: gcc 12 renames accumulators across iterations otherwise, and spills them. */
BF_INLINE void add_in_place(__m256i& acc, __m256i x) { asm("vpaddb %1, %0, %0" : "+x"(acc) : "x"(x)); }

/* Keeps the compiler from mixing what stands before and after, which would take more registers than there are. */
BF_INLINE void keep_apart() { asm volatile("" ::: "memory"); }

/* acc += what V registers of weights, from pair_bytes to pair_bytes, look up in the tables of P pixels: their low nibbles in table(p, 0), their
 * high ones in table(p, 1), which point to 16 entries each. */
template <int P, int V, typename Table>
BF_INLINE void add_lookups(const uint8_t* w, int64_t pair_bytes, const Table& table, __m256i (&acc)[P][V]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  BF_UNROLL
  for (int half = 0; half < 2; ++half) {
    __m256i index[V];
    BF_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m256i weights = _mm256_load_si256((const __m256i*)(w + v * pair_bytes));
      index[v] = _mm256_and_si256(half ? _mm256_srli_epi16(weights, 4) : weights, nibble);
    }
    BF_UNROLL
    for (int p = 0; p < P; ++p) {
      const __m256i entries = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)table(p, half)));
      BF_UNROLL
      for (int v = 0; v < V; ++v) add_in_place(acc[p][v], _mm256_shuffle_epi8(entries, index[v]));
    }
    keep_apart();
  }
}

/* sums[..][0]: channels 0-7 and 16-23 of a register of 32, [1]: the others. */
template <int P, int V>
BF_INLINE void add_bytes(const __m256i (&acc)[P][V], __m256i (&sums)[P][V][2]) {
  const __m256i zero = _mm256_setzero_si256();
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int v = 0; v < V; ++v) {
      sums[p][v][0] = _mm256_add_epi16(sums[p][v][0], _mm256_unpacklo_epi8(acc[p][v], zero));
      sums[p][v][1] = _mm256_add_epi16(sums[p][v][1], _mm256_unpackhi_epi8(acc[p][v], zero));
    }
}

/* 16-bit sums of 32 output channels, as add_bytes leaves them, and their 32-bit form. */
BF_INLINE void widen(const __m256i (&sums)[2], vi& first, vi& second) {
  const __m256i a = sums[0], b = sums[1];
  first = vi{_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)), _mm256_cvtepu16_epi32(_mm256_castsi256_si128(b))};
  second = vi{_mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1)), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(b, 1))};
}

}  // namespace

#endif
