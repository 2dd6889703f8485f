/* Popcount tiles on NEON: up to 4 pixels x 16 output channels. A word of 16 channels is four registers; per pixel and register an xor (or
 * and), a count of each byte (CNT) and an addition: 12 vector operations for 512 products; 16 for ternary weights with binary activations,
 * 32 if both are ternary. Byte counters hold 31 words (15 of ternary x ternary, whose counters are signed), then go to 32 bits.
 */
#ifndef BITFOLD_KERNELS_POPCOUNT_NEON_H_
#define BITFOLD_KERNELS_POPCOUNT_NEON_H_

#include "kernels/simd_neon.h"

static constexpr int kPixels = 4;
static constexpr int kBlocks = 1;
static constexpr int kWeightBlocks = 1;

#include "kernels/popcount_conv.h"

/* acc += what one register of 128 pairs counts. a, w: the planes, the second one used by ternary codes only. */
template <Pairs kPairs>
BF_INLINE uint8x16_t count_register(uint8x16_t acc, const uint32x4_t (&a)[2], uint32x4_t w0, uint32x4_t w1) {
  const auto ones = [](uint32x4_t bits) { return vcntq_u8(vreinterpretq_u8_u32(bits)); };
  switch (kPairs) {
    case Pairs::kXor: return vaddq_u8(acc, ones(veorq_u32(w0, a[0])));
    case Pairs::kAnd: return vaddq_u8(acc, ones(vandq_u32(w0, a[0])));
    case Pairs::kTernaryByBinary: return vaddq_u8(acc, ones(vandq_u32(w1, veorq_u32(w0, a[0]))));
    case Pairs::kTernary: break;
  }
  const uint32x4_t both = vandq_u32(w1, a[1]), minus = vandq_u32(both, veorq_u32(w0, a[0]));
  return vsubq_u8(vaddq_u8(acc, ones(vbicq_u32(both, minus))), ones(minus));
}

constexpr bool ternary_weights(Pairs pairs) { return pairs == Pairs::kTernaryByBinary || pairs == Pairs::kTernary; }

/* As many words as the byte counters hold, added to the 32-bit sums. */
template <Pairs kPairs, int P>
static inline void count_chunk(const Tile& t, const uint8_t* const (&px)[P], int64_t begin, int64_t end, const uint8_t* w,
                               int32x4_t (&sums)[P][4]) {
  uint8x16_t acc[P][4];
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int q = 0; q < 4; ++q) acc[p][q] = vdupq_n_u8(0);
  for (int64_t k = begin; k < end; ++k) {
    uint32x4_t w0[4], w1[4];
    BF_UNROLL
    for (int q = 0; q < 4; ++q) {
      const uint32_t* at = (const uint32_t*)(w + 64 * k) + 4 * q;
      w0[q] = vld1q_u32(at);
      w1[q] = ternary_weights(kPairs) ? vld1q_u32(at + t.weight_plane / 4) : w0[q];
    }
    BF_UNROLL
    for (int p = 0; p < P; ++p) {
      uint32x4_t a[2];
      a[0] = vld1q_dup_u32((const uint32_t*)px[p] + k);
      a[1] = kPairs == Pairs::kTernary ? vld1q_dup_u32((const uint32_t*)(px[p] + t.plane_bytes) + k) : a[0];
      BF_UNROLL
      for (int q = 0; q < 4; ++q) acc[p][q] = count_register<kPairs>(acc[p][q], a, w0[q], w1[q]);
    }
  }
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int q = 0; q < 4; ++q) {
      if (kPairs == Pairs::kTernary) sums[p][q] = vpadalq_s16(sums[p][q], vpaddlq_s8(vreinterpretq_s8_u8(acc[p][q])));
      else sums[p][q] = vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sums[p][q]), vpaddlq_u8(acc[p][q])));
    }
}

template <Pairs kPairs, int P>
static void count_tile(const Tile& t, const void* weights, int32_t, TileSums counts) {
  const uint8_t* w = (const uint8_t*)weights;
  int32x4_t sums[P][4];
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < 4; ++q) sums[p][q] = vdupq_n_s32(0);
  for_each_run<P>(t, [&](const uint8_t* const(&px)[P], int64_t bytes) __attribute__((always_inline)) {
    const int64_t most = kPairs == Pairs::kTernary ? 15 : 31, words = bytes / 4, chunks = (words + most - 1) / most;
    for (int64_t c = 0; c < chunks; ++c) count_chunk<kPairs, P>(t, px, c * words / chunks, (c + 1) * words / chunks, w, sums);
    w += 64 * words;
  });
  for (int p = 0; p < P; ++p)
    for (int q = 0; q < 4; ++q) counts[0][p].q[q] = sums[p][q];
}

#endif
