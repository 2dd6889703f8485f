/* The body of the depthwise kernels, included by ISA files after simd_*.h: a group of one channel each, so lanes hold channels of the input too.
 *
 * The image is cut into strips as wide as a tile, P pixels of a row; the tile goes down the strip for a few blocks of 16 channels after the
 * other, in each row a register of channels at a time. For each tap row it holds the weights of a few taps and walks the input columns inside
 * the image: a column is loaded once and goes to every pixel that it is one of these taps of. Kernels of other widths, strides and dilations go
 * pixel by pixel.
 *
 * Where the pixels of 16 channels lie so far apart that the rows of a tile share too few cache sets, each row would come from the second
 * cache for every tap row. The strip is then copied first into a patch that the first cache holds.
 */
#ifndef BITFOLD_KERNELS_CONV_F32_DEPTHWISE_H_
#define BITFOLD_KERNELS_CONV_F32_DEPTHWISE_H_

#include "kernels/epilogue_simd.h"
#include "kernels/window.h"

#define BF_UNROLL_COLUMNS _Pragma("GCC unroll 32")

static constexpr int32_t kPatchPixels = 384, kPatchColumns = 32;  // 24 KiB, of one block
static constexpr int32_t kImageBlocks = 4, kPatchBlocks = 2;      // most blocks of a strip that are done together, without a patch and with one
static constexpr int32_t kRun = 32;                               // most pixels of a row that are finished together

/* What the pixels of a tile read of a few blocks, and where they go. Steps and channels are in bytes: addresses then take no shifts, which
 * a tile of 3x3 would feel. */
struct DepthwiseTile {
  const float* input;    // the first pixel's first tap column, in or outside the image, of the first valid tap row
  const float* weights;  // of that tap row and the first block
  int64_t row_step, column_step, block_step;  // of the input from tap row to tap row and from column to column; of the weights
  int64_t channels;
  int32_t rows;
  TapRange columns;  // those inside the image, counted from the first pixel's first tap
  const float *mul, *table;  // step 2 of the epilogue, of the first block and the row; mul: null if it is not done here
  const float* residual;     // step 3, of the first pixel; null if it is not done here
  int64_t residual_step;
  bool clamp;  // whether step 4 is done here, between low and high
  float low, high;
  float* out;
  int64_t out_step;  // from pixel to pixel
};

template <typename T>
BF_INLINE T* bf_later(T* p, int64_t bytes) {
  return (T*)((const char*)p + bytes);
}

/* Weights held together and most pixels of a tile: with a column 14 of 16 registers, for with more gcc moves sums about. All weights of 5 or
 * 7 taps would leave room for fewer sums than it takes to hide the latency of a vfmadd. */
static constexpr int kHeld = 3, kMostPixels = 10;

/* Taps kFirst to kTaps - 1 of one row. */
template <int kTaps, int kStride, int P, int kFirst>
BF_INLINE void add_taps(vr* acc, const float* input, int64_t column_step, TapRange columns, const float* weights) {
  constexpr int kLast = kFirst + kHeld < kTaps ? kFirst + kHeld : kTaps, kColumns = (P - 1) * kStride + kTaps;
  vr weight[kLast - kFirst];
  BF_UNROLL_COLUMNS
  for (int j = kFirst; j < kLast; ++j) weight[j - kFirst] = vr_load(weights + j * 16);
  const float* column = bf_later(input, kFirst * column_step);
  BF_UNROLL_COLUMNS
  for (int c = kFirst; c < kColumns - kTaps + kLast; ++c, column = bf_later(column, column_step)) {
    if ((c < kTaps - 1 && c < columns.begin) || (c > kColumns - kTaps && c >= columns.end)) continue;
    const vr x = vr_load(column);
    BF_UNROLL_COLUMNS
    for (int p = 0; p < P; ++p) {
      const int j = c - p * kStride;
      if (j >= kFirst && j < kLast) acc[p] = vr_fma(x, weight[j - kFirst], acc[p]);
    }
  }
  if constexpr (kLast < kTaps) add_taps<kTaps, kStride, P, kLast>(acc, input, column_step, columns, weights);
}

/* One register of channels, that many bytes from the first. */
template <int kTaps, int kStride, int P>
BF_INLINE void depthwise_lanes(const DepthwiseTile& t, const float* weights, int64_t channel) {
  const float* input = bf_later(t.input, channel);
  vr acc[P];
  BF_UNROLL_COLUMNS
  for (int p = 0; p < P; ++p) acc[p] = vr_zero();
  for (int32_t i = 0; i < t.rows; ++i, input = bf_later(input, t.row_step), weights += kTaps * 16)
    add_taps<kTaps, kStride, P, 0>(acc, input, t.column_step, t.columns, weights);
  if (t.mul) {
    const vr mul = vr_load(bf_later(t.mul, channel)), table = vr_load(bf_later(t.table, channel));
    BF_UNROLL_COLUMNS
    for (int p = 0; p < P; ++p) acc[p] = vr_fma(mul, acc[p], table);
  }
  if (t.residual) {
    const float* residual = bf_later(t.residual, channel);
    BF_UNROLL_COLUMNS
    for (int p = 0; p < P; ++p, residual = bf_later(residual, t.residual_step)) acc[p] = vr_add(acc[p], vr_load(residual));
  }
  if (t.clamp) {
    const vr low = vr_set1(t.low), high = vr_set1(t.high);
    BF_UNROLL_COLUMNS
    for (int p = 0; p < P; ++p) acc[p] = vr_min(high, vr_max(low, acc[p]));
  }
  float* out = bf_later(t.out, channel);
  BF_UNROLL_COLUMNS
  for (int p = 0; p < P; ++p, out = bf_later(out, t.out_step)) vr_store(out, acc[p]);
}

template <int kTaps, int kStride, int P>
static void depthwise_tile(const DepthwiseTile& t) {
  const float* weights = t.weights;
  for (int64_t channel = 0; channel < t.channels; weights = bf_later(weights, t.block_step))
    for (int lane = 0; lane < 16; lane += kRegisterLanes, channel += kRegisterLanes * sizeof(float))
      depthwise_lanes<kTaps, kStride, P>(t, weights + lane, channel);
}

typedef void (*DepthwiseTileFn)(const DepthwiseTile&);

/* The tile of that many pixels. */
template <int kTaps, int kStride, int P = kMostPixels>
static DepthwiseTileFn tile_of(int32_t pixels) {
  if constexpr (P == 1) return depthwise_tile<kTaps, kStride, 1>;
  else return pixels == P ? depthwise_tile<kTaps, kStride, P> : tile_of<kTaps, kStride, P - 1>(pixels);
}

static inline DepthwiseTileFn depthwise_tile_of(const bf_conv_shape* s, int32_t pixels) {
  switch (s->kernel_w) {
    case 3: return s->stride_w == 1 ? tile_of<3, 1>(pixels) : tile_of<3, 2>(pixels);
    case 5: return s->stride_w == 1 ? tile_of<5, 1>(pixels) : tile_of<5, 2>(pixels);
    default: return s->stride_w == 1 ? tile_of<7, 1>(pixels) : tile_of<7, 2>(pixels);
  }
}

static inline int32_t rows_reached(const bf_conv_shape* s) { return (s->kernel_h - 1) * s->dilation_h + 1; }

/* A tile asks only of as many columns at its ends as a pixel has taps but one whether they are inside; its rows must fit the patch. */
static inline bool has_tiles(const bf_conv_shape* s) {
  const bool taps = s->kernel_w == 3 || s->kernel_w == 5 || s->kernel_w == 7;
  return taps && s->dilation_w == 1 && s->stride_w <= 2 && s->pad_w < s->kernel_w && rows_reached(s) <= kPatchPixels / kPatchColumns;
}

/* Whether the rows of a tile stay in the first cache until the next ones need them: of its 64 sets, 8 lines each, those that pixels of one
 * block fall into. */
static inline bool stays_cached(const bf_conv_shape* s, int32_t columns) {
  int32_t sets = 64;
  for (int64_t lines = s->in_stride / 16; lines % 2 == 0 && sets > 1; lines /= 2) sets /= 2;
  return columns * rows_reached(s) <= 8 * sets;
}

/* Several blocks at a time read whole runs of lines, while what a tile reads of them fills no more than half of the first cache; in a patch
 * only if not too many of its rows are copied for the next area again. */
static inline int32_t blocks_together(const bf_conv_shape* s, int32_t columns, bool copies) {
  if (copies) return kPatchPixels / columns / kPatchBlocks < 2 * rows_reached(s) ? 1 : kPatchBlocks;
  const int32_t most = 256 / (columns * rows_reached(s) + s->kernel_h * s->kernel_w);
  return most < 1 ? 1 : most < kImageBlocks ? most : kImageBlocks;
}

/* Output rows and columns, or what they read of the input: [y0, y1) x [x0, x1). */
struct Area {
  int32_t y0, y1, x0, x1;
};

/* What an output area reads, clipped to the image; may be empty. */
static inline Area input_area(const bf_conv_shape* s, Area out) {
  Area in = {out.y0 * s->stride_h - s->pad_h, (out.y1 - 1) * s->stride_h - s->pad_h + rows_reached(s),
             out.x0 * s->stride_w - s->pad_w, (out.x1 - 1) * s->stride_w - s->pad_w + (s->kernel_w - 1) * s->dilation_w + 1};
  if (in.y0 < 0) in.y0 = 0;
  if (in.x0 < 0) in.x0 = 0;
  if (in.y1 > s->in_h) in.y1 = s->in_h;
  if (in.x1 > s->in_w) in.x1 = s->in_w;
  return in;
}

/* Copies some blocks, and asks for what follows them. */
static inline void fill_patch(const bf_conv_shape* s, Area in, const float* input, float* patch, int32_t blocks) {
  for (int32_t y = in.y0; y < in.y1; ++y)
    for (int32_t x = in.x0; x < in.x1; ++x) {
      const float* pixel = input + ((int64_t)y * s->in_w + x) * s->in_stride;
      for (int32_t k = 0; k < blocks; ++k, patch += 16) vf_store(patch, vf_load(pixel + 16 * k));
      __builtin_prefetch(pixel + 16 * blocks);
    }
}

/* Any one pixel. */
static inline vf depthwise_pixel(const bf_conv_args* args, int32_t y, int32_t x, int32_t b) {
  const bf_conv_shape* s = &args->shape;
  const TapRange rows = bf_valid_rows(s, y), columns = bf_valid_columns(s, x);
  const float* weights = (const float*)args->weights + (int64_t)b * s->kernel_h * s->kernel_w * 16;
  vf sum = vf_set1(0.0f);
  for (int32_t i = rows.begin; i < rows.end; ++i)
    for (int32_t j = columns.begin; j < columns.end; ++j) {
      const int64_t iy = (int64_t)y * s->stride_h - s->pad_h + i * s->dilation_h, ix = x * s->stride_w - s->pad_w + j * s->dilation_w;
      const float* input = (const float*)args->input + (iy * s->in_w + ix) * s->in_stride + 16 * b;
      sum = vf_fma(vf_load(input), vf_load(weights + (i * s->kernel_w + j) * 16), sum);
    }
  return sum;
}

static void depthwise_pixels(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b) {
  const int32_t out_w = args->shape.out_w;
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x0 = 0; x0 < out_w; x0 += kRun) {
      const int32_t count = out_w - x0 < kRun ? out_w - x0 : kRun;
      vf sums[kRun];
      for (int32_t p = 0; p < count; ++p) sums[p] = depthwise_pixel(args, y, x0 + p, b);
      bf_finish_floats(args, y, x0, count, b, 0, sums);
    }
}

/* Whether steps 2 to 4 can be done where the sums are, and nothing but step 5 is left. */
static inline bool finishes_in_registers(const bf_epilogue* e) {
  return e->out_f32 && !e->col_class && !e->patch_mul && e->activation != BF_ACT_TWO_SLOPE && !e->out_bits && !e->levels_f32;
}

/* Blocks b to b + blocks - 1 of an area as wide as the tile; several where their sums are finished in registers. */
static void depthwise_strip(const bf_conv_args* args, Area out, int32_t b, int32_t blocks, DepthwiseTileFn tile, bool copies) {
  const bf_conv_shape* s = &args->shape;
  const bf_epilogue* e = &args->epilogue;
  const bool in_registers = finishes_in_registers(e);
  const Area in = input_area(s, out);
  const float *image = (const float*)args->input + 16 * b, *weights = (const float*)args->weights + (int64_t)b * s->kernel_h * s->kernel_w * 16;
  const int32_t left = out.x0 * s->stride_w - s->pad_w;
  alignas(64) float patch[kPatchPixels * 16];
  vf sums[kRun];
  constexpr int64_t kFloat = sizeof(float);
  DepthwiseTile t;
  const int64_t column = copies ? 16 * blocks : s->in_stride, pitch = (copies ? in.x1 - in.x0 : s->in_w) * column;
  const float* origin = copies ? patch - in.y0 * pitch - in.x0 * column : image;  // pixel (0, 0), were it there
  t.row_step = kFloat * s->dilation_h * pitch, t.column_step = kFloat * column;
  t.block_step = kFloat * s->kernel_h * s->kernel_w * 16, t.channels = kFloat * 16 * blocks;
  t.columns = {-left, s->in_w - left};
  t.mul = in_registers && e->mul ? e->mul + 16 * b : nullptr, t.clamp = in_registers && e->activation == BF_ACT_CLAMP;
  t.low = e->low, t.high = e->high;
  t.residual = nullptr, t.residual_step = kFloat * e->residual_stride;
  t.out_step = kFloat * (in_registers ? e->out_f32_stride : 16);
  if (copies) fill_patch(s, in, image, patch, blocks);
  for (int32_t y = out.y0; y < out.y1; ++y) {
    const TapRange rows = bf_valid_rows(s, y);
    t.input = origin + ((int64_t)y * s->stride_h - s->pad_h + rows.begin * s->dilation_h) * pitch + left * column;
    t.weights = weights + rows.begin * s->kernel_w * 16;
    t.rows = rows.end - rows.begin;
    if (t.mul) t.table = e->table + (e->row_class ? (int64_t)e->row_class[y] * e->col_classes : 0) * ((s->out_c + 15) / 16 * 16) + 16 * b;
    const int64_t pixel = (int64_t)y * s->out_w + out.x0;
    if (in_registers && e->residual) t.residual = e->residual + pixel * e->residual_stride + 16 * b;
    t.out = in_registers ? e->out_f32 + pixel * e->out_f32_stride + 16 * b : (float*)sums;
    tile(t);
    if (!in_registers) bf_finish_floats(args, y, out.x0, out.x1 - out.x0, b, 0, sums);
  }
}

static inline void conv_f32_depthwise(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  if (!has_tiles(s)) {
    for (int32_t b = b0; b < b1; ++b) depthwise_pixels(args, y0, y1, b);
    return;
  }
  const int32_t strips = (s->out_w + kMostPixels - 1) / kMostPixels, widest = (s->out_w + strips - 1) / strips;
  const int32_t columns = (widest - 1) * s->stride_w + s->kernel_w;
  const bool copies = !stays_cached(s, columns);
  const int32_t most = finishes_in_registers(&args->epilogue) ? blocks_together(s, columns, copies) : 1;
  const int32_t height = (kPatchPixels / columns / (copies ? most : 1) - rows_reached(s)) / s->stride_h + 1;
  for (Area out = {y0, y0, 0, 0}; out.y0 < y1; out.y0 = out.y1) {
    out.y1 = y1 - out.y0 < height ? y1 : out.y0 + height;
    for (int32_t strip = 0; strip < strips; ++strip) {
      out.x0 = (int32_t)((int64_t)s->out_w * strip / strips), out.x1 = (int32_t)((int64_t)s->out_w * (strip + 1) / strips);
      const DepthwiseTileFn tile = depthwise_tile_of(s, out.x1 - out.x0);
      for (int32_t b = b0; b < b1; b += most) depthwise_strip(args, out, b, b1 - b < most ? b1 - b : most, tile, copies);
    }
  }
}

#endif
