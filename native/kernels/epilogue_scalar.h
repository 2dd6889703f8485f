/* The epilogue in plain C99: one output pixel, one block of 16 channels. The arithmetic is specified in epilogue.h. */
#ifndef BITFOLD_KERNELS_EPILOGUE_SCALAR_H_
#define BITFOLD_KERNELS_EPILOGUE_SCALAR_H_

#include <math.h>
#include <string.h>

#include "kernels/conv.h"

/* Steps 2 to 4 for channel o. */
static inline float bf_epilogue_value(const bf_conv_args* args, int32_t y, int32_t x, int32_t o, float d) {
  const bf_epilogue* e = &args->epilogue;
  const int64_t pixel = (int64_t)y * args->shape.out_w + x;
  float v = d;
  if (e->mul) {
    const int32_t lanes = (args->shape.out_c * e->copies + 15) / 16 * 16;
    const int32_t cls = (e->row_class ? e->row_class[y] : 0) * e->col_classes + (e->col_class ? e->col_class[x] : 0);
    float t = e->table[(int64_t)cls * lanes + o];
    if (e->patch_mul) {
      const int32_t group = args->shape.groups == 1 ? 0 : o / (args->shape.out_c / args->shape.groups);
      t = fmaf(e->patch_mul[o], (float)e->patch_sums[pixel * args->shape.groups + group], t);
    }
    v = fmaf(e->mul[o], v, t);
  }
  if (e->residual) v = v + e->residual[pixel * e->residual_stride + o];
  if (e->activation == BF_ACT_TWO_SLOPE) {
    const float t = v + e->shift_in[o];
    v = (t > 0.0f ? e->pos[o] : e->neg[o]) * t;
    v = v + e->shift_out[o];
  } else if (e->activation == BF_ACT_CLAMP) {
    v = e->low > v ? e->low : v;
    v = e->high < v ? e->high : v;
  }
  return v;
}

/* Writes the 16 bits of block b (of `blocks`), and the upper half of the last word if no block owns it. Little-endian words. */
static inline void bf_store_bits(uint32_t* words, int32_t b, int32_t blocks, uint32_t bits) {
  const uint16_t half = (uint16_t)bits, none = 0;
  memcpy((char*)words + 2 * (int64_t)b, &half, 2);
  if (b + 1 == blocks && blocks % 2 == 1) memcpy((char*)words + 2 * (int64_t)b + 2, &none, 2);
}

/* Step 7 for channel o. */
static inline uint8_t bf_epilogue_byte(const bf_conv_args* args, int32_t o, int32_t d, float v) {
  const bf_epilogue* e = &args->epilogue;
  const int32_t lanes = (args->shape.out_c * e->copies + 15) / 16 * 16;
  int32_t n = 0;
  for (int32_t k = 0; k < e->level_count; ++k)
    n += e->levels_i32 ? d >= e->levels_i32[(int64_t)k * lanes + o] : v >= e->levels_f32[(int64_t)k * lanes + o];
  return (uint8_t)(e->level_top && e->level_top[o] ? e->level_top[o] - n : n);
}

/* One copy; d: the accumulators of output block b, as int32 (f is null) or float32 (d is null). */
static inline void bf_epilogue_copy(const bf_conv_args* args, int32_t y, int32_t x, int32_t b, const int32_t* d, const float* f) {
  const bf_epilogue* e = &args->epilogue;
  const int64_t pixel = (int64_t)y * args->shape.out_w + x;
  const int32_t channels = args->shape.out_c * e->copies, blocks = (channels + 15) / 16;
  uint32_t bits = 0;
  for (int32_t lane = 0; lane < 16 && 16 * b + lane < channels; ++lane) {
    const int32_t o = 16 * b + lane;
    if (d && e->out_i32) e->out_i32[pixel * e->out_i32_stride + o] = d[lane];
    float v = 0.0f;
    if (e->out_f32 || (e->out_bits && !e->threshold_i32) || (e->out_u8 && !e->levels_i32))
      v = bf_epilogue_value(args, y, x, o, d ? (float)d[lane] : f[lane]);
    if (e->out_f32) e->out_f32[pixel * e->out_f32_stride + o] = v;
    if (e->out_u8) e->out_u8[pixel * e->out_u8_stride + o] = bf_epilogue_byte(args, o, d ? d[lane] : 0, v);
    if (e->out_bits) {
      const int positive = d && e->threshold_i32 ? d[lane] >= e->threshold_i32[o] : v >= e->threshold_f32[o];
      bits |= (uint32_t)(positive ^ ((e->ascending[b] >> lane) & 1)) << lane;
    }
  }
  if (e->out_bits) bf_store_bits(e->out_bits + pixel * e->out_bits_stride, b, blocks, bits);
}

/* d, f: the accumulators of block b, for all copies. */
static inline void bf_epilogue_block(const bf_conv_args* args, int32_t y, int32_t x, int32_t b, const int32_t* d, const float* f) {
  for (int32_t k = 0; k < args->epilogue.copies; ++k) bf_epilogue_copy(args, y, x, b + k * (args->shape.out_c / 16), d, f);
}

#endif
