/* NEON of every AArch64: widening byte multiplications into 16-bit lanes, four of which belong to one output channel. */
#include "kernels/dense_packed/dense_packed.h"
#include "kernels/simd_neon.h"

static constexpr int kRows = 2;
static constexpr int kPairedRows = 0;

#include "kernels/dense_packed/tiles.h"

/* The 16-bit sums of one register of fields (four outputs); single products, so they hold twice as many steps as short_words says. */
struct Sums {
  uint16x8_t low, high;
};

BF_INLINE void multiply_add(Sums& acc, uint8x16_t fields, uint8x16_t codes) {
  acc.low = vmlal_u8(acc.low, vget_low_u8(fields), vget_low_u8(codes));
  acc.high = vmlal_high_u8(acc.high, fields, codes);
}

/* Four neighbouring 16-bit sums make one output. */
BF_INLINE int32x4_t outputs_of(const Sums& acc) {
  return vreinterpretq_s32_u32(vpaddq_u32(vpaddlq_u16(acc.low), vpaddlq_u16(acc.high)));
}

template <int kBits, int kPlace, int P>
BF_INLINE void add_place(const FieldTile& t, int64_t word, Sums (&acc)[P][4]) {
  const uint8x16_t mask = vdupq_n_u8(Fields<kBits>::kMask);
  const int8x16_t shift = vdupq_n_s8((int8_t)(-kBits * kPlace));
  const uint8_t* codes = t.rows + (32 / kBits) * word + 4 * kPlace;
  uint8x16_t code[P];
  for (int p = 0; p < P; ++p) {
    uint32_t four;
    __builtin_memcpy(&four, codes + p * t.row_bytes, 4);
    code[p] = vreinterpretq_u8_u32(vdupq_n_u32(four));
  }
  BF_UNROLL
  for (int q = 0; q < 4; ++q) {
    const uint8x16_t packed = vreinterpretq_u8_u32(vld1q_u32(t.weights + 16 * word + 4 * q));
    const uint8x16_t fields = vandq_u8(vshlq_u8(packed, shift), mask);
    BF_UNROLL
    for (int p = 0; p < P; ++p) multiply_add(acc[p][q], fields, code[p]);
  }
}

template <int kBits, int P>
BF_INLINE void add_word(const FieldTile& t, int64_t word, int32_t places, Sums (&acc)[P][4]) {
  for_each_place<Fields<kBits>::kPlaces>(places, [&](auto place) __attribute__((always_inline)) {
    add_place<kBits, decltype(place)::value, P>(t, word, acc);
  });
}

template <int P>
BF_INLINE void clear(Sums (&acc)[P][4]) {
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < 4; ++q) acc[p][q] = Sums{vdupq_n_u16(0), vdupq_n_u16(0)};
}

template <int P>
BF_INLINE void widen(const Sums (&acc)[P][4], vi* d) {
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < 4; ++q) d[p].q[q] = vaddq_s32(d[p].q[q], outputs_of(acc[p][q]));
}

template <int kBits, int P, int B>
static void dot_tile(const FieldTile& t, vi (*d)[kRows]) {
  Sums acc[P][4];
  for (int p = 0; p < P; ++p) d[0][p] = vi_set1(0);
  for (int64_t word = 0; word < t.words;) {
    const int64_t end = word + t.short_words < t.words ? word + t.short_words : t.words;
    clear(acc);
    for (; word < end; ++word) add_word<kBits, P>(t, word, Fields<kBits>::kPlaces, acc);
    widen(acc, d[0]);
  }
  if (t.places == 0) return;
  clear(acc);
  add_word<kBits, P>(t, t.words, t.places, acc);
  widen(acc, d[0]);
}

extern "C" void dense_packed_s32_2x16_neon(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  dense_packed(args, y0, y1, b0, b1);
}
