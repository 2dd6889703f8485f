#include "kernels/bits.h"
#include "kernels/conv_planes/conv_planes.h"
#include "kernels/scalar_walk.h"

/* Sum over plane pairs of k_i m_j popcount(A_i and W_j) for one tap. w: the first weight plane's words, stride 16. Arithmetic mod 2^32. */
static uint32_t tap_product(const bf_conv_args* args, const uint32_t* pixel, int32_t first, int32_t channels, const uint32_t* w,
                            int64_t weight_plane) {
  const int32_t in_words = (args->shape.in_c + 31) / 32;
  uint32_t sum = 0;
  for (int32_t c = 0; c < channels; c += 32, w += 16)
    for (int32_t i = 0; i < args->in_planes.planes; ++i) {
      const uint32_t a = bf_bits_at(pixel + i * in_words, first + c, bf_bits_left(channels, c));
      for (int32_t j = 0; j < args->weight_planes.planes; ++j) {
        const int32_t factor = args->in_planes.coefficient[i] * args->weight_planes.coefficient[j];
        sum += (uint32_t)factor * (uint32_t)bf_popcount32(a & w[j * weight_plane]);
      }
    }
  return sum;
}

static int32_t dot(const bf_conv_args* args, int32_t y, int32_t x, int32_t o) {
  const bf_conv_shape* s = &args->shape;
  const int32_t channels = s->in_c / s->groups, words = (channels + 31) / 32, taps = s->kernel_h * s->kernel_w;
  const int32_t group = o / (s->out_c / s->groups);
  const int64_t weight_plane = (int64_t)taps * words * 16;
  const uint32_t* w = (const uint32_t*)args->weights + (o / 16) * args->weight_planes.planes * weight_plane + o % 16;
  const int32_t* tap_sum = args->tap_sums + (int64_t)(o / 16) * taps * 16 + o % 16;
  const uint32_t a0 = (uint32_t)args->in_planes.base, w0 = (uint32_t)args->weight_planes.base;
  uint32_t d = 0;
  if (w0) d += w0 * (uint32_t)args->epilogue.patch_sums[((int64_t)y * s->out_w + x) * s->groups + group];
  for (int32_t i = 0; i < s->kernel_h; ++i) {
    for (int32_t j = 0; j < s->kernel_w; ++j) {
      const int64_t at = bf_tap_pixel(s, y, x, i, j);
      const int32_t tap = i * s->kernel_w + j;
      if (at < 0) continue;
      const uint32_t* pixel = (const uint32_t*)args->input + at * s->in_stride;
      d += a0 * ((uint32_t)tap_sum[tap * 16] - w0 * (uint32_t)channels);
      d += tap_product(args, pixel, group * channels, channels, w + (int64_t)tap * words * 16, weight_plane);
    }
  }
  return (int32_t)d;
}

void conv_planes_s32_1x1_scalar(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  bf_scalar_ints(args, y0, y1, b0, b1, dot);
}
