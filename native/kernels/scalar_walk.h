/* The walk that the scalar kernels share, in plain C99: over rows, columns, blocks and channels, and where a tap reads.
 *
 * Included by scalar.c files after they define the accumulator of one output, `int32_t name(const bf_conv_args*, y, x, o)`. */
#ifndef BITFOLD_KERNELS_SCALAR_WALK_H_
#define BITFOLD_KERNELS_SCALAR_WALK_H_

#include "kernels/epilogue_scalar.h"

/* The number of the input pixel that tap (i, j) of output (y, x) reads, in rows of in_w; -1 outside the image. */
static inline int64_t bf_tap_pixel(const bf_conv_shape* s, int32_t y, int32_t x, int32_t i, int32_t j) {
  const int32_t iy = y * s->stride_h - s->pad_h + i * s->dilation_h, ix = x * s->stride_w - s->pad_w + j * s->dilation_w;
  return iy >= 0 && iy < s->in_h && ix >= 0 && ix < s->in_w ? (int64_t)iy * s->in_w + ix : -1;
}

/* A kernel of integers whose accumulators `sum` computes one by one. */
static inline void bf_scalar_ints(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1,
                                  int32_t (*sum)(const bf_conv_args*, int32_t y, int32_t x, int32_t o)) {
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < args->shape.out_w; ++x)
      for (int32_t b = b0; b < b1; ++b) {
        int32_t d[16];
        for (int32_t lane = 0; lane < 16 && 16 * b + lane < args->shape.out_c; ++lane) d[lane] = sum(args, y, x, 16 * b + lane);
        bf_epilogue_block(args, y, x, b, d, 0);
      }
}

#endif
