#include "kernels/conv_i8/conv_i8.h"
#include "kernels/simd_avx2.h"

static constexpr int kPixels = 6;
static constexpr int kBlocks = 1;

#include "kernels/conv_i8/tiles.h"

BF_INLINE __m256i broadcast_four(const uint8_t* p) {
  int32_t four;
  __builtin_memcpy(&four, p, 4);
  return _mm256_set1_epi32(four);
}

namespace {

/* What two of the three ways to multiply have in common: a Sum of 16 channels in two registers. */
struct Pairwise {
  typedef vi Sum;
  typedef vi Weights;
  BF_INLINE vi zero() { return vi_set1(0); }
  BF_INLINE int32_t offset() { return 0; }
  /* Held in registers: gcc would rather load them again for every pixel, and loads are what limits the tile. */
  BF_INLINE vi load(const int8_t* at) {
    vi w = vi_load((const int32_t*)at);
    __asm__("" : "+x"(w.lo), "+x"(w.hi));
    return w;
  }
};

/* Sums of two products added up in int16, two a channel: one multiplication and one addition for 32 products. */
struct ShortDot : Pairwise {
  static constexpr bool kShort = true;
  BF_INLINE vi step(vi sum, const uint8_t* bytes, vi w) {
    const __m256i u = broadcast_four(bytes);
    return vi{_mm256_add_epi16(sum.lo, _mm256_maddubs_epi16(u, w.lo)), _mm256_add_epi16(sum.hi, _mm256_maddubs_epi16(u, w.hi))};
  }
  BF_INLINE vi widen(vi d, vi sum) {
    const __m256i ones = _mm256_set1_epi16(1);
    return vi_add(d, vi{_mm256_madd_epi16(sum.lo, ones), _mm256_madd_epi16(sum.hi, ones)});
  }
};

/* The sum of two products fits int16, a few of them do not: widened at every step. */
struct MiddleDot : Pairwise {
  static constexpr bool kShort = false;
  BF_INLINE vi step(vi sum, const uint8_t* bytes, vi w) {
    const __m256i u = broadcast_four(bytes), ones = _mm256_set1_epi16(1);
    return vi_add(sum, vi{_mm256_madd_epi16(_mm256_maddubs_epi16(u, w.lo), ones), _mm256_madd_epi16(_mm256_maddubs_epi16(u, w.hi), ones)});
  }
  BF_INLINE vi widen(vi d, vi sum) { return vi_add(d, sum); }
};

/* Any bytes: channels 0 and 2, and channels 1 and 3, of a four as int16 on both sides. */
struct WideDot {
  typedef vi Sum;
  struct Weights { vi even, odd; };
  static constexpr bool kShort = false;
  BF_INLINE vi zero() { return vi_set1(0); }
  BF_INLINE int32_t offset() { return 0; }
  BF_INLINE __m256i evens(__m256i w) { return _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8); }
  BF_INLINE Weights load(const int8_t* at) {
    const vi w = vi_load((const int32_t*)at);
    return Weights{vi{evens(w.lo), evens(w.hi)}, vi{_mm256_srai_epi16(w.lo, 8), _mm256_srai_epi16(w.hi, 8)}};
  }
  BF_INLINE vi step(vi sum, const uint8_t* bytes, const Weights& w) {
    const __m256i u = broadcast_four(bytes);
    const __m256i even = _mm256_and_si256(u, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(u, 8);
    sum = vi_add(sum, vi_dot_pairs(vi{even, even}, w.even));
    return vi_add(sum, vi_dot_pairs(vi{odd, odd}, w.odd));
  }
  BF_INLINE vi widen(vi d, vi sum) { return vi_add(d, sum); }
};

}  // namespace

extern "C" void conv_i8_s32_6x16_avx2(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const int32_t steps = args->in_bytes.short_steps;
  if (steps > 2) conv_i8_blocks(args, ShortDot(), y0, y1, b0, b1);
  else if (steps > 0) conv_i8_blocks(args, MiddleDot(), y0, y1, b0, b1);
  else conv_i8_blocks(args, WideDot(), y0, y1, b0, b1);
}
