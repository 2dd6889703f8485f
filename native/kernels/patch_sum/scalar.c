#include "kernels/bits.h"
#include "kernels/patch_sum/patch_sum.h"

static int32_t pixel_sum_bits(const bf_conv_shape* s, const bf_code_planes* codes, const uint32_t* pixel, int32_t group) {
  const int32_t channels = s->in_c / s->groups, words = (s->in_c + 31) / 32;
  int32_t sum = codes->base * channels;
  for (int32_t k = 0; k < codes->planes; ++k)
    for (int32_t c = 0; c < channels; c += 32)
      sum += codes->coefficient[k] * bf_popcount32(bf_bits_at(pixel + k * words, group * channels + c, bf_bits_left(channels, c)));
  return sum;
}

static int32_t pixel_sum_i16(const bf_conv_shape* s, const int16_t* pixel, int32_t group) {
  const int32_t channels = s->in_c / s->groups;
  int32_t sum = 0;
  for (int32_t c = 0; c < channels; ++c) sum += pixel[group * channels + c];
  return sum;
}

/* Exactly one of bits and i16 is given. */
static int32_t window_sum(const bf_conv_shape* s, const bf_code_planes* codes, const uint32_t* bits, const int16_t* i16, int32_t y, int32_t x,
                          int32_t group) {
  int32_t sum = 0;
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    const int32_t iy = y * s->stride_h - s->pad_h + i * s->dilation_h;
    if (iy < 0 || iy >= s->in_h) continue;
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int32_t ix = x * s->stride_w - s->pad_w + j * s->dilation_w;
      if (ix < 0 || ix >= s->in_w) continue;
      const int64_t at = ((int64_t)iy * s->in_w + ix) * s->in_stride;
      sum += bits ? pixel_sum_bits(s, codes, bits + at, group) : pixel_sum_i16(s, i16 + at, group);
    }
  }
  return sum;
}

static void patch_sums(const bf_conv_shape* s, const bf_code_planes* codes, const uint32_t* bits, const int16_t* i16, int32_t* sums, int32_t y0,
                       int32_t y1) {
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < s->out_w; ++x)
      for (int32_t g = 0; g < s->groups; ++g)
        sums[((int64_t)y * s->out_w + x) * s->groups + g] = window_sum(s, codes, bits, i16, y, x, g);
}

void bf_patch_sum_bits(const bf_conv_shape* shape, const bf_code_planes* codes, const uint32_t* input, int32_t* sums, int32_t y0, int32_t y1) {
  patch_sums(shape, codes, input, 0, sums, y0, y1);
}

void bf_patch_sum_i16(const bf_conv_shape* shape, const int16_t* input, int32_t* sums, int32_t y0, int32_t y1) {
  patch_sums(shape, 0, 0, input, sums, y0, y1);
}
