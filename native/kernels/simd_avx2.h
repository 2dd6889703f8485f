/* Sixteen lanes on AVX2 + FMA: vf is 16 float32, vi 16 int32. Same names in simd_avx512.h; included by ISA files only. */
#ifndef BITFOLD_KERNELS_SIMD_AVX2_H_
#define BITFOLD_KERNELS_SIMD_AVX2_H_

#include <immintrin.h>
#include <stdint.h>

#define BF_INLINE static inline __attribute__((always_inline))

typedef struct vf { __m256 lo, hi; } vf;
typedef struct vi { __m256i lo, hi; } vi;

/* one register of float32 */
typedef __m256 vr;
static constexpr int kRegisterLanes = 8;
BF_INLINE vr vr_load(const float* p) { return _mm256_loadu_ps(p); }
BF_INLINE void vr_store(float* p, vr a) { _mm256_storeu_ps(p, a); }
BF_INLINE vr vr_zero() { return _mm256_setzero_ps(); }
BF_INLINE vr vr_set1(float a) { return _mm256_set1_ps(a); }
BF_INLINE vr vr_add(vr a, vr b) { return _mm256_add_ps(a, b); }
BF_INLINE vr vr_fma(vr a, vr b, vr c) { return _mm256_fmadd_ps(a, b, c); }
/* as vf_max and vf_min */
BF_INLINE vr vr_max(vr a, vr b) { return _mm256_max_ps(a, b); }
BF_INLINE vr vr_min(vr a, vr b) { return _mm256_min_ps(a, b); }

BF_INLINE vf vf_load(const float* p) { return vf{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
BF_INLINE void vf_store(float* p, vf a) { _mm256_storeu_ps(p, a.lo), _mm256_storeu_ps(p + 8, a.hi); }
BF_INLINE vf vf_set1(float a) { return vf{_mm256_set1_ps(a), _mm256_set1_ps(a)}; }
BF_INLINE vf vf_add(vf a, vf b) { return vf{_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
BF_INLINE vf vf_mul(vf a, vf b) { return vf{_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
BF_INLINE vf vf_fma(vf a, vf b, vf c) { return vf{_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
/* a > b ? a : b, and a < b ? a : b; b if either is NaN */
BF_INLINE vf vf_max(vf a, vf b) { return vf{_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
BF_INLINE vf vf_min(vf a, vf b) { return vf{_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
/* t > 0 ? a : b */
BF_INLINE vf vf_if_positive(vf t, vf a, vf b) {
  const __m256 zero = _mm256_setzero_ps();
  return vf{_mm256_blendv_ps(b.lo, a.lo, _mm256_cmp_ps(t.lo, zero, _CMP_GT_OQ)),
            _mm256_blendv_ps(b.hi, a.hi, _mm256_cmp_ps(t.hi, zero, _CMP_GT_OQ))};
}
/* bit l: a >= b in lane l */
BF_INLINE uint32_t vf_ge(vf a, vf b) {
  return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_GE_OQ)) |
         (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_GE_OQ)) << 8;
}

BF_INLINE vi vi_load(const int32_t* p) {
  return vi{_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 8))};
}
BF_INLINE void vi_store(int32_t* p, vi a) {
  _mm256_storeu_si256((__m256i*)p, a.lo), _mm256_storeu_si256((__m256i*)(p + 8), a.hi);
}
BF_INLINE vi vi_set1(int32_t a) { return vi{_mm256_set1_epi32(a), _mm256_set1_epi32(a)}; }
BF_INLINE vi vi_add(vi a, vi b) { return vi{_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
BF_INLINE vi vi_sub(vi a, vi b) { return vi{_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
BF_INLINE vi vi_mul(vi a, vi b) { return vi{_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
/* lane l: the int16 products of pair l of a and of b, added */
BF_INLINE vi vi_dot_pairs(vi a, vi b) { return vi{_mm256_madd_epi16(a.lo, b.lo), _mm256_madd_epi16(a.hi, b.hi)}; }
/* acc + a . b: lane l adds the int16 products of pair l of a and of b */
BF_INLINE vi vi_add_pairs(vi acc, vi a, vi b) { return vi_add(acc, vi_dot_pairs(a, b)); }
BF_INLINE vi vi_abs(vi a) { return vi{_mm256_abs_epi32(a.lo), _mm256_abs_epi32(a.hi)}; }
/* n + 1 where a >= b, else n */
BF_INLINE vi vi_count_ge(vi n, vi a, vi b) {
  const vi above = vi_add(n, vi_set1(1));
  return vi{_mm256_add_epi32(above.lo, _mm256_cmpgt_epi32(b.lo, a.lo)), _mm256_add_epi32(above.hi, _mm256_cmpgt_epi32(b.hi, a.hi))};
}
BF_INLINE vi vi_count_vf_ge(vi n, vf a, vf b) {
  return vi{_mm256_sub_epi32(n.lo, _mm256_castps_si256(_mm256_cmp_ps(a.lo, b.lo, _CMP_GE_OQ))),
            _mm256_sub_epi32(n.hi, _mm256_castps_si256(_mm256_cmp_ps(a.hi, b.hi, _CMP_GE_OQ)))};
}
/* numbers of 0 to 255 */
BF_INLINE void vi_store_bytes(uint8_t* p, vi a) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
  _mm_storeu_si128((__m128i*)p, _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
/* a in registers: gcc would rather load it again for every use */
BF_INLINE vi vi_hold(vi a) {
  __asm__("" : "+x"(a.lo), "+x"(a.hi));
  return a;
}
BF_INLINE vf vf_hold(vf a) {
  __asm__("" : "+x"(a.lo), "+x"(a.hi));
  return a;
}
BF_INLINE vf vi_to_vf(vi a) { return vf{_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
BF_INLINE uint32_t vi_ge(vi a, vi b) {
  const uint32_t less = (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(b.lo, a.lo))) |
                        (uint32_t)_mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(b.hi, a.hi))) << 8;
  return less ^ 0xffffu;
}

#endif
