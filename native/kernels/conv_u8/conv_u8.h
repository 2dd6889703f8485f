/* conv_u8: activation codes as bytes, weight codes as int16, exact int32: D = sum over valid taps and channels of c_a c_w.
 *
 * For the first layer of a network that takes pictures: few channels, so that a step of two or four of them would be half empty. The taps of a
 * kernel row are one run instead, which is read in pairs wherever a pixel of it begins.
 * |D| must stay below 2^31 (the graph's Accumulator bound); sums on the way may wrap. Input: uint8 codes (0 to 255), in_stride bytes a pixel.
 * Weights: layout RUNS of kernels/weights.h. SIMD kernels need groups = 1, dilation_w = 1 and a window of at most BF_U8_WINDOW codes; the
 * scalar kernel serves every shape.
 */
#ifndef BITFOLD_KERNELS_CONV_U8_H_
#define BITFOLD_KERNELS_CONV_U8_H_

#include "kernels/conv.h"

#define BF_U8_WINDOW 8192 /* kernel_h * kernel_w * in_c */

#endif
