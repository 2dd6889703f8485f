/* Which shapes a kernel serves (bf_refuses_fn): null, or the reason why not. */
#pragma once

#include "kernels/conv.h"

extern "C" {
inline const char* bf_serves_all(const bf_conv_shape*) { return nullptr; }

const char* bf_needs_word_groups(const bf_conv_shape* shape);      /* blocked popcount kernels, 16 output channels */
const char* bf_needs_word_groups_avx2(const bf_conv_shape* shape); /* 32 output channels; 16-bit counters */
const char* bf_needs_plane_groups(const bf_conv_shape* shape);      /* the same of several planes */
const char* bf_needs_plane_groups_avx2(const bf_conv_shape* shape); /* 32 output channels */
const char* bf_needs_pairs(const bf_conv_shape* shape);            /* conv_i16 */
const char* bf_needs_fours(const bf_conv_shape* shape);            /* conv_i8 */
const char* bf_needs_octets(const bf_conv_shape* shape);           /* adder_u8 */
const char* bf_needs_window(const bf_conv_shape* shape);           /* conv_u8 */
const char* bf_needs_blocks(const bf_conv_shape* shape);           /* conv_f32 */
const char* bf_needs_depthwise(const bf_conv_shape* shape);        /* conv_f32 dw */
const char* bf_needs_plain_rows(const bf_conv_shape* shape);       /* dense_packed */
}
