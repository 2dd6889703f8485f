/* The body of the int8 kernels, included by ISA files after simd_*.h; kPixels and kBlocks are the ISA's register tile.
 *
 * One tile is P output pixels of a row x B blocks of 16 channels. A step takes four input channels: their bytes, broadcast, against 16 fours of
 * weights of each block.
 * The ISA's Dot has
 *   Sum            what is kept in registers; Dot::zero()
 *   kShort         a Sum may take in_bytes.short_steps steps, then it is widened
 *   offset()       what the Dot takes off every byte
 *   step(sum, bytes, weights)   one step: 4 bytes, 64 weights
 *   widen(d, sum)  d + sum as 16 int32
 */
#ifndef BITFOLD_KERNELS_CONV_I8_TILES_H_
#define BITFOLD_KERNELS_CONV_I8_TILES_H_

#include "kernels/epilogue_simd.h"
#include "kernels/window.h"

#define BF_UNROLL _Pragma("GCC unroll 16")

struct ByteTile {
  const uint8_t* origin;   // the group's first channel of input row `first tap row`, column 0
  const uint8_t* outside;  // stands for the bytes of a tap outside the image
  const int8_t* weights;   // of the first block, tap (first tap row, 0)
  int64_t row_step, column_step, block_step;  // bytes: tap row to tap row, input column to input column, weights of a block
  int32_t rows, kernel_w, fours;
  int32_t column, stride, dilation, in_w;  // input column of pixel 0 at tap column 0; pixel to pixel; tap to tap
  int32_t short_steps;
  bool contiguous;  // the taps of a row follow one another in memory
  vi start[kBlocks];  // the part of D that does not depend on the bytes
};

/* D of P pixels x B blocks. */
template <class Dot, int P, int B>
static inline void dot_tile(const ByteTile& t, const Dot& dot, TileSums d) {
  typename Dot::Sum sum[P][B];
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int b = 0; b < B; ++b) d[b][p] = t.start[b], sum[p][b] = Dot::zero();
  const bool inside = t.column >= 0 && t.column + (P - 1) * t.stride + (t.kernel_w - 1) * t.dilation < t.in_w;
  const int32_t taps = inside && t.contiguous ? 1 : t.kernel_w, length = inside && t.contiguous ? t.kernel_w * t.fours : t.fours;
  const int8_t* w = t.weights;
  int32_t left = t.short_steps;
  for (int32_t i = 0; i < t.rows; ++i)
    for (int32_t j = 0; j < taps; ++j) {
      const uint8_t* px[P];
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const int32_t ix = t.column + p * t.stride + j * t.dilation;
        px[p] = (uint32_t)ix < (uint32_t)t.in_w ? t.origin + i * t.row_step + ix * t.column_step : t.outside;
      }
      for (int64_t c = 0, end; c < length; c = end) {
        end = Dot::kShort && left < length - c ? c + left : length;
        for (int64_t k = c; k < end; ++k, w += 64) {
          typename Dot::Weights weights[B];
          BF_UNROLL
          for (int b = 0; b < B; ++b) weights[b] = dot.load(w + b * t.block_step);
          BF_UNROLL
          for (int p = 0; p < P; ++p)
            BF_UNROLL
            for (int b = 0; b < B; ++b) sum[p][b] = dot.step(sum[p][b], px[p] + 4 * k, weights[b]);
        }
        if (!Dot::kShort || (left -= (int32_t)(end - c)) > 0) continue;
        BF_UNROLL
        for (int p = 0; p < P; ++p)
          BF_UNROLL
          for (int b = 0; b < B; ++b) d[b][p] = Dot::widen(d[b][p], sum[p][b]), sum[p][b] = Dot::zero();
        left = t.short_steps;
      }
    }
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int b = 0; b < B; ++b) d[b][p] = Dot::widen(d[b][p], sum[p][b]);
}

template <class Dot, int B>
static void dot_pixels(int32_t pixels, const ByteTile& t, const Dot& dot, TileSums d) {
  switch (pixels) {
    case 1: return dot_tile<Dot, 1, B>(t, dot, d);
    case 2: return dot_tile<Dot, 2, B>(t, dot, d);
    case 3: return dot_tile<Dot, 3, B>(t, dot, d);
    case 4: return dot_tile<Dot, kPixels < 4 ? 1 : 4, B>(t, dot, d);
    case 5: return dot_tile<Dot, kPixels < 5 ? 1 : 5, B>(t, dot, d);
    case 6: return dot_tile<Dot, kPixels < 6 ? 1 : 6, B>(t, dot, d);
    default: return dot_tile<Dot, kPixels, B>(t, dot, d);
  }
}

/* What the bytes' base and the Dot's offset add to D of block b, over the valid tap rows and every tap column. */
static inline vi base_part(const bf_conv_args* args, int32_t b, TapRange rows, int32_t offset) {
  const int32_t factor = args->in_bytes.base + offset, kw = args->shape.kernel_w;
  vi sum = vi_set1(0);
  if (factor == 0) return sum;
  const int32_t* first = args->tap_sums + (int64_t)b * args->shape.kernel_h * kw * 16;
  for (int64_t tap = rows.begin * kw; tap < rows.end * kw; ++tap) sum = vi_add(sum, vi_load(first + tap * 16));
  return vi_mul(vi_set1(factor), sum);
}

template <class Dot>
static inline void conv_i8_blocks(const bf_conv_args* args, const Dot& dot, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  const int32_t group_blocks = s->groups == 1 ? (s->out_c + 15) / 16 : s->out_c / s->groups / 16;
  const int32_t channels = s->in_c / s->groups;
  const Tiling row(s->out_w, kPixels);
  ByteTile t;
  t.outside = args->in_bytes.outside;
  t.column_step = s->in_stride;
  t.row_step = s->dilation_h * s->in_w * s->in_stride;
  t.kernel_w = s->kernel_w;
  t.fours = (channels + 3) / 4;
  t.block_step = (int64_t)s->kernel_h * s->kernel_w * t.fours * 64;
  t.stride = s->stride_w;
  t.dilation = s->dilation_w;
  t.in_w = s->in_w;
  t.short_steps = args->in_bytes.short_steps;
  t.contiguous = s->dilation_w == 1 && s->in_stride == 4 * (int64_t)t.fours;
  for (int32_t b = b0, blocks; b < b1; b += blocks) {
    const int32_t group = b / group_blocks, group_end = (group + 1) * group_blocks;
    blocks = (b1 < group_end ? b1 : group_end) - b >= kBlocks ? kBlocks : 1;
    for (int32_t y = y0; y < y1; ++y) {
      const TapRange rows = bf_valid_rows(s, y);
      const int64_t iy = (int64_t)y * s->stride_h - s->pad_h + rows.begin * s->dilation_h;
      t.rows = rows.end - rows.begin;
      t.origin = (const uint8_t*)args->input + iy * s->in_w * s->in_stride + group * channels;
      t.weights = (const int8_t*)args->weights + b * t.block_step + rows.begin * s->kernel_w * t.fours * 64;
      for (int32_t k = 0; k < blocks; ++k) t.start[k] = base_part(args, b + k, rows, dot.offset());
      const auto sum = [&](int32_t x, int32_t count, TileSums sums) {
        t.column = x * s->stride_w - s->pad_w;
        if (blocks == kBlocks) dot_pixels<Dot, kBlocks>(count, t, dot, sums);
        else dot_pixels<Dot, 1>(count, t, dot, sums);
      };
      bf_for_runs<kBlocks>(row, sum, [&](int32_t x, int32_t count, auto& d) {
        for (int32_t k = 0; k < blocks; ++k) bf_finish_ints(args, y, x, count, b + k, group, d[k]);
      });
    }
  }
}

#endif
