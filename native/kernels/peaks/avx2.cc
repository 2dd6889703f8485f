#include <immintrin.h>

#include "kernels/peaks/loop.h"
#include "kernels/peaks/peaks.h"

/* s = op(s, x) in place. */
#define BF_ADD(op, s, x) __asm__(op " %1, %0, %0" : "+x"(s) : "x"(x))
#define BF_FUSED(op, s, x, y) __asm__(op " %2, %1, %0" : "+x"(s) : "x"(x), "x"(y))

extern "C" int64_t bf_peak_avx2(int kind, int64_t rounds) {
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  const __m256i zero = _mm256_setzero_si256();
  switch (kind) {
    case BF_PEAK_POPCOUNT:  // a table lookup of one nibble of 32 weights, and the byte sum
      return peak_loop<10>(rounds, zero, 128, BF_STEP(__m256i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_ADD("vpaddb", s, _mm256_shuffle_epi8(a, b));
      });
    case BF_PEAK_INT8:
      return peak_loop<10>(rounds, zero, 32, BF_STEP(__m256i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_OPAQUE(ones);
        BF_ADD("vpaddd", s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
      });
    case BF_PEAK_INT8_NARROW:
      return peak_loop<10>(rounds, zero, 32, BF_STEP(__m256i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_ADD("vpaddw", s, _mm256_maddubs_epi16(a, b));
      });
    case BF_PEAK_INT16:
      return peak_loop<10>(rounds, zero, 16, BF_STEP(__m256i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_ADD("vpaddd", s, _mm256_madd_epi16(a, b));
      });
    case BF_PEAK_SAD:  // two registers of sums packed into one before the addition, as in adder_u8
      return peak_loop<10>(rounds, zero, 64, BF_STEP(__m256i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        const __m256i first = _mm256_sad_epu8(a, b);
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_ADD("vpaddd", s, _mm256_packus_epi32(first, _mm256_sad_epu8(a, b)));
      });
    case BF_PEAK_FMA: {
      __m256 x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
      return peak_loop<12>(rounds, _mm256_setzero_ps(), 8, BF_STEP(__m256) {
        BF_OPAQUE(x);
        BF_OPAQUE(y);
        BF_FUSED("vfmadd231ps", s, x, y);
      });
    }
  }
  return 0;
}

extern "C" uint64_t bf_read_avx2(const uint8_t* data, int64_t bytes) {
  __m256i sum[8];
  for (__m256i& s : sum) s = _mm256_setzero_si256();
  for (int64_t i = 0; i < bytes; i += 256)
    for (int j = 0; j < 8; ++j) sum[j] = _mm256_xor_si256(sum[j], _mm256_loadu_si256((const __m256i*)(data + i + 32 * j)));
  for (int j = 1; j < 8; ++j) sum[0] = _mm256_xor_si256(sum[0], sum[j]);
  alignas(32) uint64_t lanes[4];
  _mm256_store_si256((__m256i*)lanes, sum[0]);
  return lanes[0];
}
