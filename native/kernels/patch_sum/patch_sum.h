/* Patch sums: S[p * groups + g] = sum of the activation codes over the valid taps of output pixel p and the channels of group g.
 *
 * With bit planes, code = base + sum_k coefficient_k bit_k, so S = base * N + sum_k coefficient_k * popcount of plane k, with N = valid taps
 * times channels per group. Padding bits are 0 and need no mask. Input: packed codes, [pixel][plane][word], in_stride words a pixel, or
 * int16 codes or bytes (code = byte + base), in_stride elements a pixel. Needed by epilogue.patch_mul and by conv_planes when weight_planes.base != 0.
 *
 * Each writes output rows [y0, y1) of sums, (out_h * out_w, groups), of any shape. The avx2 ones need its POPCNT; find_patch_sum_bits in
 * kernels/registry.h chooses.
 */
#ifndef BITFOLD_KERNELS_PATCH_SUM_H_
#define BITFOLD_KERNELS_PATCH_SUM_H_

#include "kernels/conv.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*bf_patch_sum_bits_fn)(const bf_conv_shape* shape, const bf_code_planes* codes, const uint32_t* input, int32_t* sums, int32_t y0,
                                     int32_t y1);
typedef void (*bf_patch_sum_i16_fn)(const bf_conv_shape* shape, const int16_t* input, int32_t* sums, int32_t y0, int32_t y1);
typedef void (*bf_patch_sum_u8_fn)(const bf_conv_shape* shape, int32_t base, const uint8_t* input, int32_t* sums, int32_t y0, int32_t y1);

void bf_patch_sum_bits_scalar(const bf_conv_shape* shape, const bf_code_planes* codes, const uint32_t* input, int32_t* sums, int32_t y0, int32_t y1);
void bf_patch_sum_bits_avx2(const bf_conv_shape* shape, const bf_code_planes* codes, const uint32_t* input, int32_t* sums, int32_t y0, int32_t y1);
void bf_patch_sum_i16_scalar(const bf_conv_shape* shape, const int16_t* input, int32_t* sums, int32_t y0, int32_t y1);
void bf_patch_sum_i16_avx2(const bf_conv_shape* shape, const int16_t* input, int32_t* sums, int32_t y0, int32_t y1);
void bf_patch_sum_u8_scalar(const bf_conv_shape* shape, int32_t base, const uint8_t* input, int32_t* sums, int32_t y0, int32_t y1);
void bf_patch_sum_u8_avx2(const bf_conv_shape* shape, int32_t base, const uint8_t* input, int32_t* sums, int32_t y0, int32_t y1);

#ifdef __cplusplus
}
#endif

#endif
