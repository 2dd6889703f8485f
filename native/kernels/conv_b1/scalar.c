#include "kernels/bits.h"
#include "kernels/conv_b1/conv_b1.h"
#include "kernels/scalar_walk.h"

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
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int64_t at = bf_tap_pixel(s, y, x, i, j);
      if (at < 0) continue;
      const uint32_t* pixel = (const uint32_t*)args->input + at * s->in_stride;
      d += channels - 2 * differing(pixel, first, channels, w + (int64_t)(i * s->kernel_w + j) * words * 16);
    }
  }
  return d;
}

void conv_b1_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  bf_scalar_ints(args, y0, y1, b0, b1, dot);
}
