/* Every operation that is not a convolution or a matrix product: element-wise maps, pooling, quantisers, layout changes.
 *
 * Buffers are NHWC: value (pixel p, channel c) lies at p * stride + c, strides counted in elements. Channels from c to stride are
 * padding: any value, never read into a result. Packed codes are 32-bit words [pixel][plane][word], channel c in bit c % 32 of
 * word c / 32; in a Binary plane bit 1 means -1; padding bits are 0 on the way in and on the way out.
 *
 * One body (ops_body.h) is compiled once per instruction set. It fixes the order of every float operation and rounds once only
 * where fma is written, so all variants give the same bits. Functions that take [begin, end) work on those pixels or rows only and
 * may run on several threads at once. `in == out` is allowed where "in place" is said. Sizes were checked when the plan was made.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the words of a coded value are filled from its integer codes. */
typedef enum {
  BF_PLANES_BINARY = 0,  /* one plane: code < 0 */
  BF_PLANES_TERNARY = 1, /* two planes: code < 0, code != 0 */
  BF_PLANES_UNIFORM = 2  /* the bits of code - min_code, most significant plane first */
} bf_plane_kind;

typedef struct {
  int c, in_stride;
  int levels;            /* entries of the alphabet: thresholds per row + 1 */
  int per_channel;       /* 1: one row of thresholds a channel; 0: one row for all */
  const void* thresholds; /* float or int32; levels <= BF_COUNT_LEVELS: [levels - 1][stride 16-rounded c]; else [row][levels - 1] */
  const uint8_t* descending; /* [c], 1 where entries count from the top; NULL: nowhere */
  const int16_t* alphabet;   /* [levels] codes (less the base of the bytes) in rising order, for i16 and u8 output; NULL: first + entry */
  int first;
  const float* lines; /* of more levels: [row][2], slope and height of the row's bf_near_level; NULL: no line is near every threshold */
} bf_quantize_args;
#define BF_COUNT_LEVELS 16 /* up to here thresholds are counted side by side; above, found from a line or by binary search (the same number) */

/* A guess, 1 to count - 1, that rises with x; NaN gives 1. A line is near a row of `count` thresholds if every x reaches the row's first
 * guess - 1 and none behind the next two, so that these two comparisons make the number exact. */
static inline int bf_near_level(float x, const float* line, int count) {
  const float most = (float)(count - 1), height = __builtin_fmaf(x, line[0], line[1]), above = height > 1.0f ? height : 1.0f;
  return (int)(above < most ? above : most);
}

typedef struct {
  int h, w, c, in_stride;        /* one image */
  int out_h, out_w, out_stride;
  int kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  int count_padding;             /* AvgPool: divide by the window's size instead of by the number of valid taps */
} bf_pool_args;

typedef struct {
  const float *neg, *pos, *shift_in, *shift_out; /* [c], never NULL */
} bf_two_slope_args;

typedef struct {
  int c, in_w, in_stride; /* c elements of a pixel, or words */
  int out_w, out_stride;
  const int32_t *rows, *next_rows;       /* [out_h]: the input's row that each output row reads, and the one below (or the same at the end); -1 reads zeros (`nearest` alone) */
  const int32_t *columns, *next_columns; /* [out_w] */
  const float *row_weights, *column_weights; /* of the next row and column; NULL for `nearest` */
} bf_upsample_args;

typedef struct {
  int c, in_w, in_stride;
  int out_w, out_stride;
  int factor_h, factor_w, top, left; /* output pixel (y, x) is pixel (y + top, x + left) before it is cropped */
  int groups;
} bf_depth_to_space_args;

typedef struct {
  int c, out_stride;
  int run;              /* neighbours of a run; across: a divisor of the output's pixels, else of c */
  const int32_t* table; /* the input's element at which each run begins: [pixels][c / run] or, across, [pixels / run][c] */
} bf_rearrange_args;

typedef struct {
  int m, k, n; /* of each group: (m, k) times (k, n) */
  int a_stride, b_stride, out_stride; /* b and out have room for whole blocks of 16 channels */
} bf_matmul_args;

typedef void (*bf_map)(const float* in, float* out, int c, int in_stride, int out_stride, int begin, int end);

typedef struct {
  const char* isa;

  /* Layout at the doors, one image of `pixels` pixels. Bytes of an element (in, out): (4, 4), (2, 2), (1, 1), and uint8 to int16 (1, 2) or back. */
  void (*nchw_to_nhwc)(const void* in, int in_bytes, void* out, int out_bytes, int c, int pixels, int out_stride);
  void (*nhwc_to_nchw)(const void* in, int in_bytes, void* out, int out_bytes, int c, int pixels, int in_stride); /* also Flatten */

  /* Codes between int16, bytes (code = byte + base; base 0 for int16) and packed planes; pixels [begin, end). */
  void (*pack_i16)(const int16_t* in, int base, uint32_t* out, bf_plane_kind kind, int planes, int min_code, int c, int in_stride, int begin, int end);
  void (*unpack_i16)(const uint32_t* in, int16_t* out, int base, bf_plane_kind kind, int planes, int min_code, int c, int out_stride, int begin, int end);
  void (*pack_u8)(const uint8_t* in, int base, uint32_t* out, bf_plane_kind kind, int planes, int min_code, int c, int in_stride, int begin, int end);
  void (*unpack_u8)(const uint32_t* in, uint8_t* out, int base, bf_plane_kind kind, int planes, int min_code, int c, int out_stride, int begin, int end);
  void (*narrow)(const int16_t* in, uint8_t* out, int base, int c, int in_stride, int out_stride, int begin, int end);
  void (*widen)(const uint8_t* in, int16_t* out, int base, int c, int in_stride, int out_stride, int begin, int end);

  /* float32 or int32 -> codes (ops.py: Quantize); comparisons with NaN are false. Planes output: entry numbers, MSB plane first;
   * with Binary the plane is 1 where the entry is 0. */
  void (*quantize_f32_i16)(const bf_quantize_args* q, const float* in, int16_t* out, int out_stride, int begin, int end);
  void (*quantize_i32_i16)(const bf_quantize_args* q, const int32_t* in, int16_t* out, int out_stride, int begin, int end);
  void (*quantize_f32_u8)(const bf_quantize_args* q, const float* in, uint8_t* out, int out_stride, int begin, int end);
  void (*quantize_i32_u8)(const bf_quantize_args* q, const int32_t* in, uint8_t* out, int out_stride, int begin, int end);
  void (*quantize_f32_planes)(const bf_quantize_args* q, const float* in, uint32_t* out, bf_plane_kind kind, int planes, int begin, int end);
  void (*quantize_i32_planes)(const bf_quantize_args* q, const int32_t* in, uint32_t* out, bf_plane_kind kind, int planes, int begin, int end);

  /* Element-wise on pixels [begin, end); in place where types have one size. */
  void (*dequantize_i16)(const int16_t* in, float* out, float scale, float offset, int c, int in_stride, int out_stride, int begin, int end);
  void (*dequantize_u8)(const uint8_t* in, int base, float* out, float scale, float offset, int c, int in_stride, int out_stride, int begin, int end);
  void (*affine_f32)(const float* in, float* out, const float* mul, const float* bias, int c, int in_stride, int out_stride, int begin, int end);
  void (*affine_i32)(const int32_t* in, float* out, const float* mul, const float* bias, int c, int in_stride, int out_stride, int begin, int end);
  /* b advances by b_pixel (0 or its stride) a pixel and b_channel (0 or 1) a channel. */
  void (*add)(const float* a, const float* b, float* out, int c, int a_stride, int b_pixel, int b_channel, int out_stride, int begin, int end);
  void (*mul)(const float* a, const float* b, float* out, int c, int a_stride, int b_pixel, int b_channel, int out_stride, int begin, int end);
  void (*clamp)(const float* in, float* out, float low, float high, int c, int in_stride, int out_stride, int begin, int end); /* NaN stays */
  void (*two_slope)(const bf_two_slope_args* k, const float* in, float* out, int c, int in_stride, int out_stride, int begin, int end);
  bf_map softmax;
  bf_map abs_f32, sigmoid, tanh_f32, silu, gelu, gelu_tanh, hardsigmoid, hardswish, rsqrt, sqrt_f32, reciprocal; /* Unary and Abs */

  /* Pooling; output rows [begin, end) of one image. */
  void (*max_pool_f32)(const bf_pool_args* k, const float* in, float* out, int begin, int end);
  void (*max_pool_i32)(const bf_pool_args* k, const int32_t* in, int32_t* out, int begin, int end);
  void (*max_pool_i16)(const bf_pool_args* k, const int16_t* in, int16_t* out, int begin, int end);
  void (*max_pool_u8)(const bf_pool_args* k, const uint8_t* in, uint8_t* out, int begin, int end);
  void (*max_pool_bits)(const bf_pool_args* k, const uint32_t* in, uint32_t* out, int begin, int end); /* Binary; c = words of a pixel */
  void (*avg_pool)(const bf_pool_args* k, const float* in, float* out, int begin, int end);
  void (*mean_space)(const float* in, float* out, int pixels, int in_stride, int c_begin, int c_end);
  void (*mean_channels)(const float* in, float* out, int c, int in_stride, int out_stride, int begin, int end);

  /* Upsample and DepthToSpace; output rows [begin, end) of one image. */
  void (*nearest)(const bf_upsample_args* k, const void* in, void* out, int bytes, int begin, int end);
  void (*bilinear)(const bf_upsample_args* k, const float* in, float* out, int begin, int end);
  void (*depth_to_space)(const bf_depth_to_space_args* k, const float* in, float* out, int begin, int end);

  /* Output pixels [begin, end) of one image; across: runs lie along the pixels of the output, else along its channels. */
  void (*rearrange)(const bf_rearrange_args* k, const float* in, float* out, int begin, int end);
  void (*rearrange_across)(const bf_rearrange_args* k, const float* in, float* out, int begin, int end);

  /* MatMul: output pixels (rows of all groups) [begin, end) of one image; one fma a step in rising k, from +0.0. */
  void (*matmul)(const bf_matmul_args* k, const float* a, const float* b, float* out, int begin, int end);

  /* Channels in_c of `in` to channels [at, at + in_c) of `out`; pixels [begin, end). */
  void (*copy_channels)(const void* in, void* out, int bytes, int in_c, int in_stride, int at, int out_stride, int begin, int end);
  void (*zero_channels)(void* out, int bytes, int at, int count, int out_stride, int begin, int end);
  /* The same for packed planes: bits are ORed into words that were cleared before. */
  void (*copy_bits)(const uint32_t* in, uint32_t* out, int planes, int in_c, int in_words, int at, int out_words, int begin, int end);
  void (*flatten_bits)(const uint32_t* in, uint32_t* out, int planes, int c, int pixels); /* one image; channel slowest */
} bf_ops;

extern const bf_ops bf_ops_scalar;
#if defined(__x86_64__)
extern const bf_ops bf_ops_avx2;
extern const bf_ops bf_ops_avx512;
#elif defined(__aarch64__)
extern const bf_ops bf_ops_neon;
#endif

#ifdef __cplusplus
}
#endif
