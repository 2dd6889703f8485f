/* The loop that all mixes share. Included by ISA files.
 *
 * V is the vector type; STEP(acc) is one accumulator's work and makes `per_step` products. An empty asm on every accumulator after each
 * step keeps the compiler from merging steps; the accumulators stay in registers. */
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

template <int N, typename V, typename Step>
static inline __attribute__((always_inline)) int64_t peak_loop(int64_t rounds, V start, int per_step, const Step& step) {
  V acc[N];
  for (int i = 0; i < N; ++i) acc[i] = start;
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      acc[i] = step(acc[i]);
      asm volatile("" : BF_VECTOR_REGISTER(acc[i]));
    }
  }
  return rounds * N * per_step;
}

#endif
