/* The body of the int16 kernels, included by ISA files after simd_*.h; kPixels and kBlocks are the ISA's register tile.
 *
 * A step (pairs.h) takes two input channels of neighbouring output pixels of a row. A tap outside the image reads zeros.
 */
#ifndef BITFOLD_KERNELS_CONV_I16_TILES_H_
#define BITFOLD_KERNELS_CONV_I16_TILES_H_

#include "kernels/epilogue_simd.h"
#include "kernels/pairs.h"
#include "kernels/window.h"

static const int16_t kZeroCodes[16384] = {};  // stands for the codes of a tap outside the image

struct CodeTile {
  const int16_t* origin;   // the group's first channel of input row `first tap row`, column 0
  const int16_t* weights;  // of the first block, tap (first tap row, 0)
  int64_t row_step, column_step, block_step;   // elements: tap row to tap row, input column to input column, weights of a block
  int32_t rows, kernel_w, pairs;
  int32_t column, stride, dilation, in_w;      // input column of pixel 0 at tap column 0; pixel to pixel; tap to tap
};

template <int P, int B>
static inline void dot_tile(const CodeTile& t, TileSums d) {
  vi acc[P][B];
  pairs_zero(acc);
  const int16_t* w = t.weights;
  for (int32_t i = 0; i < t.rows; ++i)
    for (int32_t j = 0; j < t.kernel_w; ++j) {
      const int16_t* px[P];
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const int32_t ix = t.column + p * t.stride + j * t.dilation;
        px[p] = (uint32_t)ix < (uint32_t)t.in_w ? t.origin + i * t.row_step + ix * t.column_step : kZeroCodes;
      }
      w = pairs_add(acc, px, w, t.pairs, t.block_step);
    }
  pairs_store(acc, d);
}

template <int B>
static void dot_pixels(int32_t pixels, const CodeTile& t, TileSums d) {
  switch (pixels) {
    case 1: return dot_tile<1, B>(t, d);
    case 2: return dot_tile<2, B>(t, d);
    case 3: return dot_tile<3, B>(t, d);
    case 4: return dot_tile<4, B>(t, d);
    case 5: return dot_tile<5, B>(t, d);
    case 6: return dot_tile<6, B>(t, d);
    default: return dot_tile<kPixels, B>(t, d);
  }
}

static inline void conv_i16_blocks(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  const int32_t group_blocks = s->groups == 1 ? (s->out_c + 15) / 16 : s->out_c / s->groups / 16;
  const int32_t channels = s->in_c / s->groups;
  const Tiling row(s->out_w, kPixels);
  CodeTile t;
  t.column_step = s->in_stride;
  t.row_step = s->dilation_h * s->in_w * s->in_stride;
  t.kernel_w = s->kernel_w;
  t.pairs = (channels + 1) / 2;
  t.block_step = (int64_t)s->kernel_h * s->kernel_w * t.pairs * 32;
  t.stride = s->stride_w;
  t.dilation = s->dilation_w;
  t.in_w = s->in_w;
  for (int32_t b = b0, blocks; b < b1; b += blocks) {
    const int32_t group = b / group_blocks, group_end = (group + 1) * group_blocks;
    blocks = (b1 < group_end ? b1 : group_end) - b >= kBlocks ? kBlocks : 1;
    for (int32_t y = y0; y < y1; ++y) {
      const TapRange rows = bf_valid_rows(s, y);
      const int64_t iy = (int64_t)y * s->stride_h - s->pad_h + rows.begin * s->dilation_h;
      t.rows = rows.end - rows.begin;
      t.origin = (const int16_t*)args->input + iy * s->in_w * s->in_stride + group * channels;
      t.weights = (const int16_t*)args->weights + b * t.block_step + rows.begin * s->kernel_w * t.pairs * 32;
      const auto sum = [&](int32_t x, int32_t count, TileSums sums) {
        t.column = x * s->stride_w - s->pad_w;
        if (blocks == kBlocks) dot_pixels<kBlocks>(count, t, sums);
        else dot_pixels<1>(count, t, sums);
      };
      bf_for_runs<kBlocks>(row, sum, [&](int32_t x, int32_t count, auto& d) {
        for (int32_t k = 0; k < blocks; ++k) bf_finish_ints(args, y, x, count, b + k, group, d[k]);
      });
    }
  }
}

#endif
