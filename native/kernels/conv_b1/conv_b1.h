/* conv_b1: binary activations x binary weights, exact int32.
 *
 * Codes are -1 and +1, packed with bit 1 = -1, so for K pairs  a . w = K - 2 popcount(a xor w).  Per output pixel and channel
 *
 *   D = valid taps * (in_c / groups) - 2 * (sum over valid taps of popcount(a xor w))
 *
 * Padding bits are 0 on both sides and count nothing. SIMD kernels read words of 0 for a tap outside the image; these stand for +1, so the
 * tap contributes exactly tap_sums[tap], which is subtracted again.
 * Input: packed codes, one plane, in_stride words a pixel. Weights: layout WORDS or BYTES of kernels/weights.h.
 * The scalar kernel serves every shape. SIMD kernels need groups cut at words: groups = 1, or in_c / groups a multiple of 32 and
 * out_c / groups a multiple of 16 (of the kernel's channel step).
 */
#ifndef BITFOLD_KERNELS_CONV_B1_H_
#define BITFOLD_KERNELS_CONV_B1_H_

#include "kernels/conv.h"

/* Most bytes of packed activations that one output pixel may read of a group, in kernels that stage them. */
#define BF_B1_WINDOW 16384

#endif
