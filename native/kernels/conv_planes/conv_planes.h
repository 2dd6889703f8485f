/* conv_planes: activations and weights of a few bit planes each, by popcount, exact int32.
 *
 * With c_a = a0 + sum_i k_i A_i and c_w = w0 + sum_j m_j W_j (A_i, W_j bits; bf_code_planes), over the valid taps and the group's channels
 *
 *   D = a0 * S_w + w0 * (S_a - a0 * N) + sum over i, j of k_i m_j popcount(A_i and W_j)
 *
 * with S_w = sum of c_w (tap_sums over the valid taps), S_a = sum of c_a (epilogue.patch_sums, made by kernels/patch_sum; needed when
 * w0 != 0, may be null otherwise) and N = valid taps * in_c / groups. Padding bits are 0 on both sides, and where a ternary code is 0 both of
 * its bits are.
 * Input: packed codes, [pixel][plane][word], in_stride words a pixel (planes * ceil(in_c / 32)). Weights: layout WORDS or NIBBLES of
 * kernels/weights.h. The scalar kernel serves every shape; SIMD kernels as in conv_b1, with at most 16384 input channels in all groups.
 *
 * SIMD kernels do not go pair by pair everywhere: with WORDS, ternary weights take one pass (products.h); with NIBBLES, planes are looked
 * up two by two (tables_avx2.h).
 */
#ifndef BITFOLD_KERNELS_CONV_PLANES_H_
#define BITFOLD_KERNELS_CONV_PLANES_H_

#include "kernels/conv.h"

#endif
