/* The body of the patch sums; the including file defines bf_popcount(uint32_t) and BF_NAME(suffix). C99 and C++.
 *
 * The sum over the valid tap rows of one input column is shared by all outputs that reach it, so it is computed once per output row. */
#include "kernels/bits.h"
#include "kernels/patch_sum/patch_sum.h"

enum { BF_COLUMNS = 512 };

/* What a patch sum reads: bits with codes, bytes with base, or i16. */
typedef struct Source {
  const bf_conv_shape* shape;
  const bf_code_planes* codes;
  const uint32_t* bits;
  const int16_t* i16;
  const uint8_t* bytes;
  int32_t base;
} Source;

static int32_t pixel_sum(const Source* in, int64_t pixel, int32_t group) {
  const bf_conv_shape* s = in->shape;
  const int32_t channels = s->in_c / s->groups, words = (s->in_c + 31) / 32, first = group * channels;
  int32_t sum = 0;
  if (in->bytes) {
    const uint8_t* at = in->bytes + pixel * s->in_stride + first;
    for (int32_t c = 0; c < channels; ++c) sum += at[c];
    return sum + in->base * channels;
  }
  if (!in->bits) {
    const int16_t* at = in->i16 + pixel * s->in_stride + first;
    for (int32_t c = 0; c < channels; ++c) sum += at[c];
    return sum;
  }
  sum = in->codes->base * channels;
  for (int32_t k = 0; k < in->codes->planes; ++k) {
    const uint32_t* at = in->bits + pixel * s->in_stride + k * words;
    int32_t ones = 0;
    if (s->groups == 1)
      for (int32_t w = 0; w < words; ++w) ones += bf_popcount(at[w]); /* padding bits are 0 */
    else
      for (int32_t c = 0; c < channels; c += 32) ones += bf_popcount(bf_bits_at(at, first + c, bf_bits_left(channels, c)));
    sum += in->codes->coefficient[k] * ones;
  }
  return sum;
}

/* Over the valid tap rows of output row y, at input column ix; 0 outside the image. */
static int32_t column_sum(const Source* in, int32_t y, int32_t ix, int32_t group) {
  const bf_conv_shape* s = in->shape;
  int32_t sum = 0;
  if (ix < 0 || ix >= s->in_w) return 0;
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    const int32_t iy = y * s->stride_h - s->pad_h + i * s->dilation_h;
    if (iy >= 0 && iy < s->in_h) sum += pixel_sum(in, (int64_t)iy * s->in_w + ix, group);
  }
  return sum;
}

/* Outputs [x, x + count) of row y. With count > 1 their columns fit into BF_COLUMNS. */
static void span_sums(const Source* in, int32_t y, int32_t x, int32_t count, int32_t group, int32_t* sums) {
  const bf_conv_shape* s = in->shape;
  const int32_t start = x * s->stride_w - s->pad_w;
  int32_t columns[BF_COLUMNS];
  if (count > 1)
    for (int32_t c = 0; c < (count - 1) * s->stride_w + (s->kernel_w - 1) * s->dilation_w + 1; ++c) columns[c] = column_sum(in, y, start + c, group);
  for (int32_t p = 0; p < count; ++p) {
    int32_t sum = 0;
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int32_t c = p * s->stride_w + j * s->dilation_w;
      sum += count > 1 ? columns[c] : column_sum(in, y, start + c, group);
    }
    sums[((int64_t)y * s->out_w + x + p) * s->groups + group] = sum;
  }
}

static void patch_sums(const Source* in, int32_t* sums, int32_t y0, int32_t y1) {
  const bf_conv_shape* s = in->shape;
  const int64_t reach = (int64_t)(s->kernel_w - 1) * s->dilation_w;
  const int32_t count = reach + s->stride_w < BF_COLUMNS ? (BF_COLUMNS - 1 - (int32_t)reach) / s->stride_w + 1 : 1;
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < s->out_w; x += count)
      for (int32_t g = 0; g < s->groups; ++g) span_sums(in, y, x, s->out_w - x < count ? s->out_w - x : count, g, sums);
}

void BF_NAME(bf_patch_sum_bits)(const bf_conv_shape* shape, const bf_code_planes* codes, const uint32_t* input, int32_t* sums, int32_t y0, int32_t y1) {
  const Source in = {shape, codes, input, 0, 0, 0};
  patch_sums(&in, sums, y0, y1);
}

void BF_NAME(bf_patch_sum_i16)(const bf_conv_shape* shape, const int16_t* input, int32_t* sums, int32_t y0, int32_t y1) {
  const Source in = {shape, 0, 0, input, 0, 0};
  patch_sums(&in, sums, y0, y1);
}

void BF_NAME(bf_patch_sum_u8)(const bf_conv_shape* shape, int32_t base, const uint8_t* input, int32_t* sums, int32_t y0, int32_t y1) {
  const Source in = {shape, 0, 0, 0, input, base};
  patch_sums(&in, sums, y0, y1);
}
