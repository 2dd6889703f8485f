#include "kernels/adder_u8/adder_u8.h"
#include "kernels/simd_neon.h"

static constexpr int kPixels = 4;

typedef uint8x16_t Octet;            // twice
struct Weights { uint8x16_t q[4]; };  // two output channels each
struct Sums { uint32x4_t q[4]; };     // two lanes for each output channel

BF_INLINE Octet octet_load(const uint8_t* p) {
  const uint8x8_t octet = vld1_u8(p);
  return vcombine_u8(octet, octet);
}
BF_INLINE Octet octet_load_masked(const uint8_t* p, uint64_t mask) {
  const uint8x8_t octet = vand_u8(vld1_u8(p), vcreate_u8(mask));
  return vcombine_u8(octet, octet);
}
BF_INLINE Weights weights_load(const uint8_t* w) { return Weights{{vld1q_u8(w), vld1q_u8(w + 16), vld1q_u8(w + 32), vld1q_u8(w + 48)}}; }
BF_INLINE Sums sums_zero() {
  const uint32x4_t zero = vdupq_n_u32(0);
  return Sums{{zero, zero, zero, zero}};
}
BF_INLINE void sums_add(Sums& acc, Octet a, const Weights& w) {
  for (int k = 0; k < 4; ++k) acc.q[k] = vpadalq_u16(acc.q[k], vpaddlq_u8(vabdq_u8(a, w.q[k])));
}
BF_INLINE void sums_store(int32_t* eight, const Sums& s) {
  vst1q_s32(eight, vreinterpretq_s32_u32(vpaddq_u32(s.q[0], s.q[1])));
  vst1q_s32(eight + 4, vreinterpretq_s32_u32(vpaddq_u32(s.q[2], s.q[3])));
}

#include "kernels/adder_u8/tiles.h"

extern "C" void adder_u8_s32_4x16_neon(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  adder_u8_blocks(args, y0, y1, b0, b1);
}
