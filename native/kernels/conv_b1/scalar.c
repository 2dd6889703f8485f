#include "kernels/bits.h"
#include "kernels/conv_b1/conv_b1.h"
#include "kernels/epilogue_scalar.h"

/* popcount(a xor w) over the channels of one tap; w has a stride of 16 words. */
static int32_t differing(const uint32_t* pixel, int32_t first, int32_t channels, const uint32_t* w) {
  int32_t count = 0;
  for (int32_t c = 0; c < channels; c += 32, w += 16)
    count += bf_popcount32(bf_bits_at(pixel, first + c, bf_bits_left(channels, c)) ^ *w);
  return count;
}

static int32_t dot(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, words = (channels + 31) / 32, taps = s->kernel_h * s->kernel_w;
  const int32_t first = o / (s->out_c / s->groups) * channels;
  const uint32_t* w = (const uint32_t*)args->weights + (int64_t)(o / 16) * taps * words * 16 + o % 16;
  int32_t d = 0;
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    const int32_t iy = y * s->stride_h - s->pad_h + i * s->dilation_h;
    if (iy < 0 || iy >= s->in_h) continue;
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int32_t ix = x * s->stride_w - s->pad_w + j * s->dilation_w;
      if (ix < 0 || ix >= s->in_w) continue;
      const uint32_t* pixel = (const uint32_t*)args->input + ((int64_t)iy * s->in_w + ix) * s->in_stride;
      d += channels - 2 * differing(pixel, first, channels, w + (int64_t)(i * s->kernel_w + j) * words * 16);
    }
  }
  return d;
}

void conv_b1_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < args->shape.out_w; ++x)
      for (int32_t b = b0; b < b1; ++b) {
        int32_t d[16];
        for (int32_t lane = 0; lane < 16 && 16 * b + lane < args->shape.out_c; ++lane) d[lane] = dot(args, y, x, 16 * b + lane);
        bf_epilogue_block(args, y, x, b, d, 0);
      }
}
