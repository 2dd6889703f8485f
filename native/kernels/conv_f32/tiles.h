/* The body of the float32 kernels, included by ISA files after simd_*.h; kPixels and kBlocks are the ISA's register tile.
 *
 * One tile is P output pixels x B blocks of 16 channels, its accumulators in registers for the whole sum; a step loads B registers of
 * weights and broadcasts one input value per pixel. All pixels of a tile have the same valid taps: inside the image they are neighbours in
 * a row, at the left and right border neighbours in a column. A lone pixel takes four blocks, to keep enough independent sums in flight.
 */
#ifndef BITFOLD_KERNELS_CONV_F32_TILES_H_
#define BITFOLD_KERNELS_CONV_F32_TILES_H_

#include "kernels/epilogue_simd.h"
#include "kernels/window.h"

#define BF_UNROLL _Pragma("GCC unroll 16")

struct FloatTile {
  const float* weights;  // of the first block, tap (first tap row, 0)
  int64_t row_step, tap_step, pixel_step, block_step;  // floats: tap row to tap row, tap to tap, pixel to pixel, block to block
  int32_t rows, kernel_w, channels;
  TapRange columns;
  bool contiguous;  // the tap columns of a pixel follow each other in memory
};

static constexpr int kTiles = 4, kRow = kTiles * kPixels;  // pixels of a row that are finished together

/* D of P pixels x B blocks; sums: [block][kRow]. first: the group's first channel of pixel 0 at (first tap row, tap column 0). */
template <int P, int B>
static inline void sum_tile(const FloatTile& t, const float* first, vf* sums) {
  vf acc[P][B];
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int b = 0; b < B; ++b) acc[p][b] = vf_set1(0.0f);
  const int32_t runs = t.contiguous ? 1 : t.columns.end - t.columns.begin;
  const int32_t length = t.contiguous ? (t.columns.end - t.columns.begin) * t.channels : t.channels;
  const float* weights = t.weights + (int64_t)t.columns.begin * t.channels * 16;
  first += t.columns.begin * t.tap_step;
  for (int32_t i = 0; i < t.rows; ++i, first += t.row_step, weights += (int64_t)t.kernel_w * t.channels * 16) {
    const float *w = weights, *px[P];
    BF_UNROLL
    for (int p = 0; p < P; ++p) px[p] = p ? px[p - 1] + t.pixel_step : first;
    for (int32_t j = 0; j < runs; ++j) {
      for (int64_t c = 0; c < length; ++c, w += 16) {
        vf weight[B];
        BF_UNROLL
        for (int b = 0; b < B; ++b) weight[b] = vf_load(w + b * t.block_step);
        BF_UNROLL
        for (int p = 0; p < P; ++p) {
          const vf x = vf_set1(px[p][c]);
          BF_UNROLL
          for (int b = 0; b < B; ++b) acc[p][b] = vf_fma(x, weight[b], acc[p][b]);
        }
      }
      BF_UNROLL
      for (int p = 0; p < P; ++p) px[p] += t.tap_step;
    }
  }
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int b = 0; b < B; ++b) sums[b * kRow + p] = acc[p][b];
}

template <int B>
static void sum_pixels(int32_t pixels, const FloatTile& t, const float* first, vf* sums) {
  switch (pixels) {
    case 1: return sum_tile<1, B>(t, first, sums);
    case 2: return sum_tile<2, B>(t, first, sums);
    case 3: return sum_tile<3, B>(t, first, sums);
    case 4: return sum_tile<4, B>(t, first, sums);
    case 5: return sum_tile<5, B>(t, first, sums);
    case 6: return sum_tile<6, B>(t, first, sums);
    default: return sum_tile<kPixels, B>(t, first, sums);
  }
}

/* One call's share of the work: blocks [b, b + blocks) of one group. */
struct Strip {
  const bf_conv_args* args;
  int32_t b, blocks, group, pass;
};

/* The tile of output row y, whose pixels are neighbours in the row (or, if vertical, in the column). */
static inline FloatTile tile_of(const Strip& strip, int32_t y, bool vertical) {
  const bf_conv_shape* s = &strip.args->shape;
  const TapRange rows = bf_valid_rows(s, y);
  const int32_t channels = s->in_c / s->groups;
  const int64_t tap_row = (int64_t)s->kernel_w * channels * 16, row = s->in_w * s->in_stride;
  FloatTile t;
  t.row_step = s->dilation_h * row;
  t.tap_step = s->dilation_w * s->in_stride;
  t.pixel_step = vertical ? s->stride_h * row : s->stride_w * s->in_stride;
  t.block_step = s->kernel_h * tap_row;
  t.weights = (const float*)strip.args->weights + strip.b * t.block_step + rows.begin * tap_row;
  t.rows = rows.begin < rows.end ? rows.end - rows.begin : 0;
  t.kernel_w = s->kernel_w;
  t.channels = channels;
  t.columns = TapRange{0, s->kernel_w};
  t.contiguous = t.tap_step == channels;
  return t;
}

static inline const float* first_input(const Strip& strip, int32_t y, int32_t x) {
  const bf_conv_shape* s = &strip.args->shape;
  const int64_t iy = (int64_t)y * s->stride_h - s->pad_h + bf_valid_rows(s, y).begin * s->dilation_h;
  return (const float*)strip.args->input + (iy * s->in_w + (int64_t)x * s->stride_w - s->pad_w) * s->in_stride + strip.group * (s->in_c / s->groups);
}

/* D of up to kTiles tiles, from the given one on, of `width` pixels cut into `tiles`; returns their pixels. */
static int32_t sum_run(const FloatTile& t, int32_t blocks, const float* first, int32_t width, int32_t tiles, int32_t tile, vf* sums) {
  int32_t done = 0;
  for (int32_t i = 0, count; i < kTiles && tile < tiles; ++i, ++tile, done += count) {
    count = width / tiles + (tile < width % tiles);
    if (blocks == kBlocks) sum_pixels<kBlocks>(count, t, first + done * t.pixel_step, sums + done);
    else sum_pixels<1>(count, t, first + done * t.pixel_step, sums + done);
  }
  return done;
}

/* Output columns [begin, end) of row y, all inside. A run of tiles passes through strip.pass blocks before the next run does. */
static void conv_row(const Strip& strip, int32_t y, TapRange inside) {
  FloatTile t = tile_of(strip, y, false);
  const int32_t width = inside.end - inside.begin, tiles = (width + kPixels - 1) / kPixels;
  const float* weights = t.weights;
  vf sums[kBlocks * kRow];
  for (int32_t k0 = 0; k0 < strip.blocks; k0 += strip.pass) {
    const float* first = first_input(strip, y, inside.begin);
    const int32_t k1 = k0 + strip.pass < strip.blocks ? k0 + strip.pass : strip.blocks;
    for (int32_t tile = 0, x = inside.begin, count = 0; tile < tiles; tile += kTiles, x += count, first += count * t.pixel_step) {
      for (int32_t k = k0, n; k < k1; k += n) {
        n = k1 - k >= kBlocks ? kBlocks : 1;
        t.weights = weights + k * t.block_step;
        count = sum_run(t, n, first, width, tiles, tile, sums);
        for (int32_t b = 0; b < n; ++b) bf_finish_floats(strip.args, y, x, count, strip.b + k + b, strip.group, sums + b * kRow);
      }
    }
  }
}

/* Column x of rows [y, y + count), which share their valid taps. */
static void conv_column(const Strip& strip, int32_t y, int32_t count, int32_t x) {
  FloatTile t = tile_of(strip, y, true);
  t.columns = bf_valid_columns(&strip.args->shape, x);
  if (t.columns.begin > t.columns.end) t.columns.end = t.columns.begin;
  const float* first = first_input(strip, y, x);
  vf sums[4 * kRow];
  for (int32_t k = 0, n; k < strip.blocks; k += n, t.weights += n * t.block_step) {
    n = count == 1 && strip.blocks - k >= 4 ? 4 : strip.blocks - k >= kBlocks ? kBlocks : 1;
    if (n == 4) sum_tile<1, 4>(t, first, sums);
    else if (n == kBlocks) sum_pixels<kBlocks>(count, t, first, sums);
    else sum_pixels<1>(count, t, first, sums);
    for (int32_t b = 0; b < n; ++b)
      for (int32_t p = 0; p < count; ++p) bf_finish_floats(strip.args, y + p, x, 1, strip.b + k + b, strip.group, sums + b * kRow + p);
  }
}

static void conv_border_column(const Strip& strip, int32_t y0, int32_t y1, int32_t x) {
  const bf_conv_shape* s = &strip.args->shape;
  for (int32_t y = y0, count; y < y1; y += count) {
    count = 1;
    const TapRange rows = bf_valid_rows(s, y);
    if (rows.begin > 0 || rows.end < s->kernel_h) {
      conv_column(strip, y, 1, x);
      continue;
    }
    while (count < kPixels && y + count < y1 && bf_valid_rows(s, y + count).end == s->kernel_h) ++count;
    conv_column(strip, y, count, x);
  }
}

/* Blocks outermost, in strips whose weights stay in the cache while the image passes; four at least where that lacks pixels. Where the first
 * cache holds the weights of a strip, its outputs are written pixel by pixel, as they lie in memory. */
static inline void conv_f32_blocks(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  const int32_t group_blocks = s->groups == 1 ? (s->out_c + 15) / 16 : s->out_c / s->groups / 16;
  const int64_t block_bytes = (int64_t)s->kernel_h * s->kernel_w * (s->in_c / s->groups) * 64;
  const int32_t small = (int32_t)((16 << 10) / block_bytes);
  const int32_t most = small > 4 ? small : s->out_w * (y1 - y0) < 2 * kPixels || block_bytes * 4 <= 256 << 10 ? 4 : kBlocks;
  TapRange inside = bf_inside_columns(s);
  if (inside.end - inside.begin < 3) inside.end = inside.begin = 0;  // too few for a tile
  for (int32_t b = b0, blocks; b < b1; b += blocks) {
    const int32_t group = b / group_blocks, group_end = (group + 1) * group_blocks;
    blocks = b1 < group_end ? b1 - b : group_end - b;
    if (blocks > most) blocks = most;
    const Strip strip = {args, b, blocks, group, blocks <= small ? blocks : kBlocks};
    for (int32_t x = 0; x < s->out_w; ++x)
      if (x < inside.begin || x >= inside.end) conv_border_column(strip, y0, y1, x);
    for (int32_t y = y0; y < y1 && inside.begin < inside.end; ++y) conv_row(strip, y, inside);
  }
}

#endif
