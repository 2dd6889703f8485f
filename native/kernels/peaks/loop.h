/* The loop that all mixes share. Included by ISA files.
 *
 * A step adds to one accumulator, in place. BF_OPAQUE(x) makes x unknown to the compiler: on operands, so that the work of a step is not
 * done once before the loop; on accumulators after the loop, so that it is done at all. gcc 12 keeps an array in memory unless every
 * loop over it is unrolled, and copies accumulators unless the addition is an asm (BF_ADD): look at the assembly after a change. */
#ifndef BITFOLD_KERNELS_PEAKS_LOOP_H_
#define BITFOLD_KERNELS_PEAKS_LOOP_H_

#include <stdint.h>

#if defined(__aarch64__)
#define BF_VECTOR_REGISTER "+w"
#elif defined(__AVX512F__)
#define BF_VECTOR_REGISTER "+v"
#else
#define BF_VECTOR_REGISTER "+x"
#endif

#define BF_OPAQUE(x) __asm__ volatile("" : BF_VECTOR_REGISTER(x))
#define BF_STEP(V) [&](V & s) __attribute__((always_inline))

template <int N, typename V, typename Step>
static inline __attribute__((always_inline)) int64_t peak_loop(int64_t rounds, V start, int per_step, const Step& step) {
  V acc[N];
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) acc[i] = start;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) step(acc[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < N; ++i) BF_OPAQUE(acc[i]);
  return rounds * N * per_step;
}

#endif
