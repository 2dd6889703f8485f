/* How conv_planes counts with the layout WORDS: any planes pair by pair, and ternary codes in one pass. Included by ISA files after
 * popcount_*.h, whose count_tile has all of Pairs. */
#ifndef BITFOLD_KERNELS_CONV_PLANES_PRODUCTS_H_
#define BITFOLD_KERNELS_CONV_PLANES_PRODUCTS_H_

#include "kernels/popcount_conv.h"

/* One pass of popcount(a and w) for each pair of planes. */
struct Planes : Direct {
  static void sum(const bf_conv_args* args, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, TileSums d) {
    vi counted[kBlocks][kPixels];
    const TileSums counts{counted[0], kPixels};
    for (int32_t k = 0; k < blocks; ++k)
      for (int32_t p = 0; p < pixels; ++p) d[k][p] = vi_set1(0);
    Tile plane = t;
    const uint8_t* first = weights + (int64_t)t.begin * t.kernel_w * t.weight_tap;
    for (int32_t i = 0; i < args->in_planes.planes; ++i, plane.origin += t.plane_bytes)
      for (int32_t j = 0; j < args->weight_planes.planes; ++j) {
        count_pixels<Pairs::kAnd>(pixels, plane, first + j * t.weight_plane, blocks, counts);
        const vi factor = vi_set1(args->in_planes.coefficient[i] * args->weight_planes.coefficient[j]);
        for (int32_t k = 0; k < blocks; ++k)
          for (int32_t p = 0; p < pixels; ++p) d[k][p] = vi_add(d[k][p], vi_mul(factor, counts[k][p]));
      }
  }
  static void finish(const bf_conv_args* args, const Spot& at, vi* d) { finish_planes(args, at, d); }
};

/* Ternary weights (negative n, non-zero z) x binary activations: C = popcount(z and (a xor n)) counts the products of -1, so
 * D = Z - 2 C with Z = popcount(z), summed over the taps. Words of 0 stand for +1, as in conv_b1. */
struct TernaryByBinary : Direct {
  static void sum(const bf_conv_args*, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, TileSums d) {
    count_pixels<Pairs::kTernaryByBinary>(pixels, t, weights + (int64_t)t.begin * t.kernel_w * t.weight_tap, blocks, d);
  }
  static void finish(const bf_conv_args* args, const Spot& at, vi* d) {
    const vi non_zero = left_out(args->tap_nonzero, args, at.b, at.rows, TapRange{0, 0});
    for (int32_t p = 0; p < at.count; ++p) d[p] = vi_sub(non_zero, vi_add(d[p], d[p]));
    take_away_columns(args, at, d);
  }
};

/* Ternary x ternary: with m = z_a and z_w, popcount(m) - 2 popcount(m and (n_a xor n_w)) is D itself: words of 0 stand for 0. */
struct Ternary : Direct {
  static void sum(const bf_conv_args*, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, TileSums d) {
    count_pixels<Pairs::kTernary>(pixels, t, weights + (int64_t)t.begin * t.kernel_w * t.weight_tap, blocks, d);
  }
  static void finish(const bf_conv_args*, const Spot&, vi*) {}
};

static inline bool is_ternary(const bf_code_planes* codes) { return codes->planes == 2 && codes->coefficient[0] == -2; }

static void planes_conv(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  const bf_code_planes* a = &args->in_planes;
  const bool weights = is_ternary(&args->weight_planes), binary = a->planes == 1 && a->coefficient[0] == -2;
  if (weights && binary) popcount_conv<TernaryByBinary>(args, y0, y1, b0, b1);
  else if (weights && is_ternary(a)) popcount_conv<Ternary>(args, y0, y1, b0, b1);
  else popcount_conv<Planes>(args, y0, y1, b0, b1);
}

#endif
