/* Steps of two int16 codes, which conv_i16 and conv_u8 share. Included by ISA files after simd_*.h, kPixels and kBlocks.
 *
 * A tile is P output pixels x B blocks of 16 channels. A step takes a pair of codes of each pixel: broadcast, against 16 pairs of weights of
 * each block, it gives 16 sums of two products.
 */
#ifndef BITFOLD_KERNELS_PAIRS_H_
#define BITFOLD_KERNELS_PAIRS_H_

#include <stdint.h>

#define BF_UNROLL _Pragma("GCC unroll 16")

template <int P, int B>
BF_INLINE void pairs_zero(vi (&acc)[P][B]) {
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int b = 0; b < B; ++b) acc[p][b] = vi_set1(0);
}

BF_INLINE vi broadcast_pair(const int16_t* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, 4);
  return vi_set1(pair);
}

/* Adds `pairs` steps of the codes at px; returns the weights behind them. block_step: int16 from block to block. */
template <int P, int B>
BF_INLINE const int16_t* pairs_add(vi (&acc)[P][B], const int16_t* const (&px)[P], const int16_t* w, int64_t pairs, int64_t block_step) {
  for (int64_t k = 0; k < pairs; ++k, w += 32) {
    vi weight[B];
    BF_UNROLL
    for (int b = 0; b < B; ++b) weight[b] = vi_hold(vi_load((const int32_t*)(w + b * block_step)));
    BF_UNROLL
    for (int p = 0; p < P; ++p)
      BF_UNROLL
      for (int b = 0; b < B; ++b) acc[p][b] = vi_add_pairs(acc[p][b], broadcast_pair(px[p] + 2 * k), weight[b]);
  }
  return w;
}

template <int P, int B>
BF_INLINE void pairs_store(const vi (&acc)[P][B], TileSums d) {
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int b = 0; b < B; ++b) d[b][p] = acc[p][b];
}

#endif
