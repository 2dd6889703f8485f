#include "kernels/adder_u8/adder_u8.h"
#include "kernels/epilogue_scalar.h"

static int32_t distance(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, octets = (channels + 7) / 8, taps = s->kernel_h * s->kernel_w;
  const int32_t first = o / (s->out_c / s->groups) * channels;
  const uint8_t* w = (const uint8_t*)args->weights + (int64_t)(o / 8) * taps * octets * 64 + o % 8 * 8;
  int32_t d = args->excess[o];
  for (int32_t i = 0; i < s->kernel_h; ++i)
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int32_t iy = y * s->stride_h - s->pad_h + i * s->dilation_h, ix = x * s->stride_w - s->pad_w + j * s->dilation_w;
      const int inside = iy >= 0 && iy < s->in_h && ix >= 0 && ix < s->in_w;
      const uint8_t* pixel = inside ? (const uint8_t*)args->input + ((int64_t)iy * s->in_w + ix) * s->in_stride + first : args->in_bytes.outside;
      const uint8_t* tap = w + (int64_t)(i * s->kernel_w + j) * octets * 64;
      for (int32_t c = 0; c < channels; ++c) {
        const int32_t difference = (int32_t)tap[c / 8 * 64 + c % 8] - pixel[c];
        d += difference < 0 ? -difference : difference;
      }
    }
  return -d;
}

void adder_u8_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t x = 0; x < args->shape.out_w; ++x)
      for (int32_t b = b0; b < b1; ++b) {
        int32_t d[16];
        for (int32_t lane = 0; lane < 16 && 16 * b + lane < args->shape.out_c; ++lane) d[lane] = distance(args, y, x, 16 * b + lane);
        bf_epilogue_block(args, y, x, b, d, 0);
      }
}
