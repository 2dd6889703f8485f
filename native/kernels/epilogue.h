/* The epilogue that every conv and linear kernel ends in: what becomes of one accumulator of one output pixel and channel.
 *
 * For output pixel p = y * out_w + x, channel o of group g and accumulator D (int32, or float32 in conv_f32), in this order, every
 * step rounded once to nearest even and no step fused that is not written fma:
 *
 *   1. out_i32:     out_i32[p * out_i32_stride + o] = D                               (integer kernels only)
 *   2. v = D        converted to float32
 *      if mul:      T = table[(row_class[y] * col_classes + col_class[x]) * lanes + o]
 *                   v = fma(mul[o], v, T)                                             without patch_mul
 *                   v = fma(mul[o], v, fma(patch_mul[o], (float)S, T))                S = patch_sums[p * groups + g]
 *   3. residual:    v = v + residual[p * residual_stride + o]
 *   4. activation:  TWO_SLOPE  t = v + shift_in[o];  v = (t > 0 ? pos[o] : neg[o]) * t + shift_out[o]      (two roundings)
 *                   CLAMP      v = low > v ? low : v;  v = high < v ? high : v          (NaN passes through; -0.0 stays at low = 0)
 *   5. out_f32:     out_f32[p * out_f32_stride + o] = v
 *   6. out_bits:    positive = threshold_i32 ? D >= threshold_i32[o] : v >= threshold_f32[o]      (false if v is NaN)
 *                   bit = positive xor ascending[o];  bit 1 means -1; padding bits of the last word are written 0.
 *                   A rising channel (ascending bit 1): code +1 where positive; a falling one (ascending bit 0): code -1 where positive.
 *   7. out_u8:      n = how many of the level_count levels (of channel o) D or v reaches, compared as in step 6
 *                   out_u8[p * out_u8_stride + o] = level_top ? |n - level_top[o]| : n
 *
 * With `copies` the accumulators of every block of channels go through these steps as often: for k = 0 .. copies - 1 accumulator o is output
 * channel o + k * out_c, with the constants, the residual and the outputs of that channel. out_c is then a multiple of 16, and groups is 1.
 *
 * A null pointer leaves its step out. Steps 2 to 5 are skipped when only steps on integers follow.
 * lanes = 16 * ceil(copies * out_c / 16): all per-channel arrays, every class of the table, and the channel strides of residual, out_i32,
 * out_f32 and out_u8 have room for whole blocks of 16 channels. Padding lanes of per-channel arrays hold 0 or any finite number; padding lanes of
 * the outputs are written with unspecified values.
 */
#ifndef BITFOLD_KERNELS_EPILOGUE_H_
#define BITFOLD_KERNELS_EPILOGUE_H_

#include <stdint.h>

typedef enum bf_activation { BF_ACT_NONE = 0, BF_ACT_TWO_SLOPE = 1, BF_ACT_CLAMP = 2 } bf_activation;

typedef struct bf_epilogue {
  int32_t copies; /* 1 or more */

  int32_t* out_i32; /* step 1 */
  int64_t out_i32_stride;

  const float* mul; /* step 2: (lanes); table: (row classes, col_classes, lanes) */
  const float* table;
  const int32_t* row_class; /* (out_h); null: all 0 */
  const int32_t* col_class; /* (out_w); null: all 0 */
  int32_t col_classes;      /* >= 1 when mul is given */
  const float* patch_mul;   /* (lanes) or null */
  const int32_t* patch_sums; /* (out_h * out_w, groups); needed by patch_mul, and by conv_planes: see there */

  const float* residual; /* step 3 */
  int64_t residual_stride;

  int32_t activation; /* step 4: bf_activation; the four arrays (lanes) are all given for TWO_SLOPE */
  const float* neg;
  const float* pos;
  const float* shift_in;
  const float* shift_out;
  float low; /* CLAMP: -INFINITY for no bound */
  float high;

  float* out_f32; /* step 5 */
  int64_t out_f32_stride;

  uint32_t* out_bits; /* step 6: pixel p starts at out_bits + p * out_bits_stride; words of 32 channels, least-significant bit first */
  int64_t out_bits_stride;
  const float* threshold_f32;   /* exactly one of the two thresholds (lanes) when out_bits is given */
  const int32_t* threshold_i32; /* integer kernels only */
  const uint16_t* ascending;    /* (lanes / 16): bit l of entry b belongs to channel 16 b + l */

  uint8_t* out_u8; /* step 7 */
  int64_t out_u8_stride;
  int32_t level_count;         /* 1 to 255 */
  const float* levels_f32;     /* exactly one of the two (level_count, lanes) when out_u8 is given */
  const int32_t* levels_i32;   /* integer kernels only */
  const int32_t* level_top;    /* (lanes): level_count where bytes count from the top, else 0; null: nowhere */
} bf_epilogue;

#endif
