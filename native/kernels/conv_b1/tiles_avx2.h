/* conv_b1's tiles on AVX2.
 *
 * The activations of an output row are staged first: every byte (8 input channels) becomes the place of its row in a table, and the columns
 * outside the image become bytes of 0. Columns are stored one after the other, with all tap rows of a column together, so what a pixel reads is
 * one run, whatever the padding is, and weights (layout BYTES) lie in the same order.
 *
 * A row of the table has popcount(a xor i), i = 0 .. 15, for the low nibble of the activation byte a and then for the high one.
 *   wide:   64 output channels, one of the two halves at a time, in both halves of a register: for each nibble two shuffles and two byte
 *           additions make 256 products.
 *   narrow: 16 or 32 output channels. One load of the whole row; a register's lower half counts the low nibbles of 16 channels, its upper half
 *           the high nibbles of the same 16, so that no lane idles.
 */
#ifndef BITFOLD_KERNELS_CONV_B1_TILES_AVX2_H_
#define BITFOLD_KERNELS_CONV_B1_TILES_AVX2_H_

#include "kernels/conv_b1/row_avx2.h"
#include "kernels/conv_b1/stage_avx2.h"

namespace {

struct XorTable {
  uint8_t row[256][1 << kRowShift];
};

constexpr int ones(int nibble) { return (nibble & 1) + (nibble >> 1 & 1) + (nibble >> 2 & 1) + (nibble >> 3 & 1); }

constexpr XorTable make_table() {
  XorTable t = {};
  for (int a = 0; a < 256; ++a)
    for (int i = 0; i < 16; ++i) {
      t.row[a][i] = static_cast<uint8_t>(ones((a & 15) ^ i));
      t.row[a][16 + i] = static_cast<uint8_t>(ones((a >> 4) ^ i));
    }
  return t;
}

alignas(64) constexpr XorTable kXorTable = make_table();

/* What P pixels have staged: `runs` runs of `steps` bytes. */
struct Patches {
  const uint16_t* first;  // of pixel 0: where the rows of its bytes begin in the table
  int64_t pixel, run;     // from pixel to pixel, from run to run, in bytes of memory
  int64_t weight_run;     // from run to run
  int32_t runs, steps;
  int32_t all;  // pairs that are counted
};

/* Where P pixels read their next byte. Two address registers serve six pixels. */
template <int P>
struct Places {
  const char* base[(P + 2) / 3];
  int64_t pixel;
};

template <int P>
BF_INLINE Places<P> places_of(const Patches& a, int32_t run) {
  Places<P> places;
  places.pixel = a.pixel;
  for (int i = 0; i < (P + 2) / 3; ++i) places.base[i] = (const char*)a.first + run * a.run + 3 * i * a.pixel;
  return places;
}

template <int P>
BF_INLINE const uint8_t* row_of(const Places<P>& a, int p) {
  return kXorTable.row[0] + *(const uint16_t*)(a.base[p / 3] + p % 3 * a.pixel);
}

template <int P>
BF_INLINE void advance(Places<P>& a) {
  BF_UNROLL
  for (int i = 0; i < (P + 2) / 3; ++i) a.base[i] += 2;
}

template <int P, int V>
BF_INLINE void zero(__m256i (&acc)[P][V]) {
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int v = 0; v < V; ++v) acc[p][v] = _mm256_setzero_si256();
}

constexpr int32_t kWideSteps = 31;    // of up to 8 each that a byte holds
constexpr int32_t kNarrowSteps = 63;  // of up to 4 each

/* The next `steps` bytes of P pixels against V x 32 output channels. */
template <int P, int V>
BF_INLINE void count_wide(Places<P>& a, int32_t steps, const uint8_t* w, int64_t pair_bytes, __m256i (&acc)[P][V]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  for (const uint8_t* end = w + 32 * steps; w != end; w += 32, advance(a)) {
    BF_UNROLL
    for (int half = 0; half < 2; ++half) {
      __m256i index[V];
      BF_UNROLL
      for (int v = 0; v < V; ++v) {
        const __m256i weights = _mm256_load_si256((const __m256i*)(w + v * pair_bytes));
        index[v] = _mm256_and_si256(half ? _mm256_srli_epi16(weights, 4) : weights, nibble);
      }
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m256i table = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)(row_of(a, p) + 16 * half)));
        BF_UNROLL
        for (int v = 0; v < V; ++v) add_in_place(acc[p][v], _mm256_shuffle_epi8(table, index[v]));
      }
      keep_apart();
    }
  }
}

/* The same with V x 16 output channels, both nibbles at once. */
template <int P, int V>
BF_INLINE void count_narrow(Places<P>& a, int32_t steps, const uint8_t* w, __m256i (&acc)[P][V]) {
  const __m256i nibble = _mm256_set1_epi8(15), shifts = _mm256_setr_epi64x(0, 0, 4, 4);
  for (const uint8_t* end = w + 32 * steps; w != end; w += 32, advance(a)) {
    __m256i index[V];
    BF_UNROLL
    for (int v = 0; v < V; ++v) {
      const __m256i weights = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)(w + 16 * v)));
      index[v] = _mm256_and_si256(_mm256_srlv_epi64(weights, shifts), nibble);
    }
    BF_UNROLL
    for (int p = 0; p < P; ++p) {
      const __m256i table = _mm256_load_si256((const __m256i*)row_of(a, p));
      BF_UNROLL
      for (int v = 0; v < V; ++v) add_in_place(acc[p][v], _mm256_shuffle_epi8(table, index[v]));
    }
    keep_apart();
  }
}

/* A function of its own: inlined, its registers spill. */
template <int P, int V>
__attribute__((noinline)) void wide_tile(const Patches& a, const uint8_t* weights, int64_t pair_bytes, vi (*d)[kPixels]) {
  __m256i sums[P][V][2];
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) sums[p][v][0] = sums[p][v][1] = _mm256_setzero_si256();
  for (int32_t run = 0; run < a.runs; ++run) {
    const uint8_t* w = weights + run * a.weight_run;
    Places<P> places = places_of<P>(a, run);
    for (int32_t left = a.steps, steps; left > 0; left -= steps, w += 32 * steps) {
      steps = left < kWideSteps ? left : kWideSteps;
      __m256i acc[P][V];
      zero(acc);
      count_wide<P, V>(places, steps, w, pair_bytes, acc);
      add_bytes<P, V>(acc, sums);
    }
  }
  const vi all = vi_set1(a.all);
  for (int v = 0; v < V; ++v)
    for (int p = 0; p < P; ++p) {
      vi first, second;
      widen(sums[p][v], first, second);
      d[2 * v][p] = vi_sub(all, vi_add(first, first));
      d[2 * v + 1][p] = vi_sub(all, vi_add(second, second));
    }
}

/* The 16-bit sums of 16 channels from the byte counters of their low and high nibbles. */
BF_INLINE __m256i add_halves(__m256i acc) {
  return _mm256_add_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(acc)), _mm256_cvtepu8_epi16(_mm256_extracti128_si256(acc, 1)));
}

template <int P, int V>
__attribute__((noinline)) void narrow_tile(const Patches& a, const uint8_t* weights, vi (*d)[kPixels]) {
  __m256i sums[P][V];
  bool first = true;
  for (int32_t run = 0; run < a.runs; ++run) {
    const uint8_t* w = weights + run * a.weight_run;
    Places<P> places = places_of<P>(a, run);
    for (int32_t left = a.steps, steps; left > 0; left -= steps, w += 32 * steps, first = false) {
      steps = left < kNarrowSteps ? left : kNarrowSteps;
      __m256i acc[P][V];
      zero(acc);
      count_narrow<P, V>(places, steps, w, acc);
      if (first) {
        BF_UNROLL
        for (int i = 0; i < P * V; ++i) sums[i / V][i % V] = add_halves(acc[i / V][i % V]);
      } else {
        BF_UNROLL
        for (int i = 0; i < P * V; ++i) sums[i / V][i % V] = _mm256_add_epi16(sums[i / V][i % V], add_halves(acc[i / V][i % V]));
      }
    }
  }
  if (first) zero(sums);  // no tap is inside the image
  const __m256i all = _mm256_set1_epi32(a.all);
  for (int v = 0; v < V; ++v)
    for (int p = 0; p < P; ++p) {
      const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sums[p][v])), high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sums[p][v], 1));
      d[v][p] = vi{_mm256_sub_epi32(all, _mm256_add_epi32(low, low)), _mm256_sub_epi32(all, _mm256_add_epi32(high, high))};
    }
}

/* Binary x binary; D as in conv_b1.h. */
class StagedXor : public Direct {
 public:
  static int64_t weight_bytes(int32_t channels) { return ((int64_t)channels + 7) / 8; }

  /* A Linear of one row; it uses each weight once, and weights come faster if they are read from four places at a time. */
  static bool single_row(const bf_conv_args* args) {
    const bf_conv_shape* s = &args->shape;
    return s->in_h == 1 && s->in_w == 1 && s->kernel_h == 1 && s->kernel_w == 1 && s->pad_h == 0 && s->pad_w == 0;
  }
  static int32_t most_blocks(const bf_conv_args* args) { return single_row(args) ? 8 : 4; }

  static int32_t most_pixels(const bf_conv_args* args, int32_t blocks) {
    const bf_conv_shape* s = &args->shape;
    const int64_t patch = weight_bytes(s->in_c / s->groups) * s->kernel_h * s->kernel_w;
    const int32_t most = blocks == 1 ? 12 : 6, room = (int32_t)(BF_B1_WINDOW / patch);
    return room < most ? room : most;
  }

  void begin_row(const Tile& t, int32_t pixels) { stage_.begin_row(t, t.weight_tap / 32, pixels); }

  void sum(const bf_conv_args* args, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, vi (*d)[kPixels]) {
    if (single_row(args)) {
      const int32_t channels = args->shape.in_c / args->shape.groups;
      return for_pixels<4>((blocks + 1) / 2, [&](auto pairs) { row_tile<decltype(pairs)::kValue>(t.origin, channels, weights, t.weight_step, d); });
    }
    const int64_t width = t.weight_tap / 32;
    const bool one_run = t.rows == t.kernel_h;
    Patches a;
    a.first = stage_.tile(t, pixels);
    a.pixel = 2 * stage_.pixel(t);
    a.run = 2 * t.rows * width;
    a.weight_run = t.kernel_h * t.weight_tap;
    a.runs = one_run ? 1 : t.kernel_w;
    a.steps = (int32_t)(t.rows * width * (one_run ? t.kernel_w : 1));
    a.all = t.rows * t.kernel_w * (args->shape.in_c / args->shape.groups);
    const uint8_t* w = weights + t.begin * t.weight_tap;
    if (blocks == 1) for_pixels<12>(pixels, [&](auto p) { narrow_tile<decltype(p)::kValue, 1>(a, w, d); });
    else if (blocks == 2) for_pixels<6>(pixels, [&](auto p) { narrow_tile<decltype(p)::kValue, 2>(a, w, d); });
    else for_pixels<6>(pixels, [&](auto p) { wide_tile<decltype(p)::kValue, 2>(a, w, t.weight_step, d); });
  }

  static void finish(const bf_conv_args* args, const Spot& at, vi* d) { take_away_columns(args, at, d); }

 private:
  Stage stage_;
};

}  // namespace

#endif
