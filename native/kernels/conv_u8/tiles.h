/* The body of the kernels on pictures, included by ISA files after simd_*.h; kPixels and kBlocks are the ISA's register tile.
 *
 * The input rows that one output row reads are spread out as int16 in a small buffer, zeros where there is no image, so that no tap is ever
 * outside. There the taps of a kernel row are one run, of which a step (pairs.h) takes two codes of neighbouring output pixels of a row.
 */
#ifndef BITFOLD_KERNELS_CONV_U8_TILES_H_
#define BITFOLD_KERNELS_CONV_U8_TILES_H_

#include "kernels/epilogue_simd.h"
#include "kernels/pairs.h"
#include "kernels/window.h"

static constexpr int32_t kCodes = 2 * BF_U8_WINDOW;  // of the buffer

struct Runs {
  const int16_t* first;    // of pixel 0 of the tile, first tap row
  const int16_t* weights;  // of the first block, first tap row
  int64_t pitch, step, block_step;  // codes: tap row to tap row, pixel to pixel, weights of a block
  int32_t rows, pairs;
};

template <int P, int B>
static inline void dot_tile(const Runs& t, TileSums d) {
  vi acc[P][B];
  pairs_zero(acc);
  const int16_t* w = t.weights;
  for (int32_t i = 0; i < t.rows; ++i) {
    const int16_t* px[P];
    BF_UNROLL
    for (int p = 0; p < P; ++p) px[p] = t.first + i * t.pitch + p * t.step;
    w = pairs_add(acc, px, w, t.pairs, t.block_step);
  }
  pairs_store(acc, d);
}

template <int B>
static void dot_pixels(int32_t pixels, const Runs& t, TileSums d) {
  switch (pixels) {
    case 1: return dot_tile<1, B>(t, d);
    case 2: return dot_tile<2, B>(t, d);
    case 3: return dot_tile<3, B>(t, d);
    case 4: return dot_tile<4, B>(t, d);
    case 5: return dot_tile<(kPixels < 5 ? 1 : 5), B>(t, d);
    case 6: return dot_tile<(kPixels < 6 ? 1 : 6), B>(t, d);
    default: return dot_tile<kPixels, B>(t, d);
  }
}

/* Input columns [begin, end) of row iy as int16, zeros outside the image. */
static void spread_row(const bf_conv_args* args, int32_t iy, int32_t begin, int32_t end, int16_t* to) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c, from = begin < 0 ? (end < 0 ? end : 0) : begin, until = end > s->in_w ? s->in_w : end;
  const uint8_t* pixel = (const uint8_t*)args->input + ((int64_t)iy * s->in_w + from) * s->in_stride;
  for (int32_t k = (from - begin) * channels; k > 0; --k) *to++ = 0;
  if (s->in_stride == channels) {
    const int32_t count = until > from ? (until - from) * channels : 0;
    for (int32_t k = 0; k < count; ++k) to[k] = pixel[k];
    to += count;
  } else {
    for (int32_t x = from; x < until; ++x, pixel += s->in_stride)
      for (int32_t c = 0; c < channels; ++c) *to++ = pixel[c];
  }
  const int32_t rest = end - (until > from ? until : from);
  for (int32_t k = rest * channels; k > 0; --k) *to++ = 0;
}

/* Outputs [x0, x1) of row y; the buffer holds what they read. */
static void conv_part(const bf_conv_args* args, int32_t y, int32_t x0, int32_t x1, int32_t b0, int32_t b1, int16_t* buffer) {
  const bf_conv_shape* s = &args->shape;
  const TapRange rows = bf_valid_rows(s, y);
  const int32_t begin = x0 * s->stride_w - s->pad_w, end = (x1 - 1) * s->stride_w - s->pad_w + s->kernel_w;
  Runs t;
  t.pitch = (int64_t)(end - begin) * s->in_c;
  t.step = (int64_t)s->stride_w * s->in_c;
  t.rows = rows.end > rows.begin ? rows.end - rows.begin : 0;
  t.pairs = (s->kernel_w * s->in_c + 1) / 2;
  t.block_step = (int64_t)s->kernel_h * t.pairs * 32;
  for (int32_t i = 0; i < t.rows; ++i)
    spread_row(args, y * s->stride_h - s->pad_h + (rows.begin + i) * s->dilation_h, begin, end, buffer + i * t.pitch);
  buffer[t.rows * t.pitch] = 0;  // what the last pair of an odd run reads beyond it; its weight is 0
  const Tiling row(x1 - x0, kPixels);
  for (int32_t b = b0, blocks; b < b1; b += blocks) {
    blocks = b1 - b >= kBlocks ? kBlocks : 1;
    t.weights = (const int16_t*)args->weights + b * t.block_step + (int64_t)rows.begin * t.pairs * 32;
    const auto sum = [&](int32_t x, int32_t count, TileSums sums) {
      t.first = buffer + x * t.step;
      if (blocks == kBlocks) dot_pixels<kBlocks>(count, t, sums);
      else dot_pixels<1>(count, t, sums);
    };
    bf_for_runs<kBlocks>(row, sum, [&](int32_t x, int32_t count, auto& d) {
      for (int32_t k = 0; k < blocks; ++k) bf_finish_ints(args, y, x0 + x, count, b + k, 0, d[k]);
    });
  }
}

static inline void conv_u8_blocks(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  int16_t buffer[kCodes + 1];
  const int32_t columns = kCodes / (s->kernel_h * s->in_c);  // of the image that the buffer holds; kernel_w at least
  const int32_t most = (columns - s->kernel_w) / s->stride_w + 1, width = most < s->out_w ? most : s->out_w;
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < s->out_w; x += width) conv_part(args, y, x, x + width < s->out_w ? x + width : s->out_w, b0, b1, buffer);
}

#endif
