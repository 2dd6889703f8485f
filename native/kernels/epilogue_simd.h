/* The epilogue of epilogue.h on 16 lanes, for `count` neighbouring pixels of one row and one block of channels.
 * Included by ISA files after their simd_*.h. Everything of a channel is loaded once per tile. */
#ifndef BITFOLD_KERNELS_EPILOGUE_SIMD_H_
#define BITFOLD_KERNELS_EPILOGUE_SIMD_H_

#include "kernels/conv.h"

/* What step 6 needs to know of a block. */
struct BlockBits {
  uint32_t flip, valid;  // masks of 16 channels
  bool ends_row;         // the upper half of the pixel's last word belongs to no block
};

BF_INLINE BlockBits bf_block_bits(const bf_conv_args* args, int32_t b) {
  const uint32_t channels = (uint32_t)args->shape.out_c, blocks = (channels + 15) / 16, rest = channels % 16;
  const bool last = (uint32_t)b + 1 == blocks;
  return BlockBits{args->epilogue.ascending ? args->epilogue.ascending[b] : 0u, last && rest ? (1u << rest) - 1 : 0xffffu, last && blocks % 2};
}

BF_INLINE void bf_store_bits(const bf_epilogue* e, const BlockBits& block, int64_t pixel, int32_t b, uint32_t positive) {
  char* at = (char*)(e->out_bits + pixel * e->out_bits_stride) + 2 * (int64_t)b;
  const uint32_t bits = (positive ^ block.flip) & block.valid;
  const uint16_t half = (uint16_t)bits;
  if (block.ends_row) __builtin_memcpy(at, &bits, 4);
  else __builtin_memcpy(at, &half, 2);
}

/* Per-channel constants of steps 2 to 4 and 6 of one block; what a step does not use stays 0. */
struct BlockConstants {
  vf mul, patch_mul, neg, pos, shift_in, shift_out, low, high, threshold;
  BlockBits bits;
};

BF_INLINE BlockConstants bf_block_constants(const bf_conv_args* args, int32_t b) {
  const bf_epilogue* e = &args->epilogue;
  const int64_t o = 16 * (int64_t)b;
  const vf zero = vf_set1(0.0f);
  const bool slopes = e->activation == BF_ACT_TWO_SLOPE;
  return BlockConstants{e->mul ? vf_load(e->mul + o) : zero,
                        e->patch_mul ? vf_load(e->patch_mul + o) : zero,
                        slopes ? vf_load(e->neg + o) : zero,
                        slopes ? vf_load(e->pos + o) : zero,
                        slopes ? vf_load(e->shift_in + o) : zero,
                        slopes ? vf_load(e->shift_out + o) : zero,
                        vf_set1(e->low),
                        vf_set1(e->high),
                        e->threshold_f32 ? vf_load(e->threshold_f32 + o) : zero,
                        bf_block_bits(args, b)};
}

/* Step 7 with the numbers of levels that 16 channels reach. */
BF_INLINE void bf_store_levels(const bf_epilogue* e, int64_t pixel, int64_t o, vi n) {
  if (e->level_top) n = vi_abs(vi_sub(n, vi_load(e->level_top + o)));
  vi_store_bytes(e->out_u8 + pixel * e->out_u8_stride + o, n);
}

/* Steps 2 to 7 (thresholds on floats) for one pixel. table: the row class's part. */
BF_INLINE void bf_finish_pixel(const bf_conv_args* args, const BlockConstants& c, const float* table, int64_t lanes, int32_t group, int64_t pixel,
                               int32_t x, int32_t b, vf v) {
  const bf_epilogue* e = &args->epilogue;
  const int64_t o = 16 * (int64_t)b;
  if (table) {
    vf t = vf_load(table + (e->col_class ? e->col_class[x] : 0) * lanes + o);
    if (e->patch_mul) t = vf_fma(c.patch_mul, vf_set1((float)e->patch_sums[pixel * args->shape.groups + group]), t);
    v = vf_fma(c.mul, v, t);
  }
  if (e->residual) v = vf_add(v, vf_load(e->residual + pixel * e->residual_stride + o));
  if (e->activation == BF_ACT_TWO_SLOPE) {
    const vf t = vf_add(v, c.shift_in);
    v = vf_add(vf_mul(vf_if_positive(t, c.pos, c.neg), t), c.shift_out);
  } else if (e->activation == BF_ACT_CLAMP) {
    v = vf_min(c.high, vf_max(c.low, v));
  }
  if (e->out_f32) vf_store(e->out_f32 + pixel * e->out_f32_stride + o, v);
  if (e->out_bits && e->threshold_f32) bf_store_bits(e, c.bits, pixel, b, vf_ge(v, c.threshold));
  if (e->levels_f32) {
    vi n = vi_set1(0);
    for (int32_t k = 0; k < e->level_count; ++k) n = vi_count_vf_ge(n, v, vf_load(e->levels_f32 + k * lanes + o));
    bf_store_levels(e, pixel, o, n);
  }
}

/* The part of the table that belongs to output row y; null without an affine step. */
BF_INLINE const float* bf_table_row(const bf_epilogue* e, int64_t lanes, int32_t y) {
  return e->mul ? e->table + (e->row_class ? (int64_t)e->row_class[y] * e->col_classes : 0) * lanes : nullptr;
}

/* Pixels (y, x) to (y, x + count - 1), block b of the given group; v: their float accumulators. */
static inline void bf_finish_floats(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, const vf* v) {
  const bf_epilogue* e = &args->epilogue;
  const int64_t lanes = ((int64_t)args->shape.out_c + 15) / 16 * 16, pixel = (int64_t)y * args->shape.out_w + x;
  const float* table = bf_table_row(e, lanes, y);
  const BlockConstants c = bf_block_constants(args, b);
  for (int32_t p = 0; p < count; ++p) bf_finish_pixel(args, c, table, lanes, group, pixel + p, x + p, b, v[p]);
}

/* The same for integer accumulators: step 1 and thresholds on integers, then the floats if something needs them. */
static inline void bf_finish_ints(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, const vi* d) {
  const bf_epilogue* e = &args->epilogue;
  const int64_t lanes = ((int64_t)args->shape.out_c + 15) / 16 * 16, pixel = (int64_t)y * args->shape.out_w + x, o = 16 * (int64_t)b;
  if (e->out_i32)
    for (int32_t p = 0; p < count; ++p) vi_store(e->out_i32 + (pixel + p) * e->out_i32_stride + o, d[p]);
  if (e->threshold_i32) {
    const vi threshold = vi_load(e->threshold_i32 + o);
    const BlockBits bits = bf_block_bits(args, b);
    for (int32_t p = 0; p < count; ++p) bf_store_bits(e, bits, pixel + p, b, vi_ge(d[p], threshold));
  }
  if (e->levels_i32)
    for (int32_t p = 0; p < count; ++p) {
      vi n = vi_set1(0);
      for (int32_t k = 0; k < e->level_count; ++k) n = vi_count_ge(n, d[p], vi_load(e->levels_i32 + k * lanes + o));
      bf_store_levels(e, pixel + p, o, n);
    }
  if (!e->out_f32 && !e->levels_f32 && !(e->out_bits && e->threshold_f32)) return;
  const float* table = bf_table_row(e, lanes, y);
  const BlockConstants c = bf_block_constants(args, b);
  for (int32_t p = 0; p < count; ++p) bf_finish_pixel(args, c, table, lanes, group, pixel + p, x + p, b, vi_to_vf(d[p]));
}

#endif
