/* AVX-512 VNNI: vpdpbusd adds four (unsigned byte x signed byte) products into a 32-bit lane, which is one output channel. */
#include "kernels/dense_packed/dense_packed.h"
#include "kernels/simd_avx512.h"

static constexpr int kRows = 8;
static constexpr int kPairedRows = 8;

#include "kernels/dense_packed/tiles.h"

/* One place of one word: four channels of P rows against 16 outputs of B blocks. */
template <int kBits, int kPlace, int P, int B>
BF_INLINE void add_place(const FieldTile& t, int64_t word, __m512i (&acc)[P][B]) {
  const __m512i mask = _mm512_set1_epi8(Fields<kBits>::kMask);
  __m512i fields[B];
  BF_UNROLL
  for (int k = 0; k < B; ++k)
    fields[k] = _mm512_and_si512(_mm512_srli_epi16(_mm512_load_si512(t.weights + k * t.block_words + 16 * word), kBits * kPlace), mask);
  const uint8_t* codes = t.rows + (32 / kBits) * word + 4 * kPlace;
  BF_UNROLL
  for (int p = 0; p < P; ++p) {
    int32_t four;
    __builtin_memcpy(&four, codes + p * t.row_bytes, 4);
    const __m512i code = _mm512_set1_epi32(four);
    BF_UNROLL
    for (int k = 0; k < B; ++k)
      acc[p][k] = _mm512_dpbusd_epi32(acc[p][k], code, fields[k]);
  }
}

template <int kBits, int P, int B>
BF_INLINE void add_word(const FieldTile& t, int64_t word, int32_t places, __m512i (&acc)[P][B]) {
  for_each_place<Fields<kBits>::kPlaces>(places, [&](auto place) __attribute__((always_inline)) {
    add_place<kBits, decltype(place)::value, P, B>(t, word, acc);
  });
}

template <int kBits, int P, int B>
static void dot_tile(const FieldTile& t, vi (*d)[kRows]) {
  __m512i acc[P][B];
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int k = 0; k < B; ++k) acc[p][k] = _mm512_setzero_si512();
  for (int64_t word = 0; word < t.words; ++word) add_word<kBits, P, B>(t, word, Fields<kBits>::kPlaces, acc);
  if (t.places > 0) add_word<kBits, P, B>(t, t.words, t.places, acc);
  BF_UNROLL
  for (int k = 0; k < B; ++k)
    BF_UNROLL
    for (int p = 0; p < P; ++p) d[k][p] = acc[p][k];
}

extern "C" void dense_packed_s32_8x32_avx512(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  dense_packed(args, y0, y1, b0, b1);
}
