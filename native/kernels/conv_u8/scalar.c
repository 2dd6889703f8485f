#include "kernels/conv_u8/conv_u8.h"
#include "kernels/scalar_walk.h"

static int32_t dot(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, pairs = (s->kernel_w * channels + 1) / 2;
  const int32_t first = o / (s->out_c / s->groups) * channels;
  const int16_t* w = (const int16_t*)args->weights + (int64_t)(o / 16) * s->kernel_h * pairs * 32 + o % 16 * 2;
  uint32_t d = 0; /* mod 2^32: only the final sum is bounded */
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    const int16_t* run = w + (int64_t)i * pairs * 32;
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int64_t at = bf_tap_pixel(s, y, x, i, j);
      if (at < 0) continue;
      const uint8_t* pixel = (const uint8_t*)args->input + at * s->in_stride + first;
      for (int32_t c = 0; c < channels; ++c) {
        const int32_t k = j * channels + c;
        d += (uint32_t)(pixel[c] * run[k / 2 * 32 + k % 2]);
      }
    }
  }
  return (int32_t)d;
}

void conv_u8_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  bf_scalar_ints(args, y0, y1, b0, b1, dot);
}
