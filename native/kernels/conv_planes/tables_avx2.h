/* The tables of conv_planes on AVX2.
 *
 * Codes are cut into digits of one or two planes (bf_digit_planes). Half a byte of the weights (layout NIBBLES) is 4 channels of a
 * one-plane digit or 2 channels of a two-plane digit, and indexes a table of 16 byte sums of products, which the activations of the same
 * channels choose. So 4 channels cost one byte shuffle where the weights have one plane, whatever the activations are, and two shuffles
 * where they have two; pair by pair of planes it would be 2 and 4. Sums are biased to be >= 0.
 */
#ifndef BITFOLD_KERNELS_CONV_PLANES_TABLES_AVX2_H_
#define BITFOLD_KERNELS_CONV_PLANES_TABLES_AVX2_H_

#include "kernels/simd_avx2.h"

namespace {

enum Digit { kBit, kPair, kTrit };  // 0, 1; 0 to 3; -1, 0, 1 as (negative, non-zero)

constexpr int planes_of(Digit digit) { return digit == kBit ? 1 : 2; }
constexpr int largest(Digit digit) { return digit == kPair ? 3 : 1; }
constexpr int value(Digit digit, int field) { return digit == kTrit ? (field == 3 ? -1 : field & 1) : field; }

/* What the digits a and w make of one step: the channels of a lookup and the bits of a row number. */
constexpr int channels_of(Digit w) { return w == kBit ? 4 : 2; }
constexpr int row_field(Digit a, Digit w) { return planes_of(a) == 2 || planes_of(w) == 2 ? 2 : 1; }
constexpr int rows_of(Digit a, Digit w) { return 1 << channels_of(w) * row_field(a, w); }
constexpr int bias_of(Digit a, Digit w) { return a == kTrit || w == kTrit ? channels_of(w) * largest(a) * largest(w) : 0; }
constexpr int most_of(Digit a, Digit w) { return 255 / (channels_of(w) * largest(a) * largest(w) + bias_of(a, w)) / 2 * 2; }

template <int kRows>
struct Rows {
  uint8_t sum[kRows][16];
};

template <Digit kA, Digit kW>
constexpr Rows<rows_of(kA, kW)> make_rows() {
  Rows<rows_of(kA, kW)> rows = {};
  const int step = row_field(kA, kW), w_step = planes_of(kW);
  for (int a = 0; a < rows_of(kA, kW); ++a)
    for (int w = 0; w < 16; ++w) {
      int sum = bias_of(kA, kW);
      for (int c = 0; c < channels_of(kW); ++c)
        sum += value(kA, a >> c * step & ((1 << planes_of(kA)) - 1)) * value(kW, w >> c * w_step & ((1 << w_step) - 1));
      rows.sum[a][w] = static_cast<uint8_t>(sum);
    }
  return rows;
}

/* Eight bytes of each plane -> where their rows begin in the table, in bytes: 16 of them, or 32 if the weights have two planes. */
typedef void (*StageFn)(const uint8_t* px, int64_t plane_bytes, int32_t words, uint16_t* rows);

struct Rule {
  const uint8_t* table;  // rows of 16 bytes
  StageFn stage;
  int32_t bias, most;      // of one lookup; lookups that a byte counter holds, even
  int32_t rows_per_word;   // lookups for 32 channels
};

/* 1 to 4 words; the lanes of others are 0. */
BF_INLINE __m128i load_words(const uint8_t* px, int32_t words) {
  return _mm_maskload_epi32((const int*)px, _mm_cmpgt_epi32(_mm_set1_epi32(words), _mm_setr_epi32(0, 1, 2, 3)));
}

/* Bit i of byte b -> bit 2 i (+ shift) of the 16 bits b; in[0]: bytes 0 to 7, in[1]: bytes 8 to 15. */
BF_INLINE void spread(__m128i bytes, int shift, __m128i (&out)[2]) {
  const __m128i nibble = _mm_set1_epi8(15);
  const __m128i table = _mm_slli_epi16(_mm_setr_epi8(0, 1, 4, 5, 16, 17, 20, 21, 64, 65, 68, 69, 80, 81, 84, 85), shift);
  const __m128i low = _mm_shuffle_epi8(table, _mm_and_si128(bytes, nibble));
  const __m128i high = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
  out[0] = _mm_unpacklo_epi8(low, high);
  out[1] = _mm_unpackhi_epi8(low, high);
}

BF_INLINE void store_rows(uint16_t* rows, __m128i numbers) {
  _mm256_storeu_si256((__m256i*)rows, _mm256_slli_epi16(_mm256_cvtepu8_epi16(numbers), 4));
}

BF_INLINE void store_nibbles(uint16_t* rows, __m128i bytes) {
  const __m128i nibble = _mm_set1_epi8(15);
  const __m128i low = _mm_and_si128(bytes, nibble), high = _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble);
  store_rows(rows, _mm_unpacklo_epi8(low, high));
  store_rows(rows + 16, _mm_unpackhi_epi8(low, high));
}

/* kA, kW: planes of the digits. */
template <int kA, int kW>
void stage(const uint8_t* px, int64_t plane_bytes, int32_t words, uint16_t* rows) {
  const __m128i first = load_words(px, words);
  if (kA == 1 && kW == 1) return store_nibbles(rows, first);
  __m128i fields[2];
  spread(first, kA - 1, fields);
  if (kA == 2) {
    __m128i low[2];
    spread(load_words(px + plane_bytes, words), 0, low);
    for (int i = 0; i < 2; ++i) fields[i] = _mm_or_si128(fields[i], low[i]);
  }
  for (int i = 0; i < 2; ++i) {
    if (kW == 1) store_rows(rows + 16 * i, fields[i]);
    else store_nibbles(rows + 32 * i, fields[i]);
  }
}

template <Digit kA, Digit kW>
struct RuleOf {
  alignas(64) static constexpr Rows<rows_of(kA, kW)> rows = make_rows<kA, kW>();
  static constexpr Rule rule = {rows.sum[0], stage<planes_of(kA), planes_of(kW)>, bias_of(kA, kW), most_of(kA, kW), kW == kBit ? 8 : 16};
};

/* [activations][weights] */
constexpr Rule kRules[3][3] = {{RuleOf<kBit, kBit>::rule, RuleOf<kBit, kPair>::rule, RuleOf<kBit, kTrit>::rule},
                               {RuleOf<kPair, kBit>::rule, RuleOf<kPair, kPair>::rule, RuleOf<kPair, kTrit>::rule},
                               {RuleOf<kTrit, kBit>::rule, RuleOf<kTrit, kPair>::rule, RuleOf<kTrit, kTrit>::rule}};

}  // namespace

#endif
