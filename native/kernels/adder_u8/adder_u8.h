/* adder_u8: the negative L1 distance of activation and weight codes held as bytes, exact int32.
 *
 *   D = -(sum over ALL taps and the group's channels of |c_w - c_a|)
 *
 * A tap outside the image is not skipped as in a product: it reads the code that stands for the value 0, and costs |c_w - zero|. The
 * difference of two codes does not change when both are shifted, so a byte is the code minus the lowest code of the activations.
 * Weight codes outside the activations' range [low, high] are clamped to it; since low <= c_a <= high, what the clamp takes off is a constant:
 *
 *   |c_w - c_a| = |clamp(c_w) - c_a| + |c_w - clamp(c_w)|          args.excess[o] = sum of the last term over all taps and channels
 *
 * Input: one byte a code, in_stride bytes a pixel; what stands in a padding channel does not matter. in_bytes.outside: the bytes of a pixel outside
 * the image, in_c / groups rounded up to eights. Weights: layout OCTETS of kernels/weights.h, whose padding bytes are 0. |D| must stay
 * below 2^31. SIMD kernels read 8 channels at a time: in_stride has room for them, and groups = 1 or in_c / groups is a multiple of 8 and
 * out_c / groups one of 16. The scalar kernel serves every shape.
 */
#ifndef BITFOLD_KERNELS_ADDER_U8_H_
#define BITFOLD_KERNELS_ADDER_U8_H_

#include "kernels/conv.h"

#endif
