/* The body of conv_b1 and conv_planes that all ISAs share. Included by ISA files after simd_*.h; the including file then defines
 *
 *   template <Pairs kPairs, int P> static void count_tile(const Tile&, const void* weights, int32_t blocks, TileSums counts)
 *
 * which counts pairs of activation and weight for P neighbouring output pixels and `blocks` blocks, reading words of 0 for taps outside
 * the image. kPixels, kBlocks (per step) and kWeightBlocks (16-channel
 * blocks that the layout of the weights holds together) are the including file's constants.
 */
#ifndef BITFOLD_KERNELS_POPCOUNT_CONV_H_
#define BITFOLD_KERNELS_POPCOUNT_CONV_H_

#include "kernels/epilogue_simd.h"
#include "kernels/window.h"

#define BF_UNROLL _Pragma("GCC unroll 16")

alignas(64) static const uint8_t kZeroWords[4096] = {};  // stands for the codes of a tap outside the image: two planes of 16384 channels

/* Where the activations of a tile are: the group (and, in a pass over some planes, the first of them) is already added to `origin`. */
struct Tile {
  const uint8_t* origin;  // pixel (input row of tap row `begin`, column 0)
  int64_t plane_bytes;    // from one plane of a pixel to the next
  int64_t pixel_bytes, row_bytes, tap_bytes;  // row_bytes: from one tap row to the next
  int32_t begin, rows, kernel_h, kernel_w;    // valid tap rows
  int32_t column, stride, dilation, in_w;     // input column of pixel 0 at tap column 0; from pixel to pixel; from tap to tap
  int64_t weight_tap, weight_plane;           // bytes of one plane of one weight block: of one tap, of all
  int64_t weight_step;                        // bytes of all planes of one weight block
  bool inside;                                // every tap column of every pixel is inside the image
  bool contiguous;                            // and the tap columns of one pixel follow each other in memory
};

/* Calls run(pointers, bytes) for runs of bytes in the order of the weights. */
template <int P, typename Run>
BF_INLINE void for_each_run(const Tile& t, const Run& run) {
  const uint8_t* px[P];
  for (int32_t i = 0; i < t.rows; ++i) {
    const uint8_t* row = t.origin + i * t.row_bytes;
    for (int32_t j = 0; j < (t.contiguous ? 1 : t.kernel_w); ++j) {
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const int32_t ix = t.column + p * t.stride + j * t.dilation;
        px[p] = t.inside || (uint32_t)ix < (uint32_t)t.in_w ? row + ix * t.pixel_bytes : kZeroWords;
      }
      run(px, t.contiguous ? t.tap_bytes * t.kernel_w : t.tap_bytes);
    }
  }
}

/* What is counted: the ones of (a xor w), of (a and w), of the products of -1, or the products themselves. */
enum class Pairs { kXor, kAnd, kTernaryByBinary, kTernary };

template <Pairs kPairs, int P>
static void count_tile(const Tile& t, const void* weights, int32_t blocks, TileSums counts);

template <int P>
struct PixelCount {
  enum { kValue = P };
};

/* Calls count(PixelCount<pixels>()), pixels at most kMost. */
template <int kMost = kPixels, typename Count>
BF_INLINE void for_pixels(int32_t pixels, const Count& count) {
  if constexpr (kMost > 1) {
    if (pixels < kMost) return for_pixels<kMost - 1>(pixels, count);
  }
  count(PixelCount<kMost>());
}

template <Pairs kPairs>
static void count_pixels(int32_t pixels, const Tile& t, const void* weights, int32_t blocks, TileSums counts) {
  for_pixels(pixels, [&](auto p) { count_tile<kPairs, decltype(p)::kValue>(t, weights, blocks, counts); });
}

/* One block of one output row's tile: what a Product finishes. */
struct Spot {
  TapRange rows;    // valid tap rows
  TapRange inside;  // output columns whose tap columns are all inside the image
  int32_t y, x, count, b, group;
};

/* Sum of `table`, [block][tap][16], of block b over the tap rows `rows` and the tap columns that `columns` leaves out. */
static inline vi left_out(const int32_t* table, const bf_conv_args* args, int32_t b, TapRange rows, TapRange columns) {
  const int32_t kw = args->shape.kernel_w, begin = columns.begin < kw ? columns.begin : kw, end = columns.end > begin ? columns.end : begin;
  vi sum = vi_set1(0);
  for (int32_t i = rows.begin; i < rows.end; ++i) {
    const int32_t* taps = table + ((int64_t)b * args->shape.kernel_h + i) * kw * 16;
    for (int32_t j = 0; j < begin; ++j) sum = vi_add(sum, vi_load(taps + 16 * j));
    for (int32_t j = end; j < kw; ++j) sum = vi_add(sum, vi_load(taps + 16 * j));
  }
  return sum;
}

/* Takes away what the words of 0, which stand for +1, have given for tap columns outside the image. */
static inline void take_away_columns(const bf_conv_args* args, const Spot& at, vi* d) {
  for (int32_t x = at.x; x < at.x + at.count; ++x) {
    if (x >= at.inside.begin && x < at.inside.end) x = at.inside.end;
    if (x >= at.x + at.count) return;
    d[x - at.x] = vi_sub(d[x - at.x], left_out(args->tap_sums, args, at.b, at.rows, bf_valid_columns(&args->shape, x)));
  }
}

/* A product of two encodings: how a tile is summed, from the weights of its first block on, and finished. Most read a tile's activations
 * where they lie. */
struct Direct {
  static constexpr int kMostBlocks = kBlocks;                                                  // of a tile
  static int64_t weight_bytes(int32_t channels) { return ((int64_t)channels + 31) / 32 * 4; }  // of a tap, plane and output channel
  static int32_t most_blocks(const bf_conv_args*) { return kBlocks; }                          // of a tile of this call
  static int32_t most_pixels(const bf_conv_args*, int32_t) { return kPixels; }                 // of a tile of so many blocks
  void begin_row(const bf_conv_args*, const Tile&) {}                                          // before the tiles of an output row
};

/* Binary x binary, one pass of popcount(a xor w); D as in conv_b1.h. */
struct Xor : Direct {
  static void sum(const bf_conv_args*, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, TileSums d) {
    count_pixels<Pairs::kXor>(pixels, t, weights + (int64_t)t.begin * t.kernel_w * t.weight_tap, blocks, d);
  }
  static void finish(const bf_conv_args* args, const Spot& at, vi* d) {
    const bf_conv_shape* s = &args->shape;
    const int32_t all = at.rows.begin < at.rows.end ? (at.rows.end - at.rows.begin) * s->kernel_w * (s->in_c / s->groups) : 0;
    for (int32_t p = 0; p < at.count; ++p) d[p] = vi_sub(vi_set1(all), vi_add(d[p], d[p]));
    take_away_columns(args, at, d);
  }
};

/* Weighted sums over the pairs of planes -> D (conv_planes.h). */
static inline void finish_planes(const bf_conv_args* args, const Spot& at, vi* d) {
  const bf_conv_shape* s = &args->shape;
  const int32_t a0 = args->in_planes.base, w0 = args->weight_planes.base;
  const TapRange none = {0, 0};
  const vi whole = a0 ? vi_mul(vi_set1(a0), left_out(args->tap_sums, args, at.b, at.rows, none)) : vi_set1(0);
  for (int32_t p = 0; p < at.count; ++p) {
    const TapRange columns = bf_valid_columns(s, at.x + p);
    if (a0) {
      d[p] = vi_add(d[p], whole);
      if (columns.begin > 0 || columns.end < s->kernel_w)
        d[p] = vi_sub(d[p], vi_mul(vi_set1(a0), left_out(args->tap_sums, args, at.b, at.rows, columns)));
    }
    if (w0) {
      const bool any = at.rows.begin < at.rows.end && columns.begin < columns.end;
      const int32_t taps = any ? (at.rows.end - at.rows.begin) * (columns.end - columns.begin) : 0;
      const int32_t patch = args->epilogue.patch_sums[((int64_t)at.y * s->out_w + at.x + p) * s->groups + at.group];
      d[p] = vi_add(d[p], vi_set1(w0 * (patch - a0 * taps * (s->in_c / s->groups))));
    }
  }
}

template <typename Product>
static void popcount_conv(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_conv_shape* s = &args->shape;
  const int32_t group_blocks = s->groups == 1 ? (s->out_c + 15) / 16 : s->out_c / s->groups / 16;
  const TapRange inside = bf_inside_columns(s);
  Product product;
  Tile t;
  t.plane_bytes = ((int64_t)s->in_c + 31) / 32 * 4;
  t.tap_bytes = ((int64_t)s->in_c / s->groups + 31) / 32 * 4;
  t.pixel_bytes = s->in_stride * 4;
  t.row_bytes = (int64_t)s->dilation_h * s->in_w * t.pixel_bytes;
  t.kernel_h = s->kernel_h;
  t.kernel_w = s->kernel_w;
  t.stride = s->stride_w;
  t.dilation = s->dilation_w;
  t.in_w = s->in_w;
  t.weight_tap = Product::weight_bytes(s->in_c / s->groups) * 16 * kWeightBlocks;
  t.weight_plane = s->kernel_h * s->kernel_w * t.weight_tap;
  t.weight_step = args->weight_planes.planes * t.weight_plane;
  const bool contiguous = s->dilation_w == 1 && t.pixel_bytes == t.tap_bytes;

  const int32_t most_blocks = Product::most_blocks(args);
  for (int32_t b = b0, blocks; b < b1; b += blocks) {
    const int32_t group = b / group_blocks, group_end = (group + 1) * group_blocks;
    blocks = b1 < group_end ? b1 - b : group_end - b;
    if (blocks > most_blocks) blocks = most_blocks;
    const uint8_t* weights = (const uint8_t*)args->weights + b / kWeightBlocks * t.weight_step;
    const Tiling row(s->out_w, Product::most_pixels(args, blocks));
    for (int32_t y = y0; y < y1; ++y) {
      const TapRange rows = bf_valid_rows(s, y);
      const int64_t iy = (int64_t)y * s->stride_h - s->pad_h + rows.begin * s->dilation_h;
      t.origin = (const uint8_t*)args->input + iy * s->in_w * t.pixel_bytes + group * t.tap_bytes;
      t.begin = rows.begin;
      t.rows = rows.begin < rows.end ? rows.end - rows.begin : 0;
      t.column = -s->pad_w;
      product.begin_row(args, t);
      const auto sum = [&](int32_t x, int32_t count, TileSums sums) {
        t.column = x * s->stride_w - s->pad_w;
        t.inside = x >= inside.begin && x + count <= inside.end;
        t.contiguous = t.inside && contiguous;
        product.sum(args, t, weights, count, blocks, sums);
      };
      bf_for_runs<Product::kMostBlocks>(row, sum, [&](int32_t x, int32_t count, auto& d) {
        for (int32_t k = 0; k < blocks; ++k) {
          Product::finish(args, Spot{rows, inside, y, x, count, b + k, group}, d[k]);
          bf_finish_ints(args, y, x, count, b + k, group, d[k]);
        }
      });
    }
  }
}

#endif
