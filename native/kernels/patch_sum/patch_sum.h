/* Patch sums: S[p * groups + g] = sum of the activation codes over the valid taps of output pixel p and the channels of group g.
 *
 * With bit planes, code = base + sum_k coefficient_k bit_k, so S = base * N + sum_k coefficient_k * popcount of plane k, with N = valid taps
 * times channels per group. Padding bits are 0 and need no mask. Input: packed codes, [pixel][plane][word], in_stride words a pixel.
 * Needed by epilogue.patch_mul and by conv_planes when weight_planes.base != 0. Plain C serves every ISA: one sum is shared by all output
 * channels.
 */
#ifndef BITFOLD_KERNELS_PATCH_SUM_H_
#define BITFOLD_KERNELS_PATCH_SUM_H_

#include "kernels/conv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Output rows [y0, y1) of sums: (out_h * out_w, groups). Any shape. `codes` describes the planes of `input`. */
void bf_patch_sum_bits(const bf_conv_shape* shape, const bf_code_planes* codes, const uint32_t* input, int32_t* sums, int32_t y0, int32_t y1);

/* The same for int16 codes, in_stride elements a pixel. */
void bf_patch_sum_i16(const bf_conv_shape* shape, const int16_t* input, int32_t* sums, int32_t y0, int32_t y1);

#ifdef __cplusplus
}
#endif

#endif
