/* What all conv and linear kernels share: the shape, the arguments, the function type.
 *
 * One image at a time, NHWC. Pixel (y, x) of the input starts at input + (y * in_w + x) * in_stride, counted in elements of the family's
 * type (float, int16_t, uint8_t) or in 32-bit words (packed codes). A Linear is a 1x1 conv over in_h = 1, in_w = batch rows.
 * The taps (i, j) of output (y, x) read (y * stride_h - pad_h + i * dilation_h, x * stride_w - pad_w + j * dilation_w); taps outside the image
 * are not valid and contribute nothing (but see adder_u8).
 *
 * A kernel computes output rows [y0, y1) and blocks [b0, b1) of 16 output channels; the outputs do not depend on how a caller cuts the
 * work. b0 is a multiple of the kernel's block_step. Kernels do not allocate and trust their arguments.
 */
#ifndef BITFOLD_KERNELS_CONV_H_
#define BITFOLD_KERNELS_CONV_H_

#include <stdint.h>

#include "kernels/epilogue.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bf_conv_shape {
  int32_t in_h, in_w, in_c;
  int32_t out_h, out_w, out_c;
  int32_t kernel_h, kernel_w;
  int32_t stride_h, stride_w;
  int32_t pad_h, pad_w;
  int32_t dilation_h, dilation_w;
  int32_t groups;
  int64_t in_stride; /* elements or words from one input pixel to the next */
} bf_conv_shape;

/* A code as a linear function of its bit planes: code = base + sum over p of coefficient[p] * bit_p.
 * Binary: 1, {-2}. Ternary (negative, non-zero): 0, {-2, 1}. Uniform, most significant first: min_code, {2^(k-1), ..., 1}. */
typedef struct bf_code_planes {
  int32_t planes; /* 1 to 16 */
  int32_t base;
  int32_t coefficient[16];
} bf_code_planes;

/* Planes two by two from the last one backwards: how many planes the digit has that begins with plane `first`. */
static inline int32_t bf_digit_planes(int32_t planes, int32_t first) { return (planes - first) % 2 == 0 ? 2 : 1; }

/* A code held in a byte: code = byte + base, 0 <= byte <= max. What stands outside the image: see conv_i8 and adder_u8. */
typedef struct bf_byte_codes {
  int32_t base; /* -128 to 0 */
  int32_t max;  /* 1 to 255 */
  int32_t short_steps;    /* conv_i8 only, see there */
  const uint8_t* outside; /* in_c / groups bytes rounded up to eights, each of the code 0 (conv_i8) or the zero point (adder_u8) */
} bf_byte_codes;
/* A code as a linear function of an unsigned field of a few bits: code = base + factor * field. */
typedef struct bf_packed_codes {
  int32_t bits; /* 1, 2 or 4 */
  int32_t max;  /* the largest field that stands for a code */
  int32_t base;
  int32_t factor;
} bf_packed_codes;

typedef struct bf_conv_args {
  bf_conv_shape shape;
  const void* input;
  const void* weights;     /* in the kernel's layout, see kernels/weights.h */
  const int32_t* tap_sums; /* [block][tap][16]: sum of the weight codes of one tap over its input channels; all but conv_i16 and conv_f32 */
  const int32_t* tap_nonzero; /* likewise how many of the codes are not 0; of ternary weights only, else null */
  bf_code_planes in_planes;     /* conv_planes and patch_sum only */
  bf_code_planes weight_planes; /* conv_planes only */
  bf_byte_codes in_bytes;       /* conv_i8, adder_u8 and dense_packed; of conv_u8 the base, which is 0 */
  const int32_t* excess;        /* adder_u8 only: (lanes), see there */
  bf_packed_codes weight_fields; /* dense_packed only */
  bf_epilogue epilogue;
} bf_conv_args;

typedef void (*bf_conv_fn)(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1);

/* Null if the kernel serves the shape, else the reason why not, for Engine.kernels. */
typedef const char* (*bf_refuses_fn)(const bf_conv_shape* shape);

#ifdef __cplusplus
}
#endif

#endif
