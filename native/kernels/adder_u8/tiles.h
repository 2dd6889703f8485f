/* The body of the byte kernels, included by ISA files after simd_*.h; kPixels is the ISA's register tile. The file also defines
 *
 *   Octet            8 activations, repeated over a register           Octet octet_load(const uint8_t*), octet_load_masked(.., uint64_t)
 *   Weights          8 output channels x 8 input channels              Weights weights_load(const uint8_t*)
 *   Sums             8 output channels, their sums spread over lanes    Sums sums_zero(), void sums_add(Sums&, Octet, const Weights&)
 *                                                                       void sums_store(int32_t* eight, const Sums&)
 *
 * The sum of absolute differences of 8 bytes lands in one lane of 64 bits, so each such lane belongs to one output channel and nothing has to
 * be added across lanes. A tile is P output pixels of a row x 8 channels. A tap outside the image reads in_bytes.outside.
 */
#ifndef BITFOLD_KERNELS_ADDER_U8_TILES_H_
#define BITFOLD_KERNELS_ADDER_U8_TILES_H_

#include "kernels/epilogue_simd.h"
#include "kernels/window.h"

#define BF_UNROLL _Pragma("GCC unroll 16")

static constexpr int kRun = 4 * kPixels;  // pixels of a row that share the weights of 8 channels before the next 8 are read

struct ByteTile {
  const uint8_t *input, *outside;  // the group's first channel of pixel (0, 0)
  int64_t column_step, pixel_step;  // bytes from input column to column, from output pixel to pixel
  int32_t in_h, in_w, kernel_h, kernel_w;
  int32_t row, dilation_h;                 // input row of tap row 0; tap to tap
  int32_t column, stride, dilation;        // input column of pixel 0 at tap column 0; pixel to pixel; tap to tap
  int32_t octets;                          // whole groups of 8 channels
  uint64_t tail;                           // mask of the channels behind them; 0 if none
  bool contiguous;                         // the tap columns of every pixel lie inside and follow each other in memory
};

template <int P>
static inline void distance_tile(const ByteTile& t, const uint8_t* w, int32_t* sums) {
  Sums acc[P];
  BF_UNROLL
  for (int p = 0; p < P; ++p) acc[p] = sums_zero();
  for (int32_t i = 0; i < t.kernel_h; ++i) {
    const int32_t iy = t.row + i * t.dilation_h;
    const bool inside = (uint32_t)iy < (uint32_t)t.in_h, merged = inside && t.contiguous;
    const int32_t runs = merged ? 1 : t.kernel_w;
    const int64_t octets = merged ? (int64_t)t.octets * t.kernel_w : t.octets;
    for (int32_t j = 0; j < runs; ++j) {
      const uint8_t* px[P];
      int32_t ix = t.column + j * t.dilation;
      int64_t offset = ((int64_t)iy * t.in_w + ix) * t.column_step;
      BF_UNROLL
      for (int p = 0; p < P; ++p, ix += t.stride, offset += t.pixel_step) {
        px[p] = inside && (uint32_t)ix < (uint32_t)t.in_w ? t.input + offset : t.outside;
      }
      for (int64_t c = 0; c < octets; ++c, w += 64) {
        const Weights weights = weights_load(w);
        BF_UNROLL
        for (int p = 0; p < P; ++p) sums_add(acc[p], octet_load(px[p] + 8 * c), weights);
      }
      if (t.tail) {
        const Weights weights = weights_load(w);
        BF_UNROLL
        for (int p = 0; p < P; ++p) sums_add(acc[p], octet_load_masked(px[p] + 8 * octets, t.tail), weights);
        w += 64;
      }
    }
  }
  BF_UNROLL
  for (int p = 0; p < P; ++p) sums_store(sums + 16 * p, acc[p]);
}

static void distance_pixels(int32_t pixels, const ByteTile& t, const uint8_t* w, int32_t* sums) {
  switch (pixels) {
    case 1: return distance_tile<1>(t, w, sums);
    case 2: return distance_tile<2>(t, w, sums);
    case 3: return distance_tile<3>(t, w, sums);
    case 4: return distance_tile<4>(t, w, sums);
    case 5: return distance_tile<kPixels < 5 ? 1 : 5>(t, w, sums);
    case 6: return distance_tile<kPixels < 6 ? 1 : 6>(t, w, sums);
    case 7: return distance_tile<kPixels < 7 ? 1 : 7>(t, w, sums);
    default: return distance_tile<kPixels>(t, w, sums);
  }
}

/* Pixels (y, x) to (y, x + count - 1), at most kRun, of block b: sums of the bytes' distances, [pixel][16]. */
static void distance_run(const bf_conv_shape* s, ByteTile& t, int32_t x, int32_t count, const uint8_t* weights, int64_t half_bytes,
                         int32_t* sums) {
  const TapRange inside = bf_inside_columns(s);
  const bool contiguous = s->dilation_w == 1 && s->in_stride == 8 * (int64_t)t.octets;
  const int32_t tiles = (count + kPixels - 1) / kPixels;
  for (int half = 0; half < 2; ++half)
    for (int32_t tile = 0; tile < tiles; ++tile) {
      const int32_t from = tile * count / tiles, end = (tile + 1) * count / tiles;
      t.column = (x + from) * s->stride_w - s->pad_w;
      t.contiguous = contiguous && x + from >= inside.begin && x + end <= inside.end;
      distance_pixels(end - from, t, weights + half * half_bytes, sums + 16 * from + 8 * half);
    }
}

static inline void adder_u8_blocks(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  const int32_t group_blocks = s->groups == 1 ? (s->out_c + 15) / 16 : s->out_c / s->groups / 16;
  const int32_t channels = s->in_c / s->groups;
  const int64_t half_bytes = (int64_t)s->kernel_h * s->kernel_w * ((channels + 7) / 8) * 64;
  ByteTile t = {};
  t.outside = args->in_bytes.outside;
  t.column_step = s->in_stride;
  t.pixel_step = s->in_stride * s->stride_w;
  t.in_h = s->in_h, t.in_w = s->in_w, t.kernel_h = s->kernel_h, t.kernel_w = s->kernel_w;
  t.dilation_h = s->dilation_h, t.stride = s->stride_w, t.dilation = s->dilation_w;
  t.octets = channels / 8;
  t.tail = channels % 8 ? ~(uint64_t)0 >> (64 - 8 * (channels % 8)) : 0;
  for (int32_t b = b0; b < b1; ++b) {
    t.input = (const uint8_t*)args->input + b / group_blocks * channels;
    const vi excess = vi_load(args->excess + 16 * (int64_t)b);
    for (int32_t y = y0; y < y1; ++y) {
      t.row = y * s->stride_h - s->pad_h;
      for (int32_t x = 0; x < s->out_w; x += kRun) {
        const int32_t count = s->out_w - x < kRun ? s->out_w - x : kRun;
        int32_t sums[kRun * 16];
        vi d[kRun];
        distance_run(s, t, x, count, (const uint8_t*)args->weights + 2 * b * half_bytes, half_bytes, sums);
        for (int32_t p = 0; p < count; ++p) d[p] = vi_sub(vi_set1(0), vi_add(vi_load(sums + 16 * p), excess));
        bf_finish_ints(args, y, x, count, b, b / group_blocks, d);
      }
    }
  }
}

#endif
