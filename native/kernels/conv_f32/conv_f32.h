/* conv_f32: float32 conv, linear and depthwise conv.
 *
 * Per output pixel and channel D is one chain, from +0.0:  D = fma(x, w, D)  over (tap row, tap column, input channel of the group), rising,
 * valid taps only. Every kernel keeps this order, so all ISAs give the same bits.
 * Input: float32, in_stride elements a pixel (in_stride = in_c is allowed). Weights: layout F32 of kernels/weights.h.
 * The dw kernels serve groups = in_c = out_c with in_stride room for whole blocks of 16. Other SIMD kernels need groups = 1 or
 * out_c / groups a multiple of 16; the scalar kernel serves every shape.
 */
#ifndef BITFOLD_KERNELS_CONV_F32_H_
#define BITFOLD_KERNELS_CONV_F32_H_

#include "kernels/conv.h"

#endif
