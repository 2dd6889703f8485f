#include "kernels/conv_i8/conv_i8.h"
#include "kernels/simd_neon.h"

static constexpr int kPixels = 3;
static constexpr int kBlocks = 1;

#include "kernels/conv_i8/tiles.h"

namespace {

/* Every AArch64 multiplies int8 by int8 only: bytes above 127 are taken as byte - 128, which flipping their highest bit does. */
struct SignedBytes {
  struct Weights { int8x16_t q[4]; };
  uint8x16_t flip;

  explicit SignedBytes(const bf_conv_args* args) : flip(vdupq_n_u8(args->in_bytes.max > 127 ? 128 : 0)) {}
  __attribute__((always_inline)) int32_t offset() const { return vgetq_lane_u8(flip, 0); }
  BF_INLINE Weights load(const int8_t* w) { return Weights{{vld1q_s8(w), vld1q_s8(w + 16), vld1q_s8(w + 32), vld1q_s8(w + 48)}}; }
  __attribute__((always_inline)) int8x16_t four(const uint8_t* bytes) const {
    uint32_t four;
    __builtin_memcpy(&four, bytes, 4);
    return vreinterpretq_s8_u8(veorq_u8(vreinterpretq_u8_u32(vdupq_n_u32(four)), flip));
  }
};

/* The four products of every channel summed apart in int16. short_steps is for twice as large sums, and for bytes up to 255 where they are
 * flipped, so it holds here too. */
struct ShortDot : SignedBytes {
  struct Sum { int16x8_t h[8]; };
  static constexpr bool kShort = true;
  using SignedBytes::SignedBytes;
  BF_INLINE Sum zero() {
    const int16x8_t z = vdupq_n_s16(0);
    return Sum{{z, z, z, z, z, z, z, z}};
  }
  __attribute__((always_inline)) Sum step(Sum sum, const uint8_t* bytes, const Weights& w) const {
    const int8x16_t u = four(bytes);
    for (int i = 0; i < 4; ++i) {
      sum.h[2 * i] = vmlal_s8(sum.h[2 * i], vget_low_s8(u), vget_low_s8(w.q[i]));
      sum.h[2 * i + 1] = vmlal_high_s8(sum.h[2 * i + 1], u, w.q[i]);
    }
    return sum;
  }
  BF_INLINE vi widen(vi d, const Sum& sum) {
    for (int i = 0; i < 4; ++i) d.q[i] = vaddq_s32(d.q[i], vpaddq_s32(vpaddlq_s16(sum.h[2 * i]), vpaddlq_s16(sum.h[2 * i + 1])));
    return d;
  }
};

/* Any bytes: a product fits int16 (at most 128 * 128), pairs are summed in int32. */
struct WideDot : SignedBytes {
  struct Sum { int32x4_t s[8]; };
  static constexpr bool kShort = false;
  using SignedBytes::SignedBytes;
  BF_INLINE Sum zero() {
    const int32x4_t z = vdupq_n_s32(0);
    return Sum{{z, z, z, z, z, z, z, z}};
  }
  __attribute__((always_inline)) Sum step(Sum sum, const uint8_t* bytes, const Weights& w) const {
    const int8x16_t u = four(bytes);
    for (int i = 0; i < 4; ++i) {
      sum.s[2 * i] = vpadalq_s16(sum.s[2 * i], vmull_s8(vget_low_s8(u), vget_low_s8(w.q[i])));
      sum.s[2 * i + 1] = vpadalq_s16(sum.s[2 * i + 1], vmull_high_s8(u, w.q[i]));
    }
    return sum;
  }
  BF_INLINE vi widen(vi d, const Sum& sum) {
    for (int i = 0; i < 4; ++i) d.q[i] = vaddq_s32(d.q[i], vpaddq_s32(sum.s[2 * i], sum.s[2 * i + 1]));
    return d;
  }
};

}  // namespace

extern "C" void conv_i8_s32_3x16_neon(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  if (args->in_bytes.short_steps > 2) conv_i8_blocks(args, ShortDot(args), y0, y1, b0, b1);
  else conv_i8_blocks(args, WideDot(args), y0, y1, b0, b1);
}
