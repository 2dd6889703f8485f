/* The epilogue of epilogue.h on 16 lanes, for `count` neighbouring pixels of one row and one block of channels.
 * Included by ISA files after their simd_*.h. The float steps of a pixel are done in registers, with constants loaded once a tile. */
#ifndef BITFOLD_KERNELS_EPILOGUE_SIMD_H_
#define BITFOLD_KERNELS_EPILOGUE_SIMD_H_

#include "kernels/conv.h"

/* Step 6 of a tile: where the bits of its next pixel go, and what they need. */
struct BlockBits {
  char* at;
  int64_t step;          // bytes to the next pixel
  uint32_t flip, valid;  // masks of 16 channels
  bool ends_row;         // the upper half of the pixel's last word belongs to no block
};

BF_INLINE BlockBits bf_block_bits(const bf_conv_args* args, int64_t pixel, int32_t b) {
  const bf_epilogue* e = &args->epilogue;
  const uint32_t channels = (uint32_t)(args->shape.out_c * e->copies), blocks = (channels + 15) / 16, rest = channels % 16;
  const bool last = (uint32_t)b + 1 == blocks;
  return BlockBits{(char*)(e->out_bits + pixel * e->out_bits_stride) + 2 * (int64_t)b, 4 * (int64_t)e->out_bits_stride,
                   e->ascending ? e->ascending[b] : 0u, last && rest ? (1u << rest) - 1 : 0xffffu, last && blocks % 2};
}

BF_INLINE void bf_store_bits(BlockBits& block, uint32_t positive) {
  const uint32_t bits = (positive ^ block.flip) & block.valid;
  const uint16_t half = (uint16_t)bits;
  if (block.ends_row) __builtin_memcpy(block.at, &bits, 4);
  else __builtin_memcpy(block.at, &half, 2);
  block.at += block.step;
}

/* A run: pixels (y, x) to (y, x + count - 1) of block b, whose channels begin at o; pixel is the number of the first one. */
struct BlockSpot {
  int32_t y, x, count, b, group;
  int64_t pixel, o, lanes;
};

BF_INLINE BlockSpot bf_spot(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group) {
  const bf_conv_shape* s = &args->shape;
  return BlockSpot{y, x, count, b, group, (int64_t)y * s->out_w + x, 16 * (int64_t)b, ((int64_t)s->out_c * args->epilogue.copies + 15) / 16 * 16};
}

/* Step 4 and its constants. */
template <int kActivation>
struct Activation;

template <>
struct Activation<BF_ACT_NONE> {
  Activation(const bf_epilogue*, int64_t) {}
  vf operator()(vf v) const { return v; }
};

template <>
struct Activation<BF_ACT_CLAMP> {
  vf low, high;
  Activation(const bf_epilogue* e, int64_t) : low(vf_set1(e->low)), high(vf_set1(e->high)) {}
  vf operator()(vf v) const { return vf_min(high, vf_max(low, v)); }
};

template <>
struct Activation<BF_ACT_TWO_SLOPE> {
  vf neg, pos, shift_in, shift_out;
  Activation(const bf_epilogue* e, int64_t o)
      : neg(vf_load(e->neg + o)), pos(vf_load(e->pos + o)), shift_in(vf_load(e->shift_in + o)), shift_out(vf_load(e->shift_out + o)) {}
  vf operator()(vf v) const {
    const vf t = vf_add(v, shift_in);
    return vf_add(vf_mul(vf_if_positive(t, pos, neg), t), shift_out);
  }
};

BF_INLINE vf bf_float_of(vf v) { return v; }
BF_INLINE vf bf_float_of(vi v) { return vi_to_vf(v); }

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

constexpr int32_t kMostFinished = 32;  // pixels of a row; what an epilogue sets up is paid once for them

/* Steps 2 to 6 (thresholds on floats); floats: where step 7 finds what it needs. */
template <int kActivation, typename Sum>
static inline void bf_finish_pixels(const bf_conv_args* args, const BlockSpot& at, const Sum* sums, vf* floats) {
  const bf_epilogue* e = &args->epilogue;
  const int32_t groups = args->shape.groups;
  const Activation<kActivation> activate(e, at.o);
  const float* table = e->mul ? e->table + (e->row_class ? (int64_t)e->row_class[at.y] * e->col_classes : 0) * at.lanes + at.o : nullptr;
  const vf mul = e->mul ? vf_load(e->mul + at.o) : vf_set1(1), first = e->mul ? vf_load(table) : vf_set1(0);
  const bool one_class = !e->col_class && !e->patch_mul;
  const float* residual = e->residual ? e->residual + at.pixel * e->residual_stride + at.o : nullptr;
  float* out = e->out_f32 ? e->out_f32 + at.pixel * e->out_f32_stride + at.o : nullptr;
  const bool has_bits = e->out_bits && e->threshold_f32;
  const vf threshold = has_bits ? vf_load(e->threshold_f32 + at.o) : vf_set1(0);
  BlockBits bits = has_bits ? bf_block_bits(args, at.pixel, at.b) : BlockBits{};
  for (int32_t p = 0; p < at.count; ++p) {
    vf v = bf_float_of(sums[p]);
    if (e->mul) {
      vf t = first;
      if (!one_class) {
        if (e->col_class) t = vf_load(table + e->col_class[at.x + p] * at.lanes);
        if (e->patch_mul) t = vf_fma(vf_load(e->patch_mul + at.o), vf_set1((float)e->patch_sums[(at.pixel + p) * groups + at.group]), t);
      }
      v = vf_fma(mul, v, t);
    }
    if (residual) v = vf_add(v, vf_load(residual + p * e->residual_stride));
    v = activate(v);
    if (out) vf_store(out + p * e->out_f32_stride, v);
    if (has_bits) bf_store_bits(bits, vf_ge(v, threshold));
    if (floats) floats[p] = v;
  }
}

/* Steps 2 to 7 (thresholds on floats). */
template <typename Sum>
static inline void bf_finish_spot(const bf_conv_args* args, const BlockSpot& at, const Sum* sums) {
  const bf_epilogue* e = &args->epilogue;
  vf v[kMostFinished], *floats = e->levels_f32 ? v : nullptr;
  switch (e->activation) {
    case BF_ACT_TWO_SLOPE: bf_finish_pixels<BF_ACT_TWO_SLOPE>(args, at, sums, floats); break;
    case BF_ACT_CLAMP: bf_finish_pixels<BF_ACT_CLAMP>(args, at, sums, floats); break;
    default: bf_finish_pixels<BF_ACT_NONE>(args, at, sums, floats);
  }
  if (floats) bf_store_levels(e, at, floats, e->levels_f32, [](vi n, vf a, const float* level) { return vi_count_vf_ge(n, a, vf_load(level)); });
}

/* Pixels (y, x) to (y, x + count - 1), at most kMostFinished, block b of the given group; v: their float accumulators. */
static inline void bf_finish_floats(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, const vf* v) {
  const int32_t blocks = args->shape.out_c / 16;
  for (int32_t k = 0; k < args->epilogue.copies; ++k) bf_finish_spot(args, bf_spot(args, y, x, count, b + k * blocks, group), v);
}

/* One copy of integer accumulators: step 1 and thresholds on integers, then the floats if something needs them. */
static inline void bf_finish_copy(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, const vi* d) {
  const bf_epilogue* e = &args->epilogue;
  const BlockSpot at = bf_spot(args, y, x, count, b, group);
  if (e->out_i32)
    for (int32_t p = 0; p < count; ++p) vi_store(e->out_i32 + (at.pixel + p) * e->out_i32_stride + at.o, d[p]);
  if (e->threshold_i32) {
    const vi threshold = vi_load(e->threshold_i32 + at.o);
    BlockBits bits = bf_block_bits(args, at.pixel, b);
    for (int32_t p = 0; p < count; ++p) bf_store_bits(bits, vi_ge(d[p], threshold));
  }
  if (e->levels_i32)
    bf_store_levels(e, at, d, e->levels_i32, [](vi n, vi a, const int32_t* level) { return vi_count_ge(n, a, vi_load(level)); });
  if (!e->out_f32 && !e->levels_f32 && !(e->out_bits && e->threshold_f32)) return;
  bf_finish_spot(args, at, d);
}

/* The same as bf_finish_floats, for integer accumulators. */
static inline void bf_finish_ints(const bf_conv_args* args, int32_t y, int32_t x, int32_t count, int32_t b, int32_t group, const vi* d) {
  const int32_t blocks = args->shape.out_c / 16;
  for (int32_t k = 0; k < args->epilogue.copies; ++k) bf_finish_copy(args, y, x, count, b + k * blocks, group, d);
}

/* Where the integer sums of a tile go: a vector of 16 channels for each pixel, from block to block. */
struct TileSums {
  vi* first;
  int64_t step;
  vi* operator[](int32_t block) const { return first + block * step; }
};

/* Pixels of a row in as few tiles as hold them, of nearly equal width. */
struct Tiling {
  int32_t tiles, pixels, wider;  // the first `wider` tiles have a pixel more

  Tiling(int32_t width, int32_t most) : tiles((width + most - 1) / most), pixels(width / tiles), wider(width % tiles) {}
};

/* Calls sum(x, count, sums) for every tile, and finish(x, count, d) for every run of tiles, whose sums d are [block][pixel]. */
template <int kBlocks, typename Sum, typename Finish>
BF_INLINE void bf_for_runs(const Tiling& row, const Sum& sum, const Finish& finish) {
  for (int32_t tile = 0, x = 0; tile < row.tiles;) {
    vi d[kBlocks][kMostFinished];
    int32_t run = 0;
    for (int32_t count; tile < row.tiles && run + (count = row.pixels + (tile < row.wider)) <= kMostFinished; ++tile, run += count)
      sum(x + run, count, TileSums{d[0] + run, kMostFinished});
    finish(x, run, d);
    x += run;
  }
}

#endif
