/* The instruction mixes of the kernels' innermost loops on registers alone: no loads, no epilogue, as many independent sums as registers
 * allow. What these loops reach on a core is the ceiling of the kernels there (bitfold bench kernels, docs/engine.md). */
#ifndef BITFOLD_KERNELS_PEAKS_H_
#define BITFOLD_KERNELS_PEAKS_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bf_peak_kind {
  BF_PEAK_POPCOUNT = 0, /* products of two bits: conv_b1, conv_planes */
  BF_PEAK_INT8 = 1,     /* products of two bytes, summed in int32 */
  BF_PEAK_INT8_NARROW = 2, /* products of codes so small that pairs of sums stay in int16 */
  BF_PEAK_INT16 = 3,    /* products of two int16: conv_i16 */
  BF_PEAK_SAD = 4,      /* absolute differences of two bytes, summed */
  BF_PEAK_FMA = 5,      /* float32 fused multiply-adds: conv_f32 */
  BF_PEAK_KINDS = 6
} bf_peak_kind;

/* Runs `rounds` rounds and returns the products that all of them made. */
typedef int64_t (*bf_peak_fn)(int kind, int64_t rounds);
/* Reads `bytes` (a multiple of 256) once and returns something that depends on all of them. */
typedef uint64_t (*bf_read_fn)(const uint8_t* data, int64_t bytes);

int64_t bf_peak_avx2(int kind, int64_t rounds);
uint64_t bf_read_avx2(const uint8_t* data, int64_t bytes);
int64_t bf_peak_avx512(int kind, int64_t rounds);
uint64_t bf_read_avx512(const uint8_t* data, int64_t bytes);
int64_t bf_peak_neon(int kind, int64_t rounds);
uint64_t bf_read_neon(const uint8_t* data, int64_t bytes);

#ifdef __cplusplus
}
#endif

#endif
