#include "kernels/conv_i8/conv_i8.h"
#include "kernels/simd_avx512.h"

static constexpr int kPixels = 7;
static constexpr int kBlocks = 2;  // 14 sums: one alone waits 4 or 5 cycles for its next step

#include "kernels/conv_i8/tiles.h"

namespace {

/* VNNI adds the four products of a lane to its int32, without saturation: any bytes, no widening. */
struct VnniDot {
  typedef vi Sum;
  typedef vi Weights;
  static constexpr bool kShort = false;
  BF_INLINE vi zero() { return vi_set1(0); }
  BF_INLINE int32_t offset() { return 0; }
  BF_INLINE vi load(const int8_t* w) { return vi_load((const int32_t*)w); }
  BF_INLINE vi step(vi sum, const uint8_t* bytes, vi w) {
    int32_t four;
    __builtin_memcpy(&four, bytes, 4);
    return _mm512_dpbusd_epi32(sum, vi_set1(four), w);
  }
  BF_INLINE vi widen(vi d, vi sum) { return vi_add(d, sum); }
};

}  // namespace

extern "C" void conv_i8_s32_7x32_avx512(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  conv_i8_blocks(args, VnniDot(), y0, y1, b0, b1);
}
