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
#include "kernels/stage_avx2.h"

namespace {

constexpr int kRowShift = 5;  // a row of the table has 32 bytes

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

/* Every byte becomes the place of its row. kWidth: 2, 4 or 8 bytes a tap, or 0 for another number of fours, -1 for any number. */
template <int kWidth>
struct StageBytes {
  static constexpr bool kExact = kWidth >= 0;
  int64_t width;

  void operator()(const uint8_t* from, uint16_t* to) const {
    const auto places = [](__m128i b) { return _mm_slli_epi16(_mm_cvtepu8_epi16(b), kRowShift); };
    if (kWidth == 2) return _mm_storeu_si32(to, places(_mm_loadu_si32(from)));
    if (kWidth == 4) return _mm_storel_epi64((__m128i*)to, places(_mm_loadu_si32(from)));
    if (kWidth == 8) return _mm_storeu_si128((__m128i*)to, places(_mm_loadl_epi64((const __m128i*)from)));
    int64_t k = 0;
    for (; k + 16 <= width; k += 16) {
      const __m256i words = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)(from + k)));
      _mm256_storeu_si256((__m256i*)(to + k), _mm256_slli_epi16(words, kRowShift));
    }
    for (; k < width; k += 4) _mm_storel_epi64((__m128i*)(to + k), places(_mm_loadu_si32(from + k)));
  }
};

template <typename Use>
BF_INLINE void with_stage_bytes(int64_t width, const Use& use) {
  if (width == 2) use(StageBytes<2>{width});
  else if (width == 4) use(StageBytes<4>{width});
  else if (width == 8) use(StageBytes<8>{width});
  else if (width % 4 == 0) use(StageBytes<0>{width});
  else use(StageBytes<-1>{width});
}

/* The patches of a tile and the weights they meet. */
struct Operands {
  Patches patches;
  const uint8_t* weights;
  int64_t weight_run, pair_bytes;  // from run to run, from 32 output channels to the next
  int32_t all;                     // pairs that are counted
};

template <int P>
BF_INLINE const uint8_t* row_of(const Places<P>& a, int p) {
  return kXorTable.row[0] + place_of(a, p);
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
  const auto table = [&](int p, int half) __attribute__((always_inline)) { return row_of(a, p) + 16 * half; };
  for (const uint8_t* end = w + 32 * steps; w != end; w += 32, advance(a)) add_lookups<P, V>(w, pair_bytes, table, acc);
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
__attribute__((noinline)) void wide_tile(const Operands& o, TileSums d) {
  __m256i sums[P][V][2];
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) sums[p][v][0] = sums[p][v][1] = _mm256_setzero_si256();
  for (int32_t run = 0; run < o.patches.runs; ++run) {
    const uint8_t* w = o.weights + run * o.weight_run;
    Places<P> places = places_of<P>(o.patches, run);
    for (int32_t left = o.patches.steps, steps; left > 0; left -= steps, w += 32 * steps) {
      steps = left < kWideSteps ? left : kWideSteps;
      __m256i acc[P][V];
      zero(acc);
      count_wide<P, V>(places, steps, w, o.pair_bytes, acc);
      add_bytes<P, V>(acc, sums);
    }
  }
  const vi all = vi_set1(o.all);
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
__attribute__((noinline)) void narrow_tile(const Operands& o, TileSums d) {
  __m256i sums[P][V];
  bool first = true;
  for (int32_t run = 0; run < o.patches.runs; ++run) {
    const uint8_t* w = o.weights + run * o.weight_run;
    Places<P> places = places_of<P>(o.patches, run);
    for (int32_t left = o.patches.steps, steps; left > 0; left -= steps, w += 32 * steps, first = false) {
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
  const __m256i all = _mm256_set1_epi32(o.all);
  for (int v = 0; v < V; ++v)
    for (int p = 0; p < P; ++p) {
      const __m256i low = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(sums[p][v]));
      const __m256i high = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sums[p][v], 1));
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

  void begin_row(const bf_conv_args* args, const Tile& t) { stage_row(t, args->shape.out_w); }

  void sum(const bf_conv_args* args, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, TileSums d) {
    const int32_t channels = args->shape.in_c / args->shape.groups;
    if (single_row(args)) {
      const auto count = [&](auto pairs) { row_tile<decltype(pairs)::kValue>(t.origin, channels, weights, t.weight_step, d); };
      return for_pixels<4>((blocks + 1) / 2, count);
    }
    if (!stage_.holds_row()) stage_tile(t, pixels);
    const int32_t all = t.rows * t.kernel_w * channels;
    const Operands o{stage_.patches(t), weights + t.begin * t.weight_tap, t.kernel_h * t.weight_tap, t.weight_step, all};
    if (blocks == 1) for_pixels<12>(pixels, [&](auto p) { narrow_tile<decltype(p)::kValue, 1>(o, d); });
    else if (blocks == 2) for_pixels<6>(pixels, [&](auto p) { narrow_tile<decltype(p)::kValue, 2>(o, d); });
    else for_pixels<6>(pixels, [&](auto p) { wide_tile<decltype(p)::kValue, 2>(o, d); });
  }

  static void finish(const bf_conv_args* args, const Spot& at, vi* d) { take_away_columns(args, at, d); }

 private:
  static int64_t width(const Tile& t) { return t.weight_tap / 32; }  // bytes of a tap

  /* Functions of their own: inlined, they take the registers of what stands around them. */
  __attribute__((noinline)) void stage_row(const Tile& t, int32_t pixels) {
    with_stage_bytes(width(t), [&](const auto& stage) { stage_.begin_row(stage, t, pixels); });
  }
  __attribute__((noinline)) void stage_tile(const Tile& t, int32_t pixels) {
    with_stage_bytes(width(t), [&](const auto& stage) { stage_.begin_tile(stage, t, pixels); });
  }

  Stage<BF_B1_WINDOW> stage_;
};

}  // namespace

#endif
