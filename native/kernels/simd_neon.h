/* Sixteen lanes on AArch64 NEON: vf is 16 float32, vi 16 int32, four registers each. Same names in simd_avx2.h; included by ISA files only. */
#ifndef BITFOLD_KERNELS_SIMD_NEON_H_
#define BITFOLD_KERNELS_SIMD_NEON_H_

#include <arm_neon.h>
#include <stdint.h>

#define BF_INLINE static inline __attribute__((always_inline))

typedef struct vf { float32x4_t q[4]; } vf;
typedef struct vi { int32x4_t q[4]; } vi;

typedef float32x4_t vr;
static constexpr int kRegisterLanes = 4;
BF_INLINE vr vr_load(const float* p) { return vld1q_f32(p); }
BF_INLINE void vr_store(float* p, vr a) { vst1q_f32(p, a); }
BF_INLINE vr vr_zero() { return vdupq_n_f32(0.0f); }
BF_INLINE vr vr_set1(float a) { return vdupq_n_f32(a); }
BF_INLINE vr vr_add(vr a, vr b) { return vaddq_f32(a, b); }
BF_INLINE vr vr_fma(vr a, vr b, vr c) { return vfmaq_f32(c, a, b); }
/* as vf_max and vf_min */
BF_INLINE vr vr_max(vr a, vr b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
BF_INLINE vr vr_min(vr a, vr b) { return vbslq_f32(vcltq_f32(a, b), a, b); }

/* f on each of the four registers */
#define BF_FOUR(type, f) type{{f(0), f(1), f(2), f(3)}}

BF_INLINE vf vf_load(const float* p) {
#define BF_Q(i) vld1q_f32(p + 4 * i)
  return BF_FOUR(vf, BF_Q);
#undef BF_Q
}
BF_INLINE void vf_store(float* p, vf a) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, a.q[i]);
}
BF_INLINE vf vf_set1(float a) {
  const float32x4_t v = vdupq_n_f32(a);
  return vf{{v, v, v, v}};
}
BF_INLINE vf vf_add(vf a, vf b) {
#define BF_Q(i) vaddq_f32(a.q[i], b.q[i])
  return BF_FOUR(vf, BF_Q);
#undef BF_Q
}
BF_INLINE vf vf_mul(vf a, vf b) {
#define BF_Q(i) vmulq_f32(a.q[i], b.q[i])
  return BF_FOUR(vf, BF_Q);
#undef BF_Q
}
BF_INLINE vf vf_fma(vf a, vf b, vf c) {
#define BF_Q(i) vfmaq_f32(c.q[i], a.q[i], b.q[i])
  return BF_FOUR(vf, BF_Q);
#undef BF_Q
}
/* a > b ? a : b, and a < b ? a : b; b if either is NaN (vmaxq_f32 would give NaN) */
BF_INLINE vf vf_max(vf a, vf b) {
#define BF_Q(i) vbslq_f32(vcgtq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])
  return BF_FOUR(vf, BF_Q);
#undef BF_Q
}
BF_INLINE vf vf_min(vf a, vf b) {
#define BF_Q(i) vbslq_f32(vcltq_f32(a.q[i], b.q[i]), a.q[i], b.q[i])
  return BF_FOUR(vf, BF_Q);
#undef BF_Q
}
/* t > 0 ? a : b */
BF_INLINE vf vf_if_positive(vf t, vf a, vf b) {
#define BF_Q(i) vbslq_f32(vcgtzq_f32(t.q[i]), a.q[i], b.q[i])
  return BF_FOUR(vf, BF_Q);
#undef BF_Q
}
/* Four masks of all ones or zeros to 16 bits, lane 0 lowest. */
BF_INLINE uint32_t mask_bits(uint32x4_t m0, uint32x4_t m1, uint32x4_t m2, uint32x4_t m3) {
  const uint16x8_t weights = {1, 2, 4, 8, 16, 32, 64, 128};
  const uint16x8_t low = vcombine_u16(vmovn_u32(m0), vmovn_u32(m1)), high = vcombine_u16(vmovn_u32(m2), vmovn_u32(m3));
  return (uint32_t)vaddvq_u16(vandq_u16(low, weights)) | (uint32_t)vaddvq_u16(vandq_u16(high, weights)) << 8;
}
/* bit l: a >= b in lane l */
BF_INLINE uint32_t vf_ge(vf a, vf b) {
  return mask_bits(vcgeq_f32(a.q[0], b.q[0]), vcgeq_f32(a.q[1], b.q[1]), vcgeq_f32(a.q[2], b.q[2]), vcgeq_f32(a.q[3], b.q[3]));
}

BF_INLINE vi vi_load(const int32_t* p) {
#define BF_Q(i) vld1q_s32(p + 4 * i)
  return BF_FOUR(vi, BF_Q);
#undef BF_Q
}
BF_INLINE void vi_store(int32_t* p, vi a) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, a.q[i]);
}
BF_INLINE vi vi_set1(int32_t a) {
  const int32x4_t v = vdupq_n_s32(a);
  return vi{{v, v, v, v}};
}
BF_INLINE vi vi_add(vi a, vi b) {
#define BF_Q(i) vaddq_s32(a.q[i], b.q[i])
  return BF_FOUR(vi, BF_Q);
#undef BF_Q
}
BF_INLINE vi vi_sub(vi a, vi b) {
#define BF_Q(i) vsubq_s32(a.q[i], b.q[i])
  return BF_FOUR(vi, BF_Q);
#undef BF_Q
}
BF_INLINE vi vi_mul(vi a, vi b) {
#define BF_Q(i) vmulq_s32(a.q[i], b.q[i])
  return BF_FOUR(vi, BF_Q);
#undef BF_Q
}
BF_INLINE vi vi_abs(vi a) {
#define BF_Q(i) vabsq_s32(a.q[i])
  return BF_FOUR(vi, BF_Q);
#undef BF_Q
}
/* n + 1 where a >= b, else n */
BF_INLINE vi vi_count_ge(vi n, vi a, vi b) {
#define BF_Q(i) vsubq_s32(n.q[i], vreinterpretq_s32_u32(vcgeq_s32(a.q[i], b.q[i])))
  return BF_FOUR(vi, BF_Q);
#undef BF_Q
}
BF_INLINE vi vi_count_vf_ge(vi n, vf a, vf b) {
#define BF_Q(i) vsubq_s32(n.q[i], vreinterpretq_s32_u32(vcgeq_f32(a.q[i], b.q[i])))
  return BF_FOUR(vi, BF_Q);
#undef BF_Q
}
/* numbers of 0 to 255 */
BF_INLINE void vi_store_bytes(uint8_t* p, vi a) {
  const int16x8_t low = vcombine_s16(vmovn_s32(a.q[0]), vmovn_s32(a.q[1])), high = vcombine_s16(vmovn_s32(a.q[2]), vmovn_s32(a.q[3]));
  vst1q_u8(p, vcombine_u8(vmovn_u16(vreinterpretq_u16_s16(low)), vmovn_u16(vreinterpretq_u16_s16(high))));
}
/* Lane l: the int16 products of pair l of a and of b, added. */
BF_INLINE int32x4_t dot_pairs(int32x4_t a, int32x4_t b) {
  const int16x8_t x = vreinterpretq_s16_s32(a), y = vreinterpretq_s16_s32(b);
  return vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
}
BF_INLINE vi vi_dot_pairs(vi a, vi b) {
#define BF_Q(i) dot_pairs(a.q[i], b.q[i])
  return BF_FOUR(vi, BF_Q);
#undef BF_Q
}
BF_INLINE vi vi_add_pairs(vi acc, vi a, vi b) { return vi_add(acc, vi_dot_pairs(a, b)); }
BF_INLINE vi vi_hold(vi a) { return a; }
BF_INLINE vf vf_hold(vf a) { return a; }
BF_INLINE vf vi_to_vf(vi a) {
#define BF_Q(i) vcvtq_f32_s32(a.q[i])
  return BF_FOUR(vf, BF_Q);
#undef BF_Q
}
BF_INLINE uint32_t vi_ge(vi a, vi b) {
  return mask_bits(vcgeq_s32(a.q[0], b.q[0]), vcgeq_s32(a.q[1], b.q[1]), vcgeq_s32(a.q[2], b.q[2]), vcgeq_s32(a.q[3], b.q[3]));
}

#undef BF_FOUR
#endif
