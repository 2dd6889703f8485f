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

namespace {

constexpr int kRowBytes = 32;  // of the table

struct XorTable {
  uint8_t row[256][kRowBytes];
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

/* Places of the bytes of one pixel, whole words; what is written behind the last byte is written again, or is the room behind everything.
 * kWords: 1 or 2, or 0 for any number. */
template <int kWords>
BF_INLINE void stage_pixel(const uint8_t* from, int64_t bytes, uint16_t* to) {
  const auto places = [](__m128i b) { return _mm_slli_epi16(_mm_cvtepu8_epi16(b), 5); };
  if (kWords == 1) return _mm_storel_epi64((__m128i*)to, places(_mm_loadu_si32(from)));
  if (kWords == 2) return _mm_storeu_si128((__m128i*)to, places(_mm_loadl_epi64((const __m128i*)from)));
  int64_t k = 0;
  for (; k + 16 <= bytes; k += 16)
    _mm256_storeu_si256((__m256i*)(to + k), _mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)(from + k))), 5));
  for (; k < bytes; k += 4) _mm_storel_epi64((__m128i*)(to + k), places(_mm_loadu_si32(from + k)));
}

/* Where staged columns go: `width` places a tap row. */
struct Target {
  uint16_t* to;
  int32_t rows;
  int64_t width;
};

/* Columns ix, ix + 1, ... inside the image. */
template <int kWords>
BF_INLINE void stage_inside(const Tile& t, int32_t ix, int32_t columns, Target& target) {
  const uint8_t* from = t.origin + ix * t.pixel_bytes;
  const int64_t pixel_bytes = t.pixel_bytes, row_bytes = t.row_bytes, tap_bytes = t.tap_bytes, width = target.width;
  const int32_t rows = target.rows;
  uint16_t* to = target.to;
  for (int32_t c = 0; c < columns; ++c, from += pixel_bytes) {
    const uint8_t* pixel = from;
    for (int32_t i = 0; i < rows; ++i, to += width, pixel += row_bytes) stage_pixel<kWords>(pixel, tap_bytes, to);
  }
  target.to = to;
}

BF_INLINE void stage_outside(int32_t columns, Target& target) {
  const int64_t places = columns * target.rows * target.width;
  for (int64_t k = 0; k < places; k += 16) _mm256_storeu_si256((__m256i*)(target.to + k), _mm256_setzero_si256());
  target.to += places;
}

/* Columns ix, ix + 1, ... wherever they are. */
BF_INLINE void stage_columns(const Tile& t, int32_t ix, int32_t columns, Target& target) {
  const int32_t before = ix >= 0 ? 0 : -ix < columns ? -ix : columns;
  stage_outside(before, target);
  const int32_t room = t.in_w - ix - before, rest = columns - before, inside = rest < room ? rest : room > 0 ? room : 0;
  if (t.tap_bytes == 4) stage_inside<1>(t, ix + before, inside, target);
  else if (t.tap_bytes == 8) stage_inside<2>(t, ix + before, inside, target);
  else stage_inside<0>(t, ix + before, inside, target);
  stage_outside(rest - inside, target);
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

  void begin_row(const Tile& t, int32_t pixels) {
    width_ = t.weight_tap / 32;
    spread_ = t.dilation > 1 || t.stride > t.kernel_w;
    first_ = t.column;
    const int64_t columns = (int64_t)(pixels - 1) * t.stride + t.kernel_w;
    whole_row_ = !spread_ && columns > 1 && columns * t.rows * width_ <= kNear;
    if (whole_row_) stage(t, pixels);
  }

  void sum(const bf_conv_args* args, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, vi (*d)[kPixels]) {
    if (single_row(args)) {
      const int32_t channels = args->shape.in_c / args->shape.groups;
      return for_pixels<4>((blocks + 1) / 2, [&](auto pairs) { row_tile<decltype(pairs)::kValue>(t.origin, channels, weights, t.weight_step, d); });
    }
    if (!whole_row_) {
      first_ = t.column;
      stage(t, pixels);
    }
    const int64_t column = 2 * t.rows * width_;  // bytes of memory
    Patches a;
    a.first = places_ + (t.column - first_) * t.rows * width_;
    a.pixel = column * (spread_ ? t.kernel_w : t.stride);
    const bool one_run = t.rows == t.kernel_h;
    a.all = t.rows * t.kernel_w * (args->shape.in_c / args->shape.groups);
    a.runs = one_run ? 1 : t.kernel_w;
    a.steps = (int32_t)(t.rows * width_ * (one_run ? t.kernel_w : 1));
    a.run = column;
    a.weight_run = 32 * width_ * t.kernel_h;
    const uint8_t* w = weights + 32 * width_ * t.begin;
    if (blocks == 1) for_pixels<12>(pixels, [&](auto p) { narrow_tile<decltype(p)::kValue, 1>(a, w, d); });
    else if (blocks == 2) for_pixels<6>(pixels, [&](auto p) { narrow_tile<decltype(p)::kValue, 2>(a, w, d); });
    else for_pixels<6>(pixels, [&](auto p) { wide_tile<decltype(p)::kValue, 2>(a, w, t.weight_step, d); });
  }

  static void finish(const bf_conv_args* args, const Spot& at, vi* d) { take_away_columns(args, at, d); }

 private:
  static constexpr int64_t kNear = 4096;  // places: a row that takes more is staged tile by tile

  /* Columns first_, first_ + 1, ...; if spread_, kernel_w of them for each pixel. */
  void stage(const Tile& t, int32_t pixels) {
    Target target{places_, t.rows, width_};
    if (!spread_) return stage_columns(t, first_, (pixels - 1) * t.stride + t.kernel_w, target);
    for (int32_t p = 0; p < pixels; ++p)
      for (int32_t j = 0; j < t.kernel_w; ++j) stage_columns(t, first_ + p * t.stride + j * t.dilation, 1, target);
  }

  int64_t width_;               // bytes of a tap
  int32_t first_;               // input column of the first one staged
  bool spread_, whole_row_;
  alignas(64) uint16_t places_[BF_B1_WINDOW + 32];
};

}  // namespace

#endif
