/* The body of the depthwise kernels, included by ISA files after simd_*.h: a group of one channel each, so lanes hold channels of the input too.
 *
 * The pixels of 16 channels lie far apart in memory, often in the same few cache sets; what a part of the image reads is therefore copied
 * first into a patch that the first-level cache holds. A tile is P pixels of a row x one register of channels. For each tap row it keeps the
 * row's weights in registers and walks the input columns inside the image: a column is loaded once and goes to every pixel that it is a tap
 * of. Pixels of kernels of other widths, strides and dilations go one by one.
 */
#ifndef BITFOLD_KERNELS_CONV_F32_DEPTHWISE_H_
#define BITFOLD_KERNELS_CONV_F32_DEPTHWISE_H_

#include "kernels/epilogue_simd.h"
#include "kernels/window.h"

#define BF_UNROLL_COLUMNS _Pragma("GCC unroll 32")

static constexpr int32_t kPatchPixels = 384, kPatchColumns = 32;  // 24 KiB
static constexpr int32_t kRun = 32;                               // most pixels of a row that are finished together

/* What one output row reads of one block. */
struct DepthwiseRow {
  const float* input;    // column 0 of the first valid tap row
  const float* weights;  // of that tap row
  int64_t row_step, column_step;  // floats from tap row to tap row, from column to column
  int32_t rows, kernel_w, in_w;
};

/* One register's lanes of P pixels; input: column of the first pixel's first tap; columns: those inside the image, counted from there, which
 * are all unless kBorder; sums: [pixel][16]. */
template <int kTaps, int kStride, int P, bool kBorder>
BF_INLINE void depthwise_lanes(const DepthwiseRow& t, const float* input, TapRange columns, const float* weights, float* sums) {
  vr acc[P];
  BF_UNROLL_COLUMNS
  for (int p = 0; p < P; ++p) acc[p] = vr_zero();
  for (int32_t i = 0; i < t.rows; ++i, input += t.row_step, weights += kTaps * 16) {
    vr weight[kTaps];
    BF_UNROLL_COLUMNS
    for (int j = 0; j < kTaps; ++j) weight[j] = vr_load(weights + j * 16);
    BF_UNROLL_COLUMNS
    for (int c = 0; c < (P - 1) * kStride + kTaps; ++c) {
      if (kBorder && (c < columns.begin || c >= columns.end)) continue;
      const vr x = vr_load(input + c * 16);
      BF_UNROLL_COLUMNS
      for (int p = 0; p < P; ++p)
        if (c >= p * kStride && c < p * kStride + kTaps) acc[p] = vr_fma(x, weight[c - p * kStride], acc[p]);
    }
  }
  BF_UNROLL_COLUMNS
  for (int p = 0; p < P; ++p) vr_store(sums + 16 * p, acc[p]);
}

template <int kTaps, int kStride, int P>
static void depthwise_tile(const DepthwiseRow& t, int32_t column, vf* sums) {
  const TapRange columns = {-column, t.in_w - column};
  const bool inside = columns.begin <= 0 && columns.end >= (P - 1) * kStride + kTaps;
  for (int lane = 0; lane < 16; lane += kRegisterLanes) {
    const float *input = t.input + column * 16 + lane, *weights = t.weights + lane;
    if (inside) depthwise_lanes<kTaps, kStride, P, false>(t, input, columns, weights, (float*)sums + lane);
    else depthwise_lanes<kTaps, kStride, P, true>(t, input, columns, weights, (float*)sums + lane);
  }
}

/* `count` pixels, from the given input column on. */
typedef void (*DepthwiseRun)(const DepthwiseRow&, int32_t column, int32_t count, vf* sums);

template <int kTaps, int kStride>
static void depthwise_run(const DepthwiseRow& t, int32_t column, int32_t count, vf* sums) {
  constexpr int kMost = 13 - kTaps;  // with weights and a column in 16 registers: one more spills
  int32_t x = 0;
  for (; count - x >= kMost; x += kMost) depthwise_tile<kTaps, kStride, kMost>(t, column + x * kStride, sums + x);
  for (; count - x >= 4; x += 4) depthwise_tile<kTaps, kStride, 4>(t, column + x * kStride, sums + x);
  for (; count - x >= 2; x += 2) depthwise_tile<kTaps, kStride, 2>(t, column + x * kStride, sums + x);
  if (x < count) depthwise_tile<kTaps, kStride, 1>(t, column + x * kStride, sums + x);
}

/* Null if the shape has no tiles. */
static inline DepthwiseRun depthwise_run_of(const bf_conv_shape* s) {
  if (s->dilation_w != 1 || s->stride_w > 2) return nullptr;
  if ((s->kernel_h - 1) * s->dilation_h >= kPatchPixels / kPatchColumns) return nullptr;
  switch (s->kernel_w) {
    case 3: return s->stride_w == 1 ? depthwise_run<3, 1> : depthwise_run<3, 2>;
    case 5: return s->stride_w == 1 ? depthwise_run<5, 1> : depthwise_run<5, 2>;
    case 7: return s->stride_w == 1 ? depthwise_run<7, 1> : depthwise_run<7, 2>;
    default: return nullptr;
  }
}

/* Any one pixel. */
static inline vf depthwise_pixel(const bf_conv_shape* s, const DepthwiseRow& t, int32_t x) {
  const TapRange taps = bf_valid_columns(s, x);
  vf sum = vf_set1(0.0f);
  for (int32_t i = 0; i < t.rows; ++i)
    for (int32_t j = taps.begin; j < taps.end; ++j) {
      const float* input = t.input + i * t.row_step + (int64_t)(x * s->stride_w - s->pad_w + j * s->dilation_w) * t.column_step;
      sum = vf_fma(vf_load(input), vf_load(t.weights + (i * t.kernel_w + j) * 16), sum);
    }
  return sum;
}

/* Output rows and columns, or what they read of the input: [y0, y1) x [x0, x1). */
struct Area {
  int32_t y0, y1, x0, x1;
};

/* Block b of an area of at most kRun columns. input: 16 channels of pixel (0, 0) of the image, were it there. */
static void depthwise_area(const bf_conv_args* args, Area out, int32_t b, const float* input, int64_t row_step, int64_t column_step,
                           DepthwiseRun run) {
  const bf_conv_shape* s = &args->shape;
  for (int32_t y = out.y0; y < out.y1; ++y) {
    const TapRange rows = bf_valid_rows(s, y);
    const int64_t iy = (int64_t)y * s->stride_h - s->pad_h + rows.begin * s->dilation_h;
    const float* weights = (const float*)args->weights + ((int64_t)b * s->kernel_h + rows.begin) * s->kernel_w * 16;
    const DepthwiseRow t = {input + iy * row_step, weights, s->dilation_h * row_step, column_step, rows.end - rows.begin, s->kernel_w, s->in_w};
    vf sums[kRun];
    if (run) run(t, out.x0 * s->stride_w - s->pad_w, out.x1 - out.x0, sums);
    for (int32_t x = out.x0; x < out.x1 && !run; ++x) sums[x - out.x0] = depthwise_pixel(s, t, x);
    bf_finish_floats(args, y, out.x0, out.x1 - out.x0, b, 0, sums);
  }
}

/* What an output area reads, clipped to the image; may be empty. */
static inline Area input_area(const bf_conv_shape* s, Area out) {
  Area in = {out.y0 * s->stride_h - s->pad_h, (out.y1 - 1) * s->stride_h - s->pad_h + (s->kernel_h - 1) * s->dilation_h + 1,
             out.x0 * s->stride_w - s->pad_w, (out.x1 - 1) * s->stride_w - s->pad_w + (s->kernel_w - 1) * s->dilation_w + 1};
  if (in.y0 < 0) in.y0 = 0;
  if (in.x0 < 0) in.x0 = 0;
  if (in.y1 > s->in_h) in.y1 = s->in_h;
  if (in.x1 > s->in_w) in.x1 = s->in_w;
  return in;
}

/* Copies 16 channels, and asks for the next 16. */
static inline void fill_patch(const bf_conv_shape* s, Area in, const float* input, float* patch) {
  for (int32_t y = in.y0; y < in.y1; ++y)
    for (int32_t x = in.x0; x < in.x1; ++x, patch += 16) {
      const float* pixel = input + ((int64_t)y * s->in_w + x) * s->in_stride;
      vf_store(patch, vf_load(pixel));
      __builtin_prefetch(pixel + 16);
    }
}

/* How many outputs along an axis go together if `room` inputs do: parts of about equal size. */
static inline int32_t part_size(int32_t outputs, int32_t room, int32_t taps, int32_t stride) {
  const int32_t most = (room - taps) / stride + 1, parts = (outputs + most - 1) / most;
  return (outputs + parts - 1) / parts;
}

static inline void conv_f32_depthwise(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  const DepthwiseRun run = depthwise_run_of(s);
  const int32_t width = run ? part_size(s->out_w, kPatchColumns, s->kernel_w, s->stride_w) : kRun;
  const int32_t columns = (width - 1) * s->stride_w + s->kernel_w;
  const int32_t height = run ? part_size(y1 - y0, kPatchPixels / columns, (s->kernel_h - 1) * s->dilation_h + 1, s->stride_h) : y1 - y0;
  alignas(64) float patch[kPatchPixels * 16];
  for (Area out = {y0, y0, 0, 0}; out.y0 < y1; out.y0 = out.y1) {
    out.y1 = y1 - out.y0 < height ? y1 : out.y0 + height;
    for (out.x0 = 0; out.x0 < s->out_w; out.x0 = out.x1) {
      out.x1 = s->out_w - out.x0 < width ? s->out_w : out.x0 + width;
      const Area in = input_area(s, out);
      const int64_t pitch = (int64_t)(in.x1 - in.x0) * 16;
      for (int32_t b = b0; b < b1; ++b) {
        const float* input = (const float*)args->input + 16 * b;
        if (!run) {
          depthwise_area(args, out, b, input, s->in_w * s->in_stride, s->in_stride, nullptr);
          continue;
        }
        fill_patch(s, in, input, patch);
        depthwise_area(args, out, b, patch - in.y0 * pitch - in.x0 * 16, pitch, 16, run);
      }
    }
  }
}

#endif
