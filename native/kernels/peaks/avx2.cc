#include <immintrin.h>

#include "kernels/peaks/loop.h"
#include "kernels/peaks/peaks.h"

extern "C" int64_t bf_peak_avx2(int kind, int64_t rounds) {
  __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
  asm volatile("" : "+x"(a), "+x"(b), "+x"(ones));  // unknown values: nothing can be computed beforehand
  const __m256i zero = _mm256_setzero_si256();
  switch (kind) {
    case BF_PEAK_POPCOUNT:  // a table lookup of one nibble of 32 weights, and the byte sum
      return peak_loop<12>(rounds, zero, 128, [&](__m256i s) { return _mm256_add_epi8(s, _mm256_shuffle_epi8(a, b)); });
    case BF_PEAK_INT8:
      return peak_loop<12>(rounds, zero, 32, [&](__m256i s) {
        return _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
      });
    case BF_PEAK_INT8_NARROW:
      return peak_loop<12>(rounds, zero, 32, [&](__m256i s) { return _mm256_add_epi16(s, _mm256_maddubs_epi16(a, b)); });
    case BF_PEAK_INT16:
      return peak_loop<12>(rounds, zero, 16, [&](__m256i s) { return _mm256_add_epi32(s, _mm256_madd_epi16(a, ones)); });
    case BF_PEAK_SAD:
      return peak_loop<12>(rounds, zero, 32, [&](__m256i s) { return _mm256_add_epi64(s, _mm256_sad_epu8(a, b)); });
    case BF_PEAK_FMA: {
      __m256 x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(0.25f);
      asm volatile("" : "+x"(x), "+x"(y));
      return peak_loop<12>(rounds, _mm256_setzero_ps(), 8, [&](__m256 s) { return _mm256_fmadd_ps(x, y, s); });
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
