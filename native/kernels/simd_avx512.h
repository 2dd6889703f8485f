/* Sixteen lanes on AVX-512 F, BW, DQ, VL: see simd_avx2.h for what each name means. */
#ifndef BITFOLD_KERNELS_SIMD_AVX512_H_
#define BITFOLD_KERNELS_SIMD_AVX512_H_

#ifndef SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#endif
#include <stdint.h>

#define BF_INLINE static inline __attribute__((always_inline))

typedef __m512 vf;
typedef __m512i vi;

typedef __m512 vr;
static constexpr int kRegisterLanes = 16;
BF_INLINE vr vr_load(const float* p) { return _mm512_loadu_ps(p); }
BF_INLINE void vr_store(float* p, vr a) { _mm512_storeu_ps(p, a); }
BF_INLINE vr vr_zero() { return _mm512_setzero_ps(); }
BF_INLINE vr vr_set1(float a) { return _mm512_set1_ps(a); }
BF_INLINE vr vr_add(vr a, vr b) { return _mm512_add_ps(a, b); }
BF_INLINE vr vr_fma(vr a, vr b, vr c) { return _mm512_fmadd_ps(a, b, c); }
/* as vf_max and vf_min */
BF_INLINE vr vr_max(vr a, vr b) { return _mm512_max_ps(a, b); }
BF_INLINE vr vr_min(vr a, vr b) { return _mm512_min_ps(a, b); }

BF_INLINE vf vf_load(const float* p) { return _mm512_loadu_ps(p); }
BF_INLINE void vf_store(float* p, vf a) { _mm512_storeu_ps(p, a); }
BF_INLINE vf vf_set1(float a) { return _mm512_set1_ps(a); }
BF_INLINE vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
BF_INLINE vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
BF_INLINE vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
BF_INLINE vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
BF_INLINE vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
BF_INLINE vf vf_if_positive(vf t, vf a, vf b) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(t, _mm512_setzero_ps(), _CMP_GT_OQ), b, a);
}
BF_INLINE uint32_t vf_ge(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

BF_INLINE vi vi_load(const int32_t* p) { return _mm512_loadu_si512(p); }
BF_INLINE void vi_store(int32_t* p, vi a) { _mm512_storeu_si512(p, a); }
BF_INLINE vi vi_set1(int32_t a) { return _mm512_set1_epi32(a); }
BF_INLINE vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
BF_INLINE vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
BF_INLINE vi vi_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
BF_INLINE vi vi_add_pairs(vi acc, vi a, vi b) { return _mm512_dpwssd_epi32(acc, a, b); }
BF_INLINE vi vi_abs(vi a) { return _mm512_abs_epi32(a); }
BF_INLINE vi vi_count_ge(vi n, vi a, vi b) { return _mm512_mask_add_epi32(n, _mm512_cmpge_epi32_mask(a, b), n, _mm512_set1_epi32(1)); }
BF_INLINE vi vi_count_vf_ge(vi n, vf a, vf b) {
  return _mm512_mask_add_epi32(n, _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), n, _mm512_set1_epi32(1));
}
BF_INLINE void vi_store_bytes(uint8_t* p, vi a) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(a)); }
BF_INLINE vi vi_hold(vi a) { return a; }
BF_INLINE vf vf_hold(vf a) { return a; }
BF_INLINE vf vi_to_vf(vi a) { return _mm512_cvtepi32_ps(a); }
BF_INLINE uint32_t vi_ge(vi a, vi b) { return _mm512_cmpge_epi32_mask(a, b); }

#endif
