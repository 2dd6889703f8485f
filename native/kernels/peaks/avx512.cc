#include <immintrin.h>

#include "kernels/peaks/loop.h"
#include "kernels/peaks/peaks.h"


extern "C" int64_t bf_peak_avx512(int kind, int64_t rounds) {
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(1), ones = _mm512_set1_epi16(1);
  asm volatile("" : "+v"(a), "+v"(b), "+v"(ones));  // unknown values: nothing can be computed beforehand
  const __m512i zero = _mm512_setzero_si512();
  switch (kind) {
    case BF_PEAK_POPCOUNT:
      return peak_loop<12>(rounds, zero, 512, [&](__m512i s) { return _mm512_add_epi32(s, _mm512_popcnt_epi32(_mm512_xor_si512(a, b))); });
    case BF_PEAK_INT8:
    case BF_PEAK_INT8_NARROW:
      return peak_loop<12>(rounds, zero, 64, [&](__m512i s) { return _mm512_dpbusd_epi32(s, a, b); });
    case BF_PEAK_INT16:
      return peak_loop<12>(rounds, zero, 32, [&](__m512i s) { return _mm512_add_epi32(s, _mm512_madd_epi16(a, ones)); });
    case BF_PEAK_SAD:
      return peak_loop<12>(rounds, zero, 64, [&](__m512i s) { return _mm512_add_epi64(s, _mm512_sad_epu8(a, b)); });
    case BF_PEAK_FMA: {
      __m512 x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);
      asm volatile("" : "+v"(x), "+v"(y));
      return peak_loop<12>(rounds, _mm512_setzero_ps(), 16, [&](__m512 s) { return _mm512_fmadd_ps(x, y, s); });
    }
  }
  return 0;
}

extern "C" uint64_t bf_read_avx512(const uint8_t* data, int64_t bytes) {
  __m512i sum[4];
  for (__m512i& s : sum) s = _mm512_setzero_si512();
  for (int64_t i = 0; i < bytes; i += 256)
    for (int j = 0; j < 4; ++j) sum[j] = _mm512_xor_si512(sum[j], _mm512_loadu_si512(data + i + 64 * j));
  for (int j = 1; j < 4; ++j) sum[0] = _mm512_xor_si512(sum[0], sum[j]);
  alignas(64) uint64_t lanes[8];
  _mm512_store_si512(lanes, sum[0]);
  return lanes[0];
}
