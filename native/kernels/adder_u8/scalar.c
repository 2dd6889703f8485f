#include "kernels/adder_u8/adder_u8.h"
#include "kernels/scalar_walk.h"

static int32_t distance(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, octets = (channels + 7) / 8, taps = s->kernel_h * s->kernel_w;
  const int32_t first = o / (s->out_c / s->groups) * channels;
  const uint8_t* w = (const uint8_t*)args->weights + (int64_t)(o / 8) * taps * octets * 64 + o % 8 * 8;
  int32_t d = args->excess[o];
  for (int32_t i = 0; i < s->kernel_h; ++i)
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int64_t at = bf_tap_pixel(s, y, x, i, j);
      const uint8_t* pixel = at < 0 ? args->in_bytes.outside : (const uint8_t*)args->input + at * s->in_stride + first;
      const uint8_t* tap = w + (int64_t)(i * s->kernel_w + j) * octets * 64;
      for (int32_t c = 0; c < channels; ++c) {
        const int32_t difference = (int32_t)tap[c / 8 * 64 + c % 8] - pixel[c];
        d += difference < 0 ? -difference : difference;
      }
    }
  return -d;
}

void adder_u8_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  bf_scalar_ints(args, y0, y1, b0, b1, distance);
}
