/* conv_i16: activation and weight codes as int16, exact int32: D = sum over valid taps and channels of c_a c_w.
 *
 * Serves every pair of encodings; |D| must stay below 2^31 (the graph's Accumulator bound), sums on the way may wrap.
 * Input: int16 codes, in_stride elements a pixel. SIMD kernels read channels in pairs: in_stride is even when in_c is odd, and what
 * stands in a padding channel does not matter (its weights are 0). They need groups = 1, or in_c / groups even and out_c / groups a
 * multiple of 16. Weights: layout I16 of kernels/weights.h. The scalar kernel serves every shape.
 */
#ifndef BITFOLD_KERNELS_CONV_I16_H_
#define BITFOLD_KERNELS_CONV_I16_H_

#include "kernels/conv.h"

#endif
