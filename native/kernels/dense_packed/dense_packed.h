/* dense_packed: 8-bit activations x weights of 1, 2 or 4 bits that stay packed in memory, exact int32.
 *
 * D = sum over valid taps and channels of c_a c_w. An activation's byte is u = c_a - a0 >= 0 (in_bytes.base, max), a weight code is
 * w0 + m * f with an unsigned field f of `bits` bits (weight_fields), so of N products without padding
 *
 *   D = m * (sum of u f) + w0 * S_a + a0 * (S_w - w0 * N)
 *
 * with S_a = sum of c_a (epilogue.patch_sums, made by kernels/patch_sum; needed where w0 != 0, may be null otherwise) and S_w = sum of c_w
 * (tap_sums). |D| must stay below 2^31 (the graph's Accumulator bound); sums on the way may wrap.
 * Input: uint8, in_stride bytes a pixel. Weights: layout FIELDS of kernels/weights.h.
 *
 * The SIMD kernels are matrix products, pixels x channels: 1x1, stride 1, no padding, one group. They read activations four channels at a
 * time, so in_stride has room for whole fours; what stands in padding channels does not matter (their fields are 0). The scalar kernel
 * serves every shape.
 */
#ifndef BITFOLD_KERNELS_DENSE_PACKED_H_
#define BITFOLD_KERNELS_DENSE_PACKED_H_

#include "kernels/conv.h"

#endif
