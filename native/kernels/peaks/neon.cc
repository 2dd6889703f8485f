#include <arm_neon.h>

#include "kernels/peaks/loop.h"
#include "kernels/peaks/peaks.h"

extern "C" int64_t bf_peak_neon(int kind, int64_t rounds) {
  uint8x16_t a = vdupq_n_u8(3), b = vdupq_n_u8(1);
  int16x4_t p = vdup_n_s16(3), q = vdup_n_s16(1);
  int8x8_t x = vdup_n_s8(3), y = vdup_n_s8(1);
  switch (kind) {
    case BF_PEAK_POPCOUNT:
      return peak_loop<12>(rounds, vdupq_n_u8(0), 128, BF_STEP(uint8x16_t) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        s = vaddq_u8(s, vcntq_u8(veorq_u8(a, b)));
      });
    case BF_PEAK_INT8:
      return peak_loop<12>(rounds, vdupq_n_s32(0), 8, BF_STEP(int32x4_t) {
        BF_OPAQUE(x);
        BF_OPAQUE(y);
        s = vpadalq_s16(s, vmull_s8(x, y));
      });
    case BF_PEAK_INT8_NARROW:
      return peak_loop<12>(rounds, vdupq_n_s16(0), 8, BF_STEP(int16x8_t) {
        BF_OPAQUE(x);
        BF_OPAQUE(y);
        s = vmlal_s8(s, x, y);
      });
    case BF_PEAK_INT16:
      return peak_loop<12>(rounds, vdupq_n_s32(0), 4, BF_STEP(int32x4_t) {
        BF_OPAQUE(p);
        BF_OPAQUE(q);
        s = vmlal_s16(s, p, q);
      });
    case BF_PEAK_SAD:
      return peak_loop<12>(rounds, vdupq_n_u16(0), 16, BF_STEP(uint16x8_t) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        s = vpadalq_u8(s, vabdq_u8(a, b));
      });
    case BF_PEAK_FMA: {
      float32x4_t u = vdupq_n_f32(0.5f), v = vdupq_n_f32(0.25f);
      return peak_loop<12>(rounds, vdupq_n_f32(0), 4, BF_STEP(float32x4_t) {
        BF_OPAQUE(u);
        BF_OPAQUE(v);
        s = vfmaq_f32(s, u, v);
      });
    }
  }
  return 0;
}

extern "C" uint64_t bf_read_neon(const uint8_t* data, int64_t bytes) {
  uint8x16_t sum[8];
  for (uint8x16_t& s : sum) s = vdupq_n_u8(0);
  for (int64_t i = 0; i < bytes; i += 256)
    for (int j = 0; j < 16; ++j) sum[j % 8] = veorq_u8(sum[j % 8], vld1q_u8(data + i + 16 * j));
  for (int j = 1; j < 8; ++j) sum[0] = veorq_u8(sum[0], sum[j]);
  return vgetq_lane_u64(vreinterpretq_u64_u8(sum[0]), 0);
}
