/* Part of ops_body.h: functions of one number (docs/format.md, Unary), and Softmax. Without branches, so that the compiler vectorises
 * them; the same steps stand in bitfold/ir/unary.py. */

/* e^x for x <= 0 or NaN, about 1 ulp. n = round(x / ln 2); x = n ln 2 + r with ln 2 in two parts (Cody and Waite); the minimax
 * polynomial for e^r is Cephes' expf; 2^n goes in as two factors, so that results below 2^-126 round once. */
static inline float exp_not_positive(float x) {
  const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer, kept in the low bits */
  x = x < -104.0f ? -104.0f : x;   /* e^-104 rounds to 0 */
  const float t = __builtin_fmaf(x, 1.44269504088896341f, magic);
  const float n = t - magic;
  float r = __builtin_fmaf(n, -0.693359375f, x);
  r = __builtin_fmaf(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = __builtin_fmaf(p, r, 1.3981999507e-3f);
  p = __builtin_fmaf(p, r, 8.3334519073e-3f);
  p = __builtin_fmaf(p, r, 4.1665795894e-2f);
  p = __builtin_fmaf(p, r, 1.6666665459e-1f);
  p = __builtin_fmaf(p, r, 5.0000001201e-1f);
  p = __builtin_fmaf(p, r * r, r) + 1.0f;
  uint32_t bits;
  memcpy(&bits, &t, 4);
  const uint32_t power = bits - 0x4B400000u; /* n, as two's complement; NaN gives any number, times NaN */
  const uint32_t half = (power >> 1) | (power & 0x80000000u);
  const uint32_t f1 = (127u + half) << 23, f2 = (127u + (power - half)) << 23;
  float s1, s2;
  memcpy(&s1, &f1, 4);
  memcpy(&s2, &f2, 4);
  return p * s1 * s2;
}

static inline float sigmoid_of(float x) {
  const float e = exp_not_positive(-__builtin_fabsf(x));
  const float s = 1.0f / (1.0f + e), t = e * s;
  return x < 0.0f ? t : s;
}

/* Below 0.625 Cephes' polynomial, because 1 - e^-2x would cancel. */
static inline float tanh_of(float x) {
  const float a = __builtin_fabsf(x), z = x * x;
  float p = -5.70498872745e-3f;
  p = __builtin_fmaf(p, z, 2.06390887954e-2f);
  p = __builtin_fmaf(p, z, -5.37397155531e-2f);
  p = __builtin_fmaf(p, z, 1.33314422036e-1f);
  p = __builtin_fmaf(p, z, -3.33332819422e-1f);
  const float near_zero = __builtin_fmaf(p * z, x, x);
  const float e = exp_not_positive(-2.0f * a);
  const float far = (1.0f - e) / (1.0f + e), minus = -far;
  const float with_sign = x < 0.0f ? minus : far;
  return a < 0.625f ? near_zero : with_sign;
}

/* The normal distribution's integral from -infinity to -a, times e^(a a / 2), is t times a polynomial in u = 2 t - 1 for
 * t = 1 / (1 + 0.35 a), to 3e-8 up to a = 15, beyond which the integral rounds to 0. */
static inline float gelu_of(float x) {
  const float b = __builtin_fabsf(x), a = b > 15.0f ? 15.0f : b;
  const float t = 1.0f / __builtin_fmaf(a, 0.35f, 1.0f), u = __builtin_fmaf(t, 2.0f, -1.0f);
  float p = -1.13919254e-4f;
  p = __builtin_fmaf(p, u, 2.14099855e-4f);
  p = __builtin_fmaf(p, u, 6.90052460e-4f);
  p = __builtin_fmaf(p, u, -1.75440277e-3f);
  p = __builtin_fmaf(p, u, -5.10873133e-3f);
  p = __builtin_fmaf(p, u, 1.02338605e-2f);
  p = __builtin_fmaf(p, u, 7.10989460e-2f);
  p = __builtin_fmaf(p, u, 1.71495810e-1f);
  p = __builtin_fmaf(p, u, 2.53244281e-1f);
  const float square = a * a, lost = __builtin_fmaf(a, a, -square);
  float e = exp_not_positive(-0.5f * square);
  e = __builtin_fmaf(-0.5f * e, lost, e);
  const float below = e * (t * p), above = 1.0f - below;
  const float phi = x < 0.0f ? below : above;
  return x * phi;
}

static inline float gelu_tanh_of(float x) {
  const float w = __builtin_fmaf(x * x, 7.13548163e-2f, 1.59576912f);
  return x * sigmoid_of(x * w);
}

static inline float hardsigmoid_of(float x) {
  const float s = x + 3.0f, low = s < 0.0f ? 0.0f : s, t = low > 6.0f ? 6.0f : low;
  return t * 0.166666672f;
}

#define BF_MAP(NAME, OF_X)                                                                                    \
  static void NAME(const float* in, float* out, int c, int in_stride, int out_stride, int begin, int end) {   \
    BF_PIXELWISE {                                                                                            \
      const float* x = in + (size_t)p * in_stride;                                                            \
      float* y = out + (size_t)p * out_stride;                                                                \
      BF_CHANNELS(c) {                                                                                        \
        const float v = x[ch];                                                                                \
        y[ch] = OF_X;                                                                                         \
      }                                                                                                       \
    }                                                                                                         \
  }
BF_MAP(abs_f32, __builtin_fabsf(v))
BF_MAP(sigmoid, sigmoid_of(v))
BF_MAP(tanh_f32, tanh_of(v))
/* + 0: the sign of a zero, which graphs do not keep, makes no infinity of another sign */
BF_MAP(rsqrt, 1.0f / __builtin_sqrtf(v + 0.0f))
BF_MAP(sqrt_f32, __builtin_sqrtf(v))
BF_MAP(reciprocal, 1.0f / (v + 0.0f))
BF_MAP(silu, v * sigmoid_of(v))
BF_MAP(gelu, gelu_of(v))
BF_MAP(gelu_tanh, gelu_tanh_of(v))
BF_MAP(hardsigmoid, hardsigmoid_of(v))
BF_MAP(hardswish, v * hardsigmoid_of(v))

static void softmax(const float* in, float* out, int c, int in_stride, int out_stride, int begin, int end) {
  for (int p = begin; p < end; p += kChains) {
    const int pixels = end - p < kChains ? end - p : kChains;
    float tops[kChains], sums[kChains];
    chain_tops(chains_from(in, in_stride, p, end), c, tops);
    for (int q = 0; q < pixels; ++q) {
      const float* x = in + (size_t)(p + q) * in_stride;
      float* y = out + (size_t)(p + q) * out_stride;
      BF_CHANNELS(c) y[ch] = exp_not_positive(x[ch] - tops[q]);
    }
    chain_sums(chains_from(out, out_stride, p, end), c, sums);
    for (int q = 0; q < pixels; ++q) {
      float* y = out + (size_t)(p + q) * out_stride;
      BF_CHANNELS(c) y[ch] = y[ch] / sums[q];
    }
  }
}
