/* The epilogue of epilogue.h on 16 lanes, for `count` neighbouring pixels of one row and one block of channels.
 * Included by ISA files after their simd_*.h. A step is done for the whole tile before the next one begins, so whether it is there at all
 * is asked once a tile, and its constants are loaded once a tile. */
#ifndef BITFOLD_KERNELS_EPILOGUE_SIMD_H_
#define BITFOLD_KERNELS_EPILOGUE_SIMD_H_

#include "kernels/conv.h"

/* What step 6 needs to know of a block. */
struct BlockBits {
  uint32_t flip, valid;  // masks of 16 channels
  bool ends_row;         // the upper half of the pixel's last word belongs to no block
};

BF_INLINE BlockBits bf_block_bits(const bf_conv_args* args, int32_t b) {
  const uint32_t channels = (uint32_t)(args->shape.out_c * args->epilogue.copies), blocks = (channels + 15) / 16, rest = channels % 16;
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

/* A tile: pixels (y, x) to (y, x + count - 1) of block b, whose channels begin at o; pixel is the number of the first one. */
struct BlockSpot {
  int32_t y, x, count, b, group;
  int64_t pixel, o, lanes;
};

BF_INLINE BlockSpot bf_spot(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group) {
  const bf_conv_shape* s = &args->shape;
  return BlockSpot{y, x, count, b, group, (int64_t)y * s->out_w + x, 16 * (int64_t)b, ((int64_t)s->out_c * args->epilogue.copies + 15) / 16 * 16};
}

/* Step 2. */
static inline void bf_affine(const bf_conv_args* args, const BlockSpot& at, vf* v) {
  const bf_epilogue* e = &args->epilogue;
  const float* table = e->table + (e->row_class ? (int64_t)e->row_class[at.y] * e->col_classes : 0) * at.lanes + at.o;
  const vf mul = vf_load(e->mul + at.o);
  if (!e->col_class && !e->patch_mul) {
    const vf t = vf_load(table);
    for (int32_t p = 0; p < at.count; ++p) v[p] = vf_fma(mul, v[p], t);
    return;
  }
  const int32_t groups = args->shape.groups;
  for (int32_t p = 0; p < at.count; ++p) {
    vf t = vf_load(table + (e->col_class ? e->col_class[at.x + p] : 0) * at.lanes);
    if (e->patch_mul) t = vf_fma(vf_load(e->patch_mul + at.o), vf_set1((float)e->patch_sums[(at.pixel + p) * groups + at.group]), t);
    v[p] = vf_fma(mul, v[p], t);
  }
}

/* Step 4. */
static inline void bf_activate(const bf_epilogue* e, const BlockSpot& at, vf* v) {
  if (e->activation == BF_ACT_TWO_SLOPE) {
    const vf neg = vf_load(e->neg + at.o), pos = vf_load(e->pos + at.o);
    const vf shift_in = vf_load(e->shift_in + at.o), shift_out = vf_load(e->shift_out + at.o);
    for (int32_t p = 0; p < at.count; ++p) {
      const vf t = vf_add(v[p], shift_in);
      v[p] = vf_add(vf_mul(vf_if_positive(t, pos, neg), t), shift_out);
    }
  } else if (e->activation == BF_ACT_CLAMP) {
    const vf low = vf_set1(e->low), high = vf_set1(e->high);
    for (int32_t p = 0; p < at.count; ++p) v[p] = vf_min(high, vf_max(low, v[p]));
  }
}

/* Step 7: `count_level` adds to the numbers of levels that 16 channels have reached. levels: int32 or float32. */
template <typename Value, typename Level, typename CountLevel>
BF_INLINE void bf_store_levels(const bf_epilogue* e, const BlockSpot& at, const Value* v, const Level* levels, const CountLevel& count_level) {
  for (int32_t p = 0; p < at.count; ++p) {
    vi n = vi_set1(0);
    for (int32_t k = 0; k < e->level_count; ++k) n = count_level(n, v[p], levels + k * at.lanes + at.o);
    if (e->level_top) n = vi_abs(vi_sub(n, vi_load(e->level_top + at.o)));
    vi_store_bytes(e->out_u8 + (at.pixel + p) * e->out_u8_stride + at.o, n);
  }
}

/* Steps 2 to 7 (thresholds on floats), in place. */
static inline void bf_finish_spot(const bf_conv_args* args, const BlockSpot& at, vf* v) {
  const bf_epilogue* e = &args->epilogue;
  if (e->mul) bf_affine(args, at, v);
  if (const float* residual = e->residual) {
    const int64_t stride = e->residual_stride;
    residual += at.pixel * stride + at.o;
    for (int32_t p = 0; p < at.count; ++p) v[p] = vf_add(v[p], vf_load(residual + p * stride));
  }
  bf_activate(e, at, v);
  if (float* out = e->out_f32) {
    const int64_t stride = e->out_f32_stride;
    out += at.pixel * stride + at.o;
    for (int32_t p = 0; p < at.count; ++p) vf_store(out + p * stride, v[p]);
  }
  if (e->out_bits && e->threshold_f32) {
    const vf threshold = vf_load(e->threshold_f32 + at.o);
    const BlockBits bits = bf_block_bits(args, at.b);
    for (int32_t p = 0; p < at.count; ++p) bf_store_bits(e, bits, at.pixel + p, at.b, vf_ge(v[p], threshold));
  }
  if (e->levels_f32)
    bf_store_levels(e, at, v, e->levels_f32, [](vi n, vf a, const float* level) { return vi_count_vf_ge(n, a, vf_load(level)); });
}

constexpr int32_t kMostFinished = 32;  // pixels of a tile

/* Pixels (y, x) to (y, x + count - 1), at most kMostFinished, block b of the given group; v: their float accumulators, which it changes. */
static inline void bf_finish_floats(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, vf* v) {
  const int32_t blocks = args->shape.out_c / 16;
  for (int32_t k = args->epilogue.copies - 1; k > 0; --k) {
    vf copy[kMostFinished];
    for (int32_t p = 0; p < count; ++p) copy[p] = v[p];
    bf_finish_spot(args, bf_spot(args, y, x, count, b + k * blocks, group), copy);
  }
  bf_finish_spot(args, bf_spot(args, y, x, count, b, group), v);
}

/* One copy of integer accumulators: step 1 and thresholds on integers, then the floats if something needs them. */
static inline void bf_finish_copy(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, const vi* d) {
  const bf_epilogue* e = &args->epilogue;
  const BlockSpot at = bf_spot(args, y, x, count, b, group);
  if (e->out_i32)
    for (int32_t p = 0; p < count; ++p) vi_store(e->out_i32 + (at.pixel + p) * e->out_i32_stride + at.o, d[p]);
  if (e->threshold_i32) {
    const vi threshold = vi_load(e->threshold_i32 + at.o);
    const BlockBits bits = bf_block_bits(args, b);
    for (int32_t p = 0; p < count; ++p) bf_store_bits(e, bits, at.pixel + p, b, vi_ge(d[p], threshold));
  }
  if (e->levels_i32)
    bf_store_levels(e, at, d, e->levels_i32, [](vi n, vi a, const int32_t* level) { return vi_count_ge(n, a, vi_load(level)); });
  if (!e->out_f32 && !e->levels_f32 && !(e->out_bits && e->threshold_f32)) return;
  vf v[kMostFinished];
  for (int32_t p = 0; p < count; ++p) v[p] = vi_to_vf(d[p]);
  bf_finish_spot(args, at, v);
}

/* The same as bf_finish_floats, for integer accumulators. */
static inline void bf_finish_ints(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, const vi* d) {
  const int32_t blocks = args->shape.out_c / 16;
  for (int32_t k = 0; k < args->epilogue.copies; ++k) bf_finish_copy(args, y, x, count, b + k * blocks, group, d);
}

#endif
