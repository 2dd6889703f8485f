#include <immintrin.h>

#include "kernels/peaks/loop.h"
#include "kernels/peaks/peaks.h"

/* s = op(s, x) in place. */
#define BF_ADD(op, s, x) __asm__(op " %1, %0, %0" : "+v"(s) : "v"(x))
#define BF_FUSED(op, s, x, y) __asm__(op " %2, %1, %0" : "+v"(s) : "v"(x), "v"(y))

extern "C" int64_t bf_peak_avx512(int kind, int64_t rounds) {
  __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(1);
  const __m512i zero = _mm512_setzero_si512();
  switch (kind) {
    case BF_PEAK_POPCOUNT:
      return peak_loop<10>(rounds, zero, 512, BF_STEP(__m512i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_ADD("vpaddd", s, _mm512_popcnt_epi32(_mm512_xor_si512(a, b)));
      });
    case BF_PEAK_INT8:
    case BF_PEAK_INT8_NARROW:
      return peak_loop<10>(rounds, zero, 64, BF_STEP(__m512i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_FUSED("vpdpbusd", s, a, b);
      });
    case BF_PEAK_INT16:
      return peak_loop<10>(rounds, zero, 32, BF_STEP(__m512i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_FUSED("vpdpwssd", s, a, b);
      });
    case BF_PEAK_SAD:  // two registers of sums packed into one before the addition, as in adder_u8
      return peak_loop<10>(rounds, zero, 128, BF_STEP(__m512i) {
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        const __m512i first = _mm512_sad_epu8(a, b);
        BF_OPAQUE(a);
        BF_OPAQUE(b);
        BF_ADD("vpaddd", s, _mm512_packus_epi32(first, _mm512_sad_epu8(a, b)));
      });
    case BF_PEAK_FMA: {
      __m512 x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(0.25f);
      return peak_loop<12>(rounds, _mm512_setzero_ps(), 16, BF_STEP(__m512) {
        BF_OPAQUE(x);
        BF_OPAQUE(y);
        BF_FUSED("vfmadd231ps", s, x, y);
      });
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
