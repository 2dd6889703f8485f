/* conv_b1 on AVX2 for one output pixel that reads one input pixel: a Linear of one row.
 *
 * Every weight is used once, so tables would be looked up for each of them. Instead bits of the same weight are counted by full adders:
 * three numbers of one bit give two, eight bytes of channels give one byte of eights that is looked up, and what is left of lower
 * weight waits for the next eight. 6 operations for 256 products, where lookups take 7, three of them on two of the four ports.
 */
#ifndef BITFOLD_KERNELS_CONV_B1_ROW_AVX2_H_
#define BITFOLD_KERNELS_CONV_B1_ROW_AVX2_H_

#include "kernels/popcount_avx2.h"

namespace {

/* Bits seen so far of weight 1, 2 and 4, and how many of weight 8, in bytes; 32 output channels. */
struct Adder {
  __m256i ones, twos, fours, eights;
};

/* Adds a and b to sum, and returns what is carried. */
BF_INLINE __m256i carry(__m256i& sum, __m256i a, __m256i b) {
  const __m256i differ = _mm256_xor_si256(a, b), both = _mm256_and_si256(a, b);
  const __m256i carried = _mm256_or_si256(both, _mm256_and_si256(differ, sum));
  sum = _mm256_xor_si256(differ, sum);
  return carried;
}

/* The ones of each byte. */
BF_INLINE __m256i ones_of(__m256i bits) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(bits, nibble)),
                         _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble)));
}

/* Adds the ones of eight registers of weights w xor the activations a. */
BF_INLINE void add_eight(Adder& s, const __m256i (&a)[8], const uint8_t* w) {
  const auto bits = [&](int i) __attribute__((always_inline)) { return _mm256_xor_si256(a[i], _mm256_load_si256((const __m256i*)(w + 32 * i))); };
  const __m256i two_a = carry(s.ones, bits(0), bits(1)), two_b = carry(s.ones, bits(2), bits(3));
  const __m256i four_a = carry(s.twos, two_a, two_b);
  const __m256i two_c = carry(s.ones, bits(4), bits(5)), two_d = carry(s.ones, bits(6), bits(7));
  const __m256i four_b = carry(s.twos, two_c, two_d);
  s.eights = _mm256_add_epi8(s.eights, ones_of(carry(s.fours, four_a, four_b)));
}

BF_INLINE __m256i broadcast_byte(const uint8_t* a) { return _mm256_set1_epi8((char)*a); }

constexpr int32_t kMostEights = 31;  // times 8 that a byte of eights holds

/* D of V x 32 output channels: activations a, weights w in the layout BYTES. */
template <int V>
__attribute__((noinline)) void row_tile(const uint8_t* a, int32_t channels, const uint8_t* w, int64_t pair_bytes, TileSums d) {
  const int32_t bytes = (channels + 7) / 8;
  const __m256i zero = _mm256_setzero_si256();
  Adder adders[V];
  __m256i eights[1][V][2], rest[1][V][2];
  for (int v = 0; v < V; ++v) {
    adders[v] = Adder{zero, zero, zero, zero};
    eights[0][v][0] = eights[0][v][1] = rest[0][v][0] = rest[0][v][1] = zero;
  }
  int32_t k = 0;
  while (bytes - k >= 8) {
    for (const int32_t end = bytes - k < 8 * kMostEights ? k + (bytes - k) / 8 * 8 : k + 8 * kMostEights; k < end; k += 8) {
      __m256i x[8];
      BF_UNROLL
      for (int i = 0; i < 8; ++i) x[i] = broadcast_byte(a + k + i);
      for (int v = 0; v < V; ++v) add_eight(adders[v], x, w + v * pair_bytes + 32 * k);
    }
    __m256i counts[1][V];
    for (int v = 0; v < V; ++v) counts[0][v] = adders[v].eights, adders[v].eights = zero;
    add_bytes<1, V>(counts, eights);
  }
  __m256i counts[1][V];
  for (int v = 0; v < V; ++v) {
    const __m256i high = _mm256_add_epi8(ones_of(adders[v].twos), _mm256_slli_epi16(ones_of(adders[v].fours), 1));
    counts[0][v] = _mm256_add_epi8(ones_of(adders[v].ones), _mm256_slli_epi16(high, 1));
    for (int32_t i = k; i < bytes; ++i) {
      const __m256i weights = _mm256_load_si256((const __m256i*)(w + v * pair_bytes + 32 * i));
      counts[0][v] = _mm256_add_epi8(counts[0][v], ones_of(_mm256_xor_si256(broadcast_byte(a + i), weights)));
    }
  }
  add_bytes<1, V>(counts, rest);
  for (int v = 0; v < V; ++v) {
    for (int h = 0; h < 2; ++h) rest[0][v][h] = _mm256_add_epi16(rest[0][v][h], _mm256_slli_epi16(eights[0][v][h], 3));
    vi first, second;
    widen(rest[0][v], first, second);
    d[2 * v][0] = vi_sub(vi_set1(channels), vi_add(first, first));
    d[2 * v + 1][0] = vi_sub(vi_set1(channels), vi_add(second, second));
  }
}

}  // namespace

#endif
