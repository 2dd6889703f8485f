/* The body of every function of ops.h, valid C99 and C++. Included once per instruction set with BF_ISA_NAME (a string) and BF_TABLE
 * (the table's symbol) defined; vector code is the compiler's, the order of float operations is written here. */
#include <string.h>

#include "kernels/ops/ops.h"

#if defined(__cplusplus)
#define BF_RESTRICT __restrict__
#else
#define BF_RESTRICT restrict
#endif

#define BF_CHANNELS(c) for (int ch = 0; ch < (c); ++ch)

/* ---------------------------------------------------------------- layout */

#include "kernels/ops/transpose.h"

/* FROM in NCHW to TO in NHWC and back. Blocks of pixels keep both sides in the first cache; pictures of 3 channels go in one pass. */
#define BF_TO_NHWC(NAME, FROM, TO)                                                                                \
  static void NAME(const FROM* BF_RESTRICT in, TO* BF_RESTRICT out, int c, int pixels, int stride) {              \
    if (pixels == 1) {                                                                                            \
      BF_CHANNELS(c) out[ch] = (TO)in[ch];                                                                        \
      return;                                                                                                     \
    }                                                                                                             \
    if (c == 3) {                                                                                                 \
      for (int p = 0; p < pixels; ++p) {                                                                          \
        TO* y = out + (size_t)p * stride;                                                                         \
        y[0] = (TO)in[p];                                                                                         \
        y[1] = (TO)in[pixels + (size_t)p];                                                                        \
        y[2] = (TO)in[2 * (size_t)pixels + p];                                                                    \
      }                                                                                                           \
      return;                                                                                                     \
    }                                                                                                             \
    for (int p0 = 0; p0 < pixels; p0 += 64) {                                                                     \
      const int p1 = p0 + 64 < pixels ? p0 + 64 : pixels;                                                         \
      BF_CHANNELS(c) {                                                                                            \
        for (int p = p0; p < p1; ++p) out[(size_t)p * stride + ch] = (TO)in[(size_t)ch * pixels + p];             \
      }                                                                                                           \
    }                                                                                                             \
  }
BF_TO_NHWC(to_nhwc_16, uint16_t, uint16_t)
BF_TO_NHWC(to_nhwc_32, uint32_t, uint32_t)
BF_TO_NHWC(to_nhwc_8, uint8_t, uint8_t)
BF_TO_NHWC(to_nhwc_8_16, uint8_t, uint16_t)

#define BF_TO_NCHW(NAME, FROM, TO)                                                                                \
  static void NAME(const FROM* BF_RESTRICT in, TO* BF_RESTRICT out, int c, int pixels, int stride) {              \
    if (pixels == 1) {                                                                                            \
      BF_CHANNELS(c) out[ch] = (TO)in[ch];                                                                        \
      return;                                                                                                     \
    }                                                                                                             \
    for (int p0 = 0; p0 < pixels; p0 += 64) {                                                                     \
      const int p1 = p0 + 64 < pixels ? p0 + 64 : pixels;                                                         \
      BF_CHANNELS(c) {                                                                                            \
        for (int p = p0; p < p1; ++p) out[(size_t)ch * pixels + p] = (TO)in[(size_t)p * stride + ch];             \
      }                                                                                                           \
    }                                                                                                             \
  }
BF_TO_NCHW(to_nchw_16, uint16_t, uint16_t)
BF_TO_NCHW(to_nchw_32, uint32_t, uint32_t)
BF_TO_NCHW(to_nchw_8, uint8_t, uint8_t)
BF_TO_NCHW(to_nchw_16_8, uint16_t, uint8_t)

static void nchw_to_nhwc(const void* in, int in_bytes, void* out, int out_bytes, int c, int pixels, int out_stride) {
  if (out_bytes == 4 && c >= 8 && pixels >= 8) transpose_32((const uint32_t*)in, (size_t)pixels, (uint32_t*)out, (size_t)out_stride, c, pixels);
  else if (out_bytes == 4) to_nhwc_32((const uint32_t*)in, (uint32_t*)out, c, pixels, out_stride);
  else if (out_bytes == 1) to_nhwc_8((const uint8_t*)in, (uint8_t*)out, c, pixels, out_stride);
  else if (in_bytes == 1) to_nhwc_8_16((const uint8_t*)in, (uint16_t*)out, c, pixels, out_stride);
  else to_nhwc_16((const uint16_t*)in, (uint16_t*)out, c, pixels, out_stride);
}

static void nhwc_to_nchw(const void* in, int in_bytes, void* out, int out_bytes, int c, int pixels, int in_stride) {
  if (in_bytes == 4 && pixels >= 8) transpose_32((const uint32_t*)in, (size_t)in_stride, (uint32_t*)out, (size_t)pixels, pixels, c);
  else if (in_bytes == 4) to_nchw_32((const uint32_t*)in, (uint32_t*)out, c, pixels, in_stride);
  else if (in_bytes == 1) to_nchw_8((const uint8_t*)in, (uint8_t*)out, c, pixels, in_stride);
  else if (out_bytes == 1) to_nchw_16_8((const uint16_t*)in, (uint8_t*)out, c, pixels, in_stride);
  else to_nchw_16((const uint16_t*)in, (uint16_t*)out, c, pixels, in_stride);
}

/* ---------------------------------------------------------------- codes and planes */

/* 32 (or n < 32) entry numbers to one word a plane; missing channels give 0 bits. */
static uint32_t gather_bit(const uint32_t* entries, int n, int bit) {
  uint32_t word = 0;
  if (n == 32) {
    for (int i = 0; i < 32; ++i) word |= ((entries[i] >> bit) & 1u) << i;
  } else {
    for (int i = 0; i < n; ++i) word |= ((entries[i] >> bit) & 1u) << i;
  }
  return word;
}

/* The number whose bits (MSB plane first) are the planes of a code. */
static uint32_t plane_bits(int code, bf_plane_kind kind, int min_code) {
  if (kind == BF_PLANES_BINARY) return code < 0;
  if (kind == BF_PLANES_TERNARY) return (code < 0 ? 2u : 0u) | (code != 0 ? 1u : 0u);
  return (uint32_t)(code - min_code);
}

static int code_of(uint32_t bits, bf_plane_kind kind, int min_code) {
  if (kind == BF_PLANES_BINARY) return bits ? -1 : 1;
  if (kind == BF_PLANES_TERNARY) return (bits & 1u) ? ((bits & 2u) ? -1 : 1) : 0;
  return (int)bits + min_code;
}

/* Codes are held as T, less `base`. */
#define BF_PACK(NAME, T)                                                                                                      \
  static void pack_##NAME(const T* in, int base, uint32_t* out, bf_plane_kind kind, int planes, int min_code, int c, int in_stride, \
                          int begin, int end) {                                                                               \
    const int words = (c + 31) / 32;                                                                                          \
    for (int p = begin; p < end; ++p) {                                                                                       \
      for (int w = 0; w < words; ++w) {                                                                                       \
        const T* x = in + (size_t)p * in_stride + w * 32;                                                                     \
        const int n = c - w * 32 < 32 ? c - w * 32 : 32;                                                                      \
        uint32_t bits[32];                                                                                                    \
        for (int i = 0; i < n; ++i) bits[i] = plane_bits(x[i] + base, kind, min_code);                                        \
        for (int k = 0; k < planes; ++k) out[((size_t)p * planes + k) * words + w] = gather_bit(bits, n, planes - 1 - k);     \
      }                                                                                                                       \
    }                                                                                                                         \
  }                                                                                                                           \
  static void unpack_##NAME(const uint32_t* in, T* out, int base, bf_plane_kind kind, int planes, int min_code, int c, int out_stride, \
                            int begin, int end) {                                                                             \
    const int words = (c + 31) / 32;                                                                                          \
    for (int p = begin; p < end; ++p) {                                                                                       \
      for (int w = 0; w < words; ++w) {                                                                                       \
        T* y = out + (size_t)p * out_stride + w * 32;                                                                         \
        const int n = c - w * 32 < 32 ? c - w * 32 : 32;                                                                      \
        uint32_t bits[32];                                                                                                    \
        for (int i = 0; i < n; ++i) bits[i] = 0;                                                                              \
        for (int k = 0; k < planes; ++k) {                                                                                    \
          const uint32_t word = in[((size_t)p * planes + k) * words + w];                                                     \
          for (int i = 0; i < n; ++i) bits[i] = (bits[i] << 1) | ((word >> i) & 1u);                                          \
        }                                                                                                                     \
        for (int i = 0; i < n; ++i) y[i] = (T)(code_of(bits[i], kind, min_code) - base);                                      \
      }                                                                                                                       \
    }                                                                                                                         \
  }
BF_PACK(i16, int16_t)
BF_PACK(u8, uint8_t)

static void narrow(const int16_t* in, uint8_t* out, int base, int c, int in_stride, int out_stride, int begin, int end) {
  for (int p = begin; p < end; ++p) {
    const int16_t* x = in + (size_t)p * in_stride;
    uint8_t* BF_RESTRICT y = out + (size_t)p * out_stride;
    BF_CHANNELS(c) y[ch] = (uint8_t)(x[ch] - base);
  }
}

static void widen(const uint8_t* in, int16_t* out, int base, int c, int in_stride, int out_stride, int begin, int end) {
  for (int p = begin; p < end; ++p) {
    const uint8_t* x = in + (size_t)p * in_stride;
    int16_t* BF_RESTRICT y = out + (size_t)p * out_stride;
    BF_CHANNELS(c) y[ch] = (int16_t)(x[ch] + base);
  }
}

/* ---------------------------------------------------------------- quantisers */

/* Codes one by one: entries in steps of one need no table. */
#define BF_QUANTIZE_CODES(NAME, T, TO, CODE)                                                                               \
  static void quantize_##NAME##_##TO(const bf_quantize_args* q, const T* in, CODE* out, int out_stride, int begin, int end) { \
    for (int p = begin; p < end; ++p) {                                                                                    \
      for (int c0 = 0; c0 < q->c; c0 += 32) {                                                                              \
        const int n = q->c - c0 < 32 ? q->c - c0 : 32;                                                                     \
        uint32_t e[32];                                                                                                    \
        entries_##NAME(q, in + (size_t)p * q->in_stride + c0, c0, n, e);                                                   \
        CODE* y = out + (size_t)p * out_stride + c0;                                                                       \
        if (q->alphabet) {                                                                                                 \
          for (int i = 0; i < n; ++i) y[i] = (CODE)q->alphabet[e[i]];                                                      \
        } else if (n == 32) {                                                                                               \
          for (int i = 0; i < 32; ++i) y[i] = (CODE)((int)e[i] + q->first);                                                 \
        } else {                                                                                                            \
          for (int i = 0; i < n; ++i) y[i] = (CODE)((int)e[i] + q->first);                                                  \
        }                                                                                                                   \
      }                                                                                                                     \
    }                                                                                                                       \
  }

/* Eight numbers, anywhere: the compiler makes of them what the instruction set has. */
typedef float vector_f32 __attribute__((vector_size(32), aligned(4), may_alias));
typedef int32_t vector_i32 __attribute__((vector_size(32), aligned(4), may_alias));

/* entries[i] = number of thresholds t with x[i] >= t, channels c0 .. c0 + n, counted from the top where descending. */
#define BF_ENTRIES(NAME, T)                                                                                              \
  static void entries_##NAME(const bf_quantize_args* q, const T* BF_RESTRICT x, int c0, int n, uint32_t* BF_RESTRICT e) { \
    const int count = q->levels - 1;                                                                                     \
    if (q->levels <= BF_COUNT_LEVELS) {                                                                                  \
      const int row = (q->c + 15) / 16 * 16;                                                                             \
      const T* t = (const T*)q->thresholds + c0;                                                                         \
      for (int i0 = 0; i0 < n; i0 += 16, t += 16) {                                                                      \
        const T* v = x + i0;                                                                                             \
        uint32_t* to = e + i0;                                                                                           \
        T padded[16] = {0};                                                                                              \
        uint32_t counts[16];                                                                                             \
        if (n - i0 < 16) v = (const T*)memcpy(padded, v, (size_t)(n - i0) * sizeof(T)), to = counts;                     \
        const vector_##NAME v0 = *(const vector_##NAME*)v, v1 = *(const vector_##NAME*)(v + 8);                          \
        vector_i32 c0 = {0}, c1 = {0};                                                                                   \
        for (int k = 0; k < count; ++k) {                                                                                \
          c0 -= v0 >= *(const vector_##NAME*)(t + (size_t)k * row); /* true is -1 */                                     \
          c1 -= v1 >= *(const vector_##NAME*)(t + (size_t)k * row + 8);                                                  \
        }                                                                                                                \
        *(vector_i32*)to = c0;                                                                                           \
        *(vector_i32*)(to + 8) = c1;                                                                                     \
        if (n - i0 < 16) memcpy(e + i0, counts, (size_t)(n - i0) * 4);                                                   \
      }                                                                                                                  \
    } else if (q->lines && q->per_channel) {                                                                             \
      for (int i = 0; i < n; ++i) {                                                                                      \
        const int near = bf_near_level((float)x[i], q->lines + 2 * (c0 + i), count);                                     \
        const T* t = (const T*)q->thresholds + (size_t)(c0 + i) * count + near;                                          \
        e[i] = (uint32_t)(near - 1 + (x[i] >= t[-1]) + (x[i] >= t[0]));                                                  \
      }                                                                                                                  \
    } else if (q->lines) { /* steps of 32, so that all but the middle one are vectors */                                 \
      const T *t = (const T*)q->thresholds, *v = x;                                                                      \
      T padded[32] = {0}, low[32], high[32];                                                                             \
      int32_t near[32];                                                                                                  \
      uint32_t counts[32];                                                                                               \
      if (n < 32) v = (const T*)memcpy(padded, x, (size_t)n * sizeof(T));                                                \
      for (int i = 0; i < 32; ++i) near[i] = bf_near_level((float)v[i], q->lines, count);                                \
      for (int i = 0; i < 32; ++i) low[i] = t[near[i] - 1], high[i] = t[near[i]];                                        \
      for (int i = 0; i < 32; ++i) counts[i] = (uint32_t)(near[i] - 1 + (v[i] >= low[i]) + (v[i] >= high[i]));           \
      memcpy(e, counts, (size_t)n * 4);                                                                                  \
    } else {                                                                                                             \
      for (int i = 0; i < n; ++i) e[i] = 0;                                                                              \
      /* The number lies in e[i] .. e[i] + left; rows rise: t[k] <= x holds for a prefix; NaN gives 0. No branches: all i side by side. */ \
      for (int left = count, half; left > 0; left -= half) {                                                             \
        half = (left + 1) / 2;                                                                                           \
        for (int i = 0; i < n; ++i) {                                                                                    \
          const T* t = (const T*)q->thresholds + (q->per_channel ? (size_t)(c0 + i) * count : 0);                        \
          e[i] += x[i] >= t[e[i] + (uint32_t)half - 1] ? (uint32_t)half : 0;                                             \
        }                                                                                                                \
      }                                                                                                                  \
    }                                                                                                                    \
    if (q->descending) {                                                                                                 \
      for (int i = 0; i < n; ++i) e[i] = q->descending[c0 + i] ? (uint32_t)count - e[i] : e[i];                          \
    }                                                                                                                    \
  }                                                                                                                      \
  BF_QUANTIZE_CODES(NAME, T, i16, int16_t)                                                                                \
  BF_QUANTIZE_CODES(NAME, T, u8, uint8_t)                                                                                 \
  /* Two levels, word by word over all pixels: thresholds and falling channels stay at hand. */                          \
  static void quantize_##NAME##_binary(const bf_quantize_args* q, const T* in, uint32_t* out, int begin, int end) {      \
    const int words = (q->c + 31) / 32;                                                                                  \
    for (int w = 0; w < words; ++w) {                                                                                    \
      const int n = q->c - w * 32 < 32 ? q->c - w * 32 : 32;                                                             \
      const T* BF_RESTRICT t = (const T*)q->thresholds + w * 32;                                                         \
      uint32_t flip = n == 32 ? 0xFFFFFFFFu : (1u << n) - 1; /* bit 1 where x < t, or where x >= t if falling */         \
      for (int i = 0; q->descending && i < n; ++i) flip ^= (uint32_t)q->descending[w * 32 + i] << i;                     \
      for (int p = begin; p < end; ++p) {                                                                                \
        const T* BF_RESTRICT x = in + (size_t)p * q->in_stride + w * 32;                                                 \
        uint32_t word = 0;                                                                                               \
        if (n == 32) {                                                                                                   \
          for (int i = 0; i < 32; ++i) word |= x[i] >= t[i] ? 1u << i : 0u;                                              \
        } else {                                                                                                         \
          for (int i = 0; i < n; ++i) word |= x[i] >= t[i] ? 1u << i : 0u;                                               \
        }                                                                                                                \
        out[(size_t)p * words + w] = word ^ flip;                                                                        \
      }                                                                                                                  \
    }                                                                                                                    \
  }                                                                                                                      \
  static void quantize_##NAME##_planes(const bf_quantize_args* q, const T* in, uint32_t* out, bf_plane_kind kind, int planes, \
                                       int begin, int end) {                                                             \
    if (kind == BF_PLANES_BINARY) {                                                                                      \
      quantize_##NAME##_binary(q, in, out, begin, end);                                                                  \
      return;                                                                                                            \
    }                                                                                                                    \
    const int words = (q->c + 31) / 32;                                                                                  \
    for (int p = begin; p < end; ++p) {                                                                                  \
      for (int w = 0; w < words; ++w) {                                                                                  \
        const int n = q->c - w * 32 < 32 ? q->c - w * 32 : 32;                                                           \
        uint32_t e[32];                                                                                                  \
        entries_##NAME(q, in + (size_t)p * q->in_stride + w * 32, w * 32, n, e);                                         \
        if (kind == BF_PLANES_TERNARY) {                                                                                 \
          for (int i = 0; i < n; ++i) e[i] = plane_bits((int)e[i] - 1, kind, -1);                                        \
        }                                                                                                                \
        for (int k = 0; k < planes; ++k) out[((size_t)p * planes + k) * words + w] = gather_bit(e, n, planes - 1 - k);   \
      }                                                                                                                  \
    }                                                                                                                    \
  }
BF_ENTRIES(f32, float)
BF_ENTRIES(i32, int32_t)

/* ---------------------------------------------------------------- element-wise */

static void dequantize_i16(const int16_t* in, float* out, float scale, float offset, int c, int in_stride, int out_stride, int begin, int end) {
  for (int p = begin; p < end; ++p) {
    const int16_t* x = in + (size_t)p * in_stride;
    float* BF_RESTRICT y = out + (size_t)p * out_stride;
    BF_CHANNELS(c) y[ch] = __builtin_fmaf(scale, (float)x[ch], offset);
  }
}

static void dequantize_u8(const uint8_t* in, int base, float* out, float scale, float offset, int c, int in_stride, int out_stride, int begin,
                          int end) {
  for (int p = begin; p < end; ++p) {
    const uint8_t* x = in + (size_t)p * in_stride;
    float* BF_RESTRICT y = out + (size_t)p * out_stride;
    BF_CHANNELS(c) y[ch] = __builtin_fmaf(scale, (float)(x[ch] + base), offset);
  }
}

/* No restrict: out may be in (each element is read before it is written, at one place). */
#define BF_PIXELWISE for (int p = begin; p < end; ++p)

static void affine_f32(const float* in, float* out, const float* mul, const float* bias, int c, int in_stride, int out_stride, int begin, int end) {
  BF_PIXELWISE {
    const float* x = in + (size_t)p * in_stride;
    float* y = out + (size_t)p * out_stride;
    BF_CHANNELS(c) y[ch] = __builtin_fmaf(mul[ch], x[ch], bias[ch]);
  }
}

static void affine_i32(const int32_t* in, float* out, const float* mul, const float* bias, int c, int in_stride, int out_stride, int begin, int end) {
  BF_PIXELWISE {
    const char* x = (const char*)(in + (size_t)p * in_stride);
    char* y = (char*)(out + (size_t)p * out_stride);
    BF_CHANNELS(c) { /* memcpy: in place changes the type of the memory */
      int32_t v;
      memcpy(&v, x + 4 * (size_t)ch, 4);
      const float r = __builtin_fmaf(mul[ch], (float)v, bias[ch]);
      memcpy(y + 4 * (size_t)ch, &r, 4);
    }
  }
}

#define BF_BINARY_OP(NAME, OP)                                                                                              \
  static void NAME(const float* a, const float* b, float* out, int c, int a_stride, int b_pixel, int b_channel, int out_stride, \
                   int begin, int end) {                                                                                    \
    BF_PIXELWISE {                                                                                                          \
      const float* x = a + (size_t)p * a_stride;                                                                            \
      const float* z = b + (size_t)p * b_pixel;                                                                             \
      float* y = out + (size_t)p * out_stride;                                                                              \
      if (b_channel) {                                                                                                      \
        BF_CHANNELS(c) y[ch] = x[ch] OP z[ch];                                                                              \
      } else {                                                                                                              \
        const float s = z[0];                                                                                               \
        BF_CHANNELS(c) y[ch] = x[ch] OP s;                                                                                  \
      }                                                                                                                     \
    }                                                                                                                       \
  }
BF_BINARY_OP(add, +)
BF_BINARY_OP(mul, *)

static void clamp(const float* in, float* out, float low, float high, int c, int in_stride, int out_stride, int begin, int end) {
  BF_PIXELWISE {
    const float* x = in + (size_t)p * in_stride;
    float* y = out + (size_t)p * out_stride;
    BF_CHANNELS(c) {
      const float t = x[ch] < low ? low : x[ch];
      y[ch] = t > high ? high : t;
    }
  }
}

static void two_slope(const bf_two_slope_args* k, const float* in, float* out, int c, int in_stride, int out_stride, int begin, int end) {
  const float *pos = k->pos, *neg = k->neg, *shift_in = k->shift_in, *shift_out = k->shift_out;
  BF_PIXELWISE {
    const float* x = in + (size_t)p * in_stride;
    float* y = out + (size_t)p * out_stride;
    BF_CHANNELS(c) {
      const float t = x[ch] + shift_in[ch], right = pos[ch], left = neg[ch]; /* both loaded, or the loop would not be vectorised */
      const float slope = t > 0.0f ? right : left;
      const float s = slope * t;
      y[ch] = s + shift_out[ch];
    }
  }
}

#include "kernels/ops/chains.h"
#include "kernels/ops/maps.h"

/* ---------------------------------------------------------------- pooling */

/* Calls BODY for every valid tap of output pixel (oy, ox), row-major, with x = its pixel's first channel and `taps` counting. */
#define BF_TAPS(T, BODY)                                                             \
  for (int ky = 0; ky < k->kernel_h; ++ky) {                                         \
    const int iy = oy * k->stride_h - k->pad_top + ky * k->dilation_h;               \
    if (iy < 0 || iy >= k->h) continue;                                              \
    for (int kx = 0; kx < k->kernel_w; ++kx) {                                       \
      const int ix = ox * k->stride_w - k->pad_left + kx * k->dilation_w;            \
      if (ix < 0 || ix >= k->w) continue;                                            \
      const T* BF_RESTRICT x = in + ((size_t)iy * k->w + ix) * k->in_stride;         \
      BODY;                                                                          \
      ++taps;                                                                        \
    }                                                                                \
  }

/* m = first tap, then m = JOIN(m, v). Up to nine taps in one pass, the last one repeated (the same result); more, tap by tap. */
#define BF_POOL(NAME, T, JOIN)                                                                                          \
  static void NAME##_nine(const T* const* t, T* BF_RESTRICT y, int c) {                                                 \
    const T *t0 = t[0], *t1 = t[1], *t2 = t[2], *t3 = t[3], *t4 = t[4], *t5 = t[5], *t6 = t[6], *t7 = t[7], *t8 = t[8]; \
    BF_CHANNELS(c) {                                                                                                    \
      T m = t0[ch];                                                                                                     \
      JOIN(m, t1[ch]) JOIN(m, t2[ch]) JOIN(m, t3[ch]) JOIN(m, t4[ch]) JOIN(m, t5[ch]) JOIN(m, t6[ch]) JOIN(m, t7[ch])   \
      JOIN(m, t8[ch]) y[ch] = m;                                                                                        \
    }                                                                                                                   \
  }                                                                                                                     \
  static void NAME(const bf_pool_args* k, const T* in, T* out, int begin, int end) {                                    \
    const int few = k->kernel_h * k->kernel_w <= 9;                                                                     \
    for (int oy = begin; oy < end; ++oy) {                                                                              \
      for (int ox = 0; ox < k->out_w; ++ox) {                                                                           \
        T* BF_RESTRICT y = out + ((size_t)oy * k->out_w + ox) * k->out_stride;                                          \
        const T* near_by[9];                                                                                            \
        int taps = 0;                                                                                                   \
        if (few) {                                                                                                      \
          BF_TAPS(T, near_by[taps] = x)                                                                                 \
          for (; taps < 9; ++taps) near_by[taps] = near_by[taps - 1];                                                   \
          NAME##_nine(near_by, y, k->c);                                                                                \
        } else {                                                                                                        \
          BF_TAPS(T, if (taps == 0) memcpy(y, x, (size_t)k->c * sizeof(T)); else { BF_CHANNELS(k->c) JOIN(y[ch], x[ch]) }) \
        }                                                                                                               \
      }                                                                                                                 \
    }                                                                                                                   \
  }
#define BF_MAX(m, v) m = (v) > m ? (v) : m;
#define BF_AND(m, v) m &= (v);
BF_POOL(max_pool_f32, float, BF_MAX)
BF_POOL(max_pool_i32, int32_t, BF_MAX)
BF_POOL(max_pool_i16, int16_t, BF_MAX)
BF_POOL(max_pool_u8, uint8_t, BF_MAX)
BF_POOL(max_pool_bits, uint32_t, BF_AND) /* -1 (bit 1) wins only where all taps are -1 */

static void avg_pool(const bf_pool_args* k, const float* in, float* out, int begin, int end) {
  for (int oy = begin; oy < end; ++oy) {
    for (int ox = 0; ox < k->out_w; ++ox) {
      float* BF_RESTRICT y = out + ((size_t)oy * k->out_w + ox) * k->out_stride;
      int taps = 0;
      BF_CHANNELS(k->c) y[ch] = 0.0f;
      BF_TAPS(float, BF_CHANNELS(k->c) y[ch] += x[ch])
      const float count = (float)(k->count_padding ? k->kernel_h * k->kernel_w : taps);
      BF_CHANNELS(k->c) y[ch] = y[ch] / count;
    }
  }
}

static void mean_space(const float* in, float* out, int pixels, int in_stride, int c_begin, int c_end) {
  for (int c0 = c_begin; c0 < c_end; c0 += 32) {
    const int n = c_end - c0 < 32 ? c_end - c0 : 32;
    float sum[32] = {0};
    for (int p = 0; p < pixels; ++p) {
      const float* x = in + (size_t)p * in_stride + c0;
      if (n == 32) {
        for (int i = 0; i < 32; ++i) sum[i] += x[i];
      } else {
        for (int i = 0; i < n; ++i) sum[i] += x[i];
      }
    }
    for (int i = 0; i < n; ++i) out[c0 + i] = sum[i] / (float)pixels;
  }
}

static void mean_channels(const float* in, float* out, int c, int in_stride, int out_stride, int begin, int end) {
  for (int p = begin; p < end; p += kChains) {
    float sums[kChains];
    chain_sums(chains_from(in, in_stride, p, end), c, sums);
    for (int q = 0; q < kChains && p + q < end; ++q) out[(size_t)(p + q) * out_stride] = sums[q] / (float)c;
  }
}

#include "kernels/ops/resize.h"
#include "kernels/ops/rearrange.h"
#include "kernels/ops/matmul.h"

/* ---------------------------------------------------------------- moving channels */

static void copy_channels(const void* in, void* out, int bytes, int in_c, int in_stride, int at, int out_stride, int begin, int end) {
  BF_PIXELWISE {
    memcpy((char*)out + ((size_t)p * out_stride + at) * bytes, (const char*)in + (size_t)p * in_stride * bytes, (size_t)in_c * bytes);
  }
}

static void zero_channels(void* out, int bytes, int at, int count, int out_stride, int begin, int end) {
  BF_PIXELWISE memset((char*)out + ((size_t)p * out_stride + at) * bytes, 0, (size_t)count * bytes);
}

static void copy_bits(const uint32_t* in, uint32_t* out, int planes, int in_c, int in_words, int at, int out_words, int begin, int end) {
  const int shift = at % 32;
  const int words = (in_c + 31) / 32;
  for (int row = begin * planes; row < end * planes; ++row) {
    const uint32_t* x = in + (size_t)row * in_words;
    uint32_t* y = out + (size_t)row * out_words + at / 32;
    for (int w = 0; w < words; ++w) {
      y[w] |= x[w] << shift;
      if (shift != 0 && at / 32 + w + 1 < out_words) y[w + 1] |= x[w] >> (32 - shift);
    }
  }
}

static void flatten_bits(const uint32_t* in, uint32_t* out, int planes, int c, int pixels) {
  const int in_words = (c + 31) / 32;
  const size_t out_words = ((size_t)c * pixels + 31) / 32;
  memset(out, 0, out_words * planes * 4);
  for (int k = 0; k < planes; ++k) {
    for (int p = 0; p < pixels; ++p) {
      const uint32_t* x = in + ((size_t)p * planes + k) * in_words;
      BF_CHANNELS(c) {
        const size_t at = (size_t)ch * pixels + p;
        out[k * out_words + at / 32] |= ((x[ch / 32] >> (ch % 32)) & 1u) << (at % 32);
      }
    }
  }
}

const bf_ops BF_TABLE = {
    BF_ISA_NAME,
    nchw_to_nhwc, nhwc_to_nchw,
    pack_i16, unpack_i16, pack_u8, unpack_u8, narrow, widen,
    quantize_f32_i16, quantize_i32_i16, quantize_f32_u8, quantize_i32_u8, quantize_f32_planes, quantize_i32_planes,
    dequantize_i16, dequantize_u8, affine_f32, affine_i32, add, mul, clamp, two_slope, softmax,
    abs_f32, sigmoid, tanh_f32, silu, gelu, gelu_tanh, hardsigmoid, hardswish, rsqrt, sqrt_f32, reciprocal,
    max_pool_f32, max_pool_i32, max_pool_i16, max_pool_u8, max_pool_bits, avg_pool, mean_space, mean_channels,
    nearest, bilinear, depth_to_space, rearrange, rearrange_across, matmul,
    copy_channels, zero_channels, copy_bits, flatten_bits,
};
