#include "kernels/conv_u8/conv_u8.h"
#include "kernels/epilogue_scalar.h"

static int32_t dot(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, pairs = (s->kernel_w * channels + 1) / 2;
  const int32_t first = o / (s->out_c / s->groups) * channels;
  const int16_t* w = (const int16_t*)args->weights + (int64_t)(o / 16) * s->kernel_h * pairs * 32 + o % 16 * 2;
  uint32_t d = 0; /* mod 2^32: only the final sum is bounded */
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    const int32_t iy = y * s->stride_h - s->pad_h + i * s->dilation_h;
    if (iy < 0 || iy >= s->in_h) continue;
    const int16_t* run = w + (int64_t)i * pairs * 32;
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int32_t ix = x * s->stride_w - s->pad_w + j * s->dilation_w;
      if (ix < 0 || ix >= s->in_w) continue;
      const uint8_t* pixel = (const uint8_t*)args->input + ((int64_t)iy * s->in_w + ix) * s->in_stride + first;
      for (int32_t c = 0; c < channels; ++c) {
        const int32_t k = j * channels + c;
        d += (uint32_t)(pixel[c] * run[k / 2 * 32 + k % 2]);
      }
    }
  }
  return (int32_t)d;
}

void conv_u8_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < args->shape.out_w; ++x)
      for (int32_t b = b0; b < b1; ++b) {
        int32_t d[16];
        for (int32_t lane = 0; lane < 16 && 16 * b + lane < args->shape.out_c; ++lane) d[lane] = dot(args, y, x, 16 * b + lane);
        bf_epilogue_block(args, y, x, b, d, 0);
      }
}
