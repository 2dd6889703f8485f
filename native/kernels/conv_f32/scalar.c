#include "kernels/conv_f32/conv_f32.h"
#include "kernels/scalar_walk.h"

static float dot(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, taps = s->kernel_h * s->kernel_w;
  const int32_t first = o / (s->out_c / s->groups) * channels;
  const float* w = (const float*)args->weights + (int64_t)(o / 16) * taps * channels * 16 + o % 16;
  float d = 0.0f;
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int64_t at = bf_tap_pixel(s, y, x, i, j);
      if (at < 0) continue;
      const float* pixel = (const float*)args->input + at * s->in_stride + first;
      const float* tap = w + (int64_t)(i * s->kernel_w + j) * channels * 16;
      for (int32_t c = 0; c < channels; ++c) d = fmaf(pixel[c], tap[c * 16], d);
    }
  }
  return d;
}

void conv_f32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < args->shape.out_w; ++x)
      for (int32_t b = b0; b < b1; ++b) {
        float d[16];
        for (int32_t lane = 0; lane < 16 && 16 * b + lane < args->shape.out_c; ++lane) d[lane] = dot(args, y, x, 16 * b + lane);
        bf_epilogue_block(args, y, x, b, 0, d);
      }
}
