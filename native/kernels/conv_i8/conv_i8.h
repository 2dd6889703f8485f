/* conv_i8: activations as bytes, weights as int8, exact int32: D = sum over valid taps and channels of c_a c_w.
 *
 * An activation's byte is u = c_a - in_bytes.base >= 0, so with S_w = sum of c_w over the taps that a kernel visits (tap_sums)
 *
 *   D = base * S_w + sum of u c_w
 *
 * and a tap outside the image may be visited if it reads u = -base, the byte of code 0 (in_bytes.outside). |D| must stay below 2^31 (the
 * graph's Accumulator bound); sums on the way may wrap.
 * Input: uint8, in_stride bytes a pixel. Weights: layout I8 of kernels/weights.h; codes -128 to 127. SIMD kernels read channels in fours:
 * in_stride has room for whole fours, and what stands in a padding channel does not matter (its weights are 0). They need groups = 1, or
 * in_c / groups a multiple of 4 and out_c / groups a multiple of 16. The scalar kernel serves every shape.
 *
 * in_bytes.short_steps says how many fours of one output channel may be summed in int16: 2 * short_steps * max u * max |c_w| <= 32767, so
 * neither a sum of two products nor that many of them can leave int16. 0: not even one.
 */
#ifndef BITFOLD_KERNELS_CONV_I8_H_
#define BITFOLD_KERNELS_CONV_I8_H_

#include "kernels/conv.h"

#endif
