/* Popcount tiles on NEON: up to 4 pixels x 16 output channels. A word of 16 channels is four registers; per pixel and register an xor (or
 * and), a count of each byte (CNT) and an addition: 12 vector operations for 512 products. Byte counters hold 31 words, then go to 32 bits.
 */
#ifndef BITFOLD_KERNELS_POPCOUNT_NEON_H_
#define BITFOLD_KERNELS_POPCOUNT_NEON_H_

#include "kernels/simd_neon.h"

static constexpr int kPixels = 4;
static constexpr int kBlocks = 1;
static constexpr int kWeightBlocks = 1;

#include "kernels/popcount_conv.h"

/* At most 31 words, added to the 32-bit sums. */
template <bool kXor, int P>
static inline void count_chunk(const uint8_t* const (&px)[P], int64_t begin, int64_t end, const uint32_t* w, uint32x4_t (&sums)[P][4]) {
  uint8x16_t acc[P][4];
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int q = 0; q < 4; ++q) acc[p][q] = vdupq_n_u8(0);
  for (int64_t k = begin; k < end; ++k) {
    uint32x4_t weight[4];
    BF_UNROLL
    for (int q = 0; q < 4; ++q) weight[q] = vld1q_u32(w + 16 * k + 4 * q);
    BF_UNROLL
    for (int p = 0; p < P; ++p) {
      const uint32x4_t a = vld1q_dup_u32((const uint32_t*)px[p] + k);
      BF_UNROLL
      for (int q = 0; q < 4; ++q) {
        const uint32x4_t bits = kXor ? veorq_u32(weight[q], a) : vandq_u32(weight[q], a);
        acc[p][q] = vaddq_u8(acc[p][q], vcntq_u8(vreinterpretq_u8_u32(bits)));
      }
    }
  }
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int q = 0; q < 4; ++q) sums[p][q] = vpadalq_u16(sums[p][q], vpaddlq_u8(acc[p][q]));
}

template <bool kXor, int P>
static void count_tile(const Tile& t, const void* weights, int32_t, vi (*counts)[kPixels]) {
  const uint32_t* w = (const uint32_t*)weights;
  uint32x4_t sums[P][4];
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < 4; ++q) sums[p][q] = vdupq_n_u32(0);
  for_each_run<P>(t, [&](const uint8_t* const(&px)[P], int64_t bytes) __attribute__((always_inline)) {
    const int64_t words = bytes / 4, chunks = (words + 30) / 31;
    for (int64_t c = 0; c < chunks; ++c) count_chunk<kXor, P>(px, c * words / chunks, (c + 1) * words / chunks, w, sums);
    w += 16 * words;
  });
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < 4; ++q) counts[0][p].q[q] = vreinterpretq_s32_u32(sums[p][q]);
}

#endif
