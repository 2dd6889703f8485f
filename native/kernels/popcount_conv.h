/* The body of conv_b1 and conv_planes that all ISAs share. Included by ISA files after simd_*.h; the including file then defines
 *
 *   template <bool kXor, int P> static void count_tile(const Tile&, const void* weights, int32_t blocks, vi (*counts)[kPixels])
 *
 * which counts, for P neighbouring output pixels and `blocks` blocks, the ones of (activation xor weight) or (activation and weight),
 * reading words of 0 for taps outside the image. kPixels, kBlocks (per step) and kWeightBlocks (16-channel blocks that the layout of the
 * weights holds together) are the including file's constants.
 */
#ifndef BITFOLD_KERNELS_POPCOUNT_CONV_H_
#define BITFOLD_KERNELS_POPCOUNT_CONV_H_

#include "kernels/epilogue_simd.h"
#include "kernels/window.h"

#define BF_UNROLL _Pragma("GCC unroll 16")

alignas(64) static const uint8_t kZeroWords[2048] = {};  // stands for the codes of a tap outside the image

/* Where the activations of a tile are: plane and group of the input are already added to `origin`. */
struct Tile {
  const uint8_t* origin;  // pixel (input row of tap row `begin`, column 0)
  int64_t pixel_bytes, row_bytes, tap_bytes;  // row_bytes: from one tap row to the next
  int32_t rows, kernel_w;                     // valid tap rows
  int32_t column, stride, dilation, in_w;     // input column of pixel 0 at tap column 0; from pixel to pixel; from tap to tap
  int64_t weight_step;                        // bytes of all planes of one weight block
  bool inside;                                // every tap column of every pixel is inside the image
  bool contiguous;                            // and the tap columns of one pixel follow each other in memory
};

/* Calls run(pointers, bytes) for runs of bytes in the order of the weights. */
template <int P, typename Run>
BF_INLINE void for_each_run(const Tile& t, const Run& run) {
  const uint8_t* px[P];
  for (int32_t i = 0; i < t.rows; ++i) {
    const uint8_t* row = t.origin + i * t.row_bytes;
    for (int32_t j = 0; j < (t.contiguous ? 1 : t.kernel_w); ++j) {
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const int32_t ix = t.column + p * t.stride + j * t.dilation;
        px[p] = t.inside || (uint32_t)ix < (uint32_t)t.in_w ? row + ix * t.pixel_bytes : kZeroWords;
      }
      run(px, t.contiguous ? t.tap_bytes * t.kernel_w : t.tap_bytes);
    }
  }
}

template <bool kXor, int P>
static void count_tile(const Tile& t, const void* weights, int32_t blocks, vi (*counts)[kPixels]);

template <bool kXor>
static void count_pixels(int32_t pixels, const Tile& t, const void* weights, int32_t blocks, vi (*counts)[kPixels]) {
  switch (pixels) {
    case 1: return count_tile<kXor, 1>(t, weights, blocks, counts);
    case 2: return count_tile<kXor, 2>(t, weights, blocks, counts);
    case 3: return count_tile<kXor, 3>(t, weights, blocks, counts);
    case 4: return count_tile<kXor, 4>(t, weights, blocks, counts);
    case 5: return count_tile<kXor, kPixels < 5 ? 1 : 5>(t, weights, blocks, counts);
    case 6: return count_tile<kXor, kPixels < 6 ? 1 : 6>(t, weights, blocks, counts);
    case 7: return count_tile<kXor, kPixels < 7 ? 1 : 7>(t, weights, blocks, counts);
    default: return count_tile<kXor, kPixels>(t, weights, blocks, counts);
  }
}

/* Sum of tap_sums of block b over the tap rows [i0, i1) and the tap columns that `columns` leaves out. */
static inline vi left_out(const bf_conv_args* args, int32_t b, TapRange rows, TapRange columns) {
  const int32_t kw = args->shape.kernel_w;
  vi sum = vi_set1(0);
  for (int32_t i = rows.begin; i < rows.end; ++i)
    for (int32_t j = 0; j < kw; ++j)
      if (j < columns.begin || j >= columns.end)
        sum = vi_add(sum, vi_load(args->tap_sums + (((int64_t)b * args->shape.kernel_h + i) * kw + j) * 16));
  return sum;
}

/* xor counts -> D (conv_b1.h). */
static inline void finish_xor(const bf_conv_args* args, TapRange rows, int32_t x, int32_t count, int32_t b, vi* d) {
  const bf_conv_shape* s = &args->shape;
  const int32_t all = rows.begin < rows.end ? (rows.end - rows.begin) * s->kernel_w * (s->in_c / s->groups) : 0;
  for (int32_t p = 0; p < count; ++p) {
    d[p] = vi_sub(vi_set1(all), vi_add(d[p], d[p]));
    const TapRange columns = bf_valid_columns(s, x + p);
    if (columns.begin > 0 || columns.end < s->kernel_w) d[p] = vi_sub(d[p], left_out(args, b, rows, columns));
  }
}

/* Weighted and counts -> D (conv_planes.h). */
static inline void finish_and(const bf_conv_args* args, TapRange rows, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, vi* d) {
  const bf_conv_shape* s = &args->shape;
  const int32_t a0 = args->in_planes.base, w0 = args->weight_planes.base;
  const TapRange none = {0, 0};
  const vi whole = a0 ? left_out(args, b, rows, none) : vi_set1(0);
  for (int32_t p = 0; p < count; ++p) {
    const TapRange columns = bf_valid_columns(s, x + p);
    const int32_t taps = rows.begin < rows.end && columns.begin < columns.end ? (rows.end - rows.begin) * (columns.end - columns.begin) : 0;
    if (a0) {
      const bool border = columns.begin > 0 || columns.end < s->kernel_w;
      const vi sum = border ? vi_sub(whole, left_out(args, b, rows, columns)) : whole;
      d[p] = vi_add(d[p], vi_mul(vi_set1(a0), sum));
    }
    if (w0) {
      const int32_t patch = args->epilogue.patch_sums[((int64_t)y * s->out_w + x + p) * s->groups + group];
      d[p] = vi_add(d[p], vi_set1(w0 * (patch - a0 * taps * (s->in_c / s->groups))));
    }
  }
}

template <bool kXor>
static void popcount_conv(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  const int32_t in_planes = kXor ? 1 : args->in_planes.planes, weight_planes = kXor ? 1 : args->weight_planes.planes;
  const int32_t group_blocks = s->groups == 1 ? (s->out_c + 15) / 16 : s->out_c / s->groups / 16;
  const int64_t plane_bytes = ((int64_t)s->in_c + 31) / 32 * 4, tap_bytes = ((int64_t)s->in_c / s->groups + 31) / 32 * 4;
  const int32_t tiles = (s->out_w + kPixels - 1) / kPixels;
  const TapRange inside = bf_inside_columns(s);
  const bool contiguous = s->dilation_w == 1 && s->in_stride * 4 == tap_bytes;

  for (int32_t b = b0, blocks; b < b1; b += blocks) {
    const int32_t group = b / group_blocks, group_end = (group + 1) * group_blocks;
    blocks = b1 < group_end ? b1 - b : group_end - b;
    if (blocks > kBlocks) blocks = kBlocks;
    for (int32_t y = y0; y < y1; ++y) {
      const TapRange rows = bf_valid_rows(s, y);
      const int64_t iy = (int64_t)y * s->stride_h - s->pad_h + rows.begin * s->dilation_h;
      for (int32_t tile = 0; tile < tiles; ++tile) {
        const int32_t x = (int32_t)((int64_t)tile * s->out_w / tiles), end = (int32_t)((int64_t)(tile + 1) * s->out_w / tiles);
        vi d[kBlocks][kPixels], counts[kBlocks][kPixels];
        for (int32_t k = 0; !kXor && k < blocks; ++k)
          for (int32_t p = 0; p < end - x; ++p) d[k][p] = vi_set1(0);
        Tile t;
        t.pixel_bytes = s->in_stride * 4;
        t.row_bytes = (int64_t)s->dilation_h * s->in_w * t.pixel_bytes;
        t.tap_bytes = tap_bytes;
        t.rows = rows.end - rows.begin;
        t.kernel_w = s->kernel_w;
        t.column = x * s->stride_w - s->pad_w;
        t.stride = s->stride_w;
        t.dilation = s->dilation_w;
        t.in_w = s->in_w;
        t.weight_step = (int64_t)weight_planes * s->kernel_h * s->kernel_w * tap_bytes * 16 * kWeightBlocks;
        t.inside = x >= inside.begin && end <= inside.end;
        t.contiguous = t.inside && contiguous;
        for (int32_t i = 0; i < in_planes; ++i)
          for (int32_t j = 0; j < weight_planes; ++j) {
            t.origin = (const uint8_t*)args->input + iy * s->in_w * t.pixel_bytes + i * plane_bytes + group * tap_bytes;
            const int64_t plane = (int64_t)(b / kWeightBlocks) * weight_planes + j, first_tap = rows.begin * s->kernel_w;
            const void* w = (const uint8_t*)args->weights + (plane * s->kernel_h * s->kernel_w + first_tap) * tap_bytes * 16 * kWeightBlocks;
            if (kXor) {
              count_pixels<kXor>(end - x, t, w, blocks, d);
              continue;
            }
            count_pixels<kXor>(end - x, t, w, blocks, counts);
            const vi factor = vi_set1(args->in_planes.coefficient[i] * args->weight_planes.coefficient[j]);
            for (int32_t k = 0; k < blocks; ++k)
              for (int32_t p = 0; p < end - x; ++p) d[k][p] = vi_add(d[k][p], vi_mul(factor, counts[k][p]));
          }
        for (int32_t k = 0; k < blocks; ++k) {
          if (kXor) finish_xor(args, rows, x, end - x, b + k, d[k]);
          else finish_and(args, rows, y, x, end - x, b + k, group, d[k]);
          bf_finish_ints(args, y, x, end - x, b + k, group, d[k]);
        }
      }
    }
  }
}

#endif
