/* The body of the dense_packed kernels that all ISAs share, included by ISA files after simd_*.h and epilogue_simd.h. The including file
 * defines kRows (rows of a tile), kPairedRows (up to so many rows a tile takes two blocks), and
 *
 *   template <int kBits, int P, int B> static void dot_tile(const FieldTile&, vi (*d)[kRows])
 *
 * which adds up u * field for P rows and B blocks of 16 channels.
 *
 * Sums of two products are at most 2 * (largest byte) * (largest field), so a number of them fits an int16 (FieldTile.short_words). */
#ifndef BITFOLD_KERNELS_DENSE_PACKED_TILES_H_
#define BITFOLD_KERNELS_DENSE_PACKED_TILES_H_

#include "kernels/epilogue_simd.h"

#define BF_UNROLL _Pragma("GCC unroll 16")

template <int kBits>
struct Fields {
  static constexpr int kPlaces = 8 / kBits;  // fields of a byte; one place of a word is four channels
  static constexpr int kMask = (1 << kBits) - 1;
};

struct FieldTile {
  const uint8_t* rows;      // channel 0 of the first row
  int64_t row_bytes;        // from row to row
  const uint32_t* weights;  // of the first block: 16 lanes a word
  int64_t block_words;      // uint32 from block to block
  int32_t words;            // whole words of channels
  int32_t places;           // of the word after them that hold channels
  int32_t short_words;      // so many words may be summed in int16, two sums a channel
};

template <int kBits, int P, int B>
static void dot_tile(const FieldTile& t, vi (*d)[kRows]);

/* Calls add(Place<i>) for the first `count` places; the place is a constant because shifts want immediates. */
template <int i>
struct Place {
  static constexpr int value = i;
};

template <int kPlaces, int i = 0, typename Add>
BF_INLINE void for_each_place(int32_t count, const Add& add) {
  if constexpr (i < kPlaces) {
    if (i >= count) return;
    add(Place<i>{});
    for_each_place<kPlaces, i + 1>(count, add);
  }
}

template <int kBits, int B>
static void dot_rows(int32_t rows, const FieldTile& t, vi (*d)[kRows]) {
  constexpr int kMost = B == 2 ? kPairedRows : kRows;
  switch (rows) {
    case 1: return dot_tile<kBits, 1, B>(t, d);
    case 2: return dot_tile<kBits, kMost < 2 ? 1 : 2, B>(t, d);
    case 3: return dot_tile<kBits, kMost < 3 ? 1 : 3, B>(t, d);
    case 4: return dot_tile<kBits, kMost < 4 ? 1 : 4, B>(t, d);
    case 5: return dot_tile<kBits, kMost < 5 ? 1 : 5, B>(t, d);
    case 6: return dot_tile<kBits, kMost < 6 ? 1 : 6, B>(t, d);
    case 7: return dot_tile<kBits, kMost < 7 ? 1 : 7, B>(t, d);
    default: return dot_tile<kBits, kMost, B>(t, d);
  }
}

/* Sums of u * field -> D. */
static inline void finish_fields(const bf_conv_args* args, int64_t row, int32_t count, int32_t b, vi* d) {
  const bf_packed_codes& w = args->weight_fields;
  const int32_t a0 = args->in_bytes.base;
  const vi start = vi_mul(vi_set1(a0), vi_sub(vi_load(args->tap_sums + 16 * (int64_t)b), vi_set1(w.base * args->shape.in_c)));
  for (int32_t p = 0; p < count; ++p) {
    if (w.factor != 1) d[p] = vi_mul(d[p], vi_set1(w.factor));
    d[p] = vi_add(d[p], start);
    if (w.base != 0) d[p] = vi_add(d[p], vi_set1((int32_t)((uint32_t)w.base * (uint32_t)args->epilogue.patch_sums[row + p])));
  }
}

/* Rows [x, x + count) of output row y against one block, or two. */
template <int kBits>
static void one_tile(const bf_conv_args* args, FieldTile t, int32_t y, int32_t x, int32_t count, int32_t b, bool paired) {
  const int64_t first = (int64_t)y * args->shape.out_w + x;
  vi d[2][kRows];
  t.rows += first * t.row_bytes;
  t.weights += b * t.block_words;
  if constexpr (kPairedRows > 0) {
    if (paired) dot_rows<kBits, 2>(count, t, d);
  }
  if (!paired) dot_rows<kBits, 1>(count, t, d);
  for (int32_t k = 0; k < 1 + paired; ++k) {
    finish_fields(args, first, count, b + k, d[k]);
    bf_finish_ints(args, y, x, count, b + k, 0, d[k]);
  }
}

/* The codes of a few tiles of rows stay in the first-level cache while the weights stream past them. */
template <int kBits>
static void dense_blocks(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  constexpr int kPerWord = 32 / kBits, kCachedBytes = 16384;
  const bf_conv_shape* s = &args->shape;
  FieldTile t;
  t.rows = (const uint8_t*)args->input;
  t.row_bytes = s->in_stride;
  t.weights = (const uint32_t*)args->weights;
  t.words = s->in_c / kPerWord;
  t.places = (s->in_c % kPerWord + 3) / 4;
  t.short_words = 32767 / (2 * args->in_bytes.max * args->weight_fields.max) / Fields<kBits>::kPlaces;
  t.block_words = (int64_t)(t.words + (t.places > 0)) * 16;
  const int32_t tiles = (s->out_w + kRows - 1) / kRows, step = s->out_w <= kPairedRows ? 2 : 1;
  const int32_t cached = t.row_bytes * kRows > kCachedBytes ? 1 : (int32_t)(kCachedBytes / (t.row_bytes * kRows));
  for (int32_t y = y0; y < y1; ++y)
    for (int32_t tile0 = 0; tile0 < tiles; tile0 += cached)
      for (int32_t b = b0; b < b1; b += step)
        for (int32_t tile = tile0; tile < tiles && tile < tile0 + cached; ++tile) {
          const int32_t x = (int32_t)((int64_t)tile * s->out_w / tiles), end = (int32_t)((int64_t)(tile + 1) * s->out_w / tiles);
          one_tile<kBits>(args, t, y, x, end - x, b, step == 2 && b + 1 < b1);
        }
}

static void dense_packed(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  switch (args->weight_fields.bits) {
    case 1: return dense_blocks<1>(args, y0, y1, b0, b1);
    case 2: return dense_blocks<2>(args, y0, y1, b0, b1);
    default: return dense_blocks<4>(args, y0, y1, b0, b1);
  }
}

#endif
