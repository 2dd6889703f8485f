#include "kernels/conv_i16/conv_i16.h"
#include "kernels/scalar_walk.h"

static int32_t dot(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, pairs = (channels + 1) / 2, taps = s->kernel_h * s->kernel_w;
  const int32_t first = o / (s->out_c / s->groups) * channels;
  const int16_t* w = (const int16_t*)args->weights + (int64_t)(o / 16) * taps * pairs * 32 + o % 16 * 2;
  uint32_t d = 0; /* mod 2^32: only the final sum is bounded */
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int64_t at = bf_tap_pixel(s, y, x, i, j);
      if (at < 0) continue;
      const int16_t* pixel = (const int16_t*)args->input + at * s->in_stride + first;
      const int16_t* tap = w + (int64_t)(i * s->kernel_w + j) * pairs * 32;
      for (int32_t c = 0; c < channels; ++c) d += (uint32_t)((int32_t)pixel[c] * tap[c / 2 * 32 + c % 2]);
    }
  }
  return (int32_t)d;
}

void conv_i16_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  bf_scalar_ints(args, y0, y1, b0, b1, dot);
}
