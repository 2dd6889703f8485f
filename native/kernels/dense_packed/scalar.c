#include "kernels/dense_packed/dense_packed.h"
#include "kernels/scalar_walk.h"

/* The field of channel c in one tap's words, which have a stride of 16: byte c % 4 of a word, then the place in the byte. */
static uint32_t field(const uint32_t* words, int32_t c, int32_t bits) {
  const int32_t per_word = 32 / bits, at = c % per_word;
  return words[(int64_t)(c / per_word) * 16] >> (8 * (at % 4) + bits * (at / 4)) & ((1u << bits) - 1);
}

static int32_t dot(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, bits = args->weight_fields.bits, words = (channels * bits + 31) / 32;
  const int32_t taps = s->kernel_h * s->kernel_w, group = o / (s->out_c / s->groups);
  const uint32_t* w = (const uint32_t*)args->weights + (int64_t)(o / 16) * taps * words * 16 + o % 16;
  uint32_t sum = 0; /* mod 2^32: only D is bounded */
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int64_t at = bf_tap_pixel(s, y, x, i, j);
      if (at < 0) continue;
      const uint8_t* pixel = (const uint8_t*)args->input + at * s->in_stride + (int64_t)group * channels;
      const uint32_t* tap = w + (int64_t)(i * s->kernel_w + j) * words * 16;
      for (int32_t c = 0; c < channels; ++c) {
        const int32_t code = pixel[c] + args->in_bytes.base;
        sum += (uint32_t)code * (uint32_t)(args->weight_fields.base + args->weight_fields.factor * (int32_t)field(tap, c, bits));
      }
    }
  }
  return (int32_t)sum;
}

void dense_packed_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  bf_scalar_ints(args, y0, y1, b0, b1, dot);
}
