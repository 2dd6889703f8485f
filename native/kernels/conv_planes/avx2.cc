#include "kernels/conv_planes/conv_planes.h"
#include "kernels/popcount_avx2.h"
#include "kernels/stage_avx2.h"

#include "kernels/conv_planes/tables_avx2.h"

namespace {

constexpr int64_t kWindow = 16384;  // places that one staging of a tile may take
constexpr int kStages = 2;          // stagings at a time
constexpr int kMostChunks = 257;    // of 255 at most, in 16-bit sums

/* The next `lookups` (even) of P pixels against V x 32 output channels. */
template <int P, int V>
BF_INLINE void count_lookups(const uint8_t* table, Places<P>& a, int32_t lookups, const uint8_t* w, int64_t pair_bytes, __m256i (&acc)[P][V]) {
  const auto row = [&](int p, int half) __attribute__((always_inline)) { return table + place_of(a, p, half); };
  for (const uint8_t* end = w + 16 * lookups; w != end; w += 32, advance(a, 2)) add_lookups<P, V>(w, pair_bytes, row, acc);
}

/* 16-bit sums -> counts, and 0. */
template <int P, int V>
BF_INLINE void flush(__m256i (&sums)[P][V][2], TileSums counts) {
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) {
      vi first, second;
      widen(sums[p][v], first, second);
      counts[2 * v][p] = vi_add(counts[2 * v][p], first);
      counts[2 * v + 1][p] = vi_add(counts[2 * v + 1][p], second);
      sums[p][v][0] = sums[p][v][1] = _mm256_setzero_si256();
    }
}

/* The weights that patches meet. */
struct Weights {
  const uint8_t* first;
  int64_t run, pair_bytes;  // from run to run, from 32 output channels to the next
};

/* counts += what the patches look up. A function of its own: inlined, its registers spill. */
template <int P, int V>
__attribute__((noinline)) void count_patches(const Rule& rule, const Patches& a, const Weights& weights, TileSums counts) {
  __m256i sums[P][V][2];
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) sums[p][v][0] = sums[p][v][1] = _mm256_setzero_si256();
  int32_t chunks = 0;
  for (int32_t run = 0; run < a.runs; ++run) {
    const uint8_t* w = weights.first + run * weights.run;
    Places<P> places = places_of<P>(a, run);
    for (int32_t left = a.steps, lookups; left > 0; left -= lookups, w += 16 * lookups) {
      lookups = left < rule.most ? left : rule.most;
      __m256i acc[P][V];
      BF_UNROLL
      for (int p = 0; p < P; ++p)
        BF_UNROLL
        for (int v = 0; v < V; ++v) acc[p][v] = _mm256_setzero_si256();
      count_lookups<P, V>(rule.table, places, lookups, w, weights.pair_bytes, acc);
      if (++chunks > kMostChunks) flush(sums, counts), chunks = 1;
      add_bytes<P, V>(acc, sums);
    }
  }
  flush(sums, counts);
}

void count_pixels(int32_t pixels, int32_t blocks, const Rule& rule, const Patches& a, const Weights& weights, TileSums counts) {
  if (blocks > 2) for_pixels<6>(pixels, [&](auto p) { count_patches<decltype(p)::kValue, 2>(rule, a, weights, counts); });
  else for_pixels<12>(pixels, [&](auto p) { count_patches<decltype(p)::kValue, 1>(rule, a, weights, counts); });
}

/* Of one input pixel. */
struct StageLookups {
  static constexpr bool kExact = true;
  int64_t width;
  StageFn stage;
  int64_t plane_bytes;
  int32_t words;

  StageLookups(const Rule& rule, const Tile& t)
      : width(t.tap_bytes / 4 * rule.rows_per_word), stage(rule.stage), plane_bytes(t.plane_bytes), words((int32_t)(t.tap_bytes / 4)) {}

  void operator()(const uint8_t* from, uint16_t* to) const {
    const int64_t four = 4 * (width / words);
    int32_t left = words;
    for (; left >= 4; left -= 4, from += 16, to += four) stage(from, plane_bytes, 4, to);
    if (left == 0) return;
    alignas(32) uint16_t some[64];
    stage(from, plane_bytes, left, some);
    for (int64_t k = 0; k < width / words * left; k += 8) _mm_storeu_si128((__m128i*)(to + k), _mm_load_si128((const __m128i*)(some + k)));
  }
};

/* The digit that begins with plane `first`, and what its value is multiplied by. */
Digit digit_at(const bf_code_planes& codes, int32_t first, int32_t* factor) {
  const int32_t planes = bf_digit_planes(codes.planes, first);
  *factor = codes.coefficient[first + planes - 1];
  return planes == 1 ? kBit : codes.coefficient[first] < 0 ? kTrit : kPair;
}

/* A pair of digits, that of the activations beginning with plane i. */
struct Pair {
  const Rule* rule;
  int32_t i, stage, factor;     // stage: which staging it reads; weights of one plane and of two read different ones
  int64_t weights, weight_tap;  // where they begin for the first tap row inside the image; of one tap
};

/* Calls use(pair) for all pairs of digits. */
template <typename Use>
BF_INLINE void for_each_pair(const bf_conv_args* args, const Tile& t, const Use& use) {
  const bf_code_planes &a = args->in_planes, &w = args->weight_planes;
  const int32_t kinds = w.planes > 1 && w.planes % 2 ? 2 : 1;
  for (int32_t i = 0, a_planes, digit = 0; i < a.planes; i += a_planes, ++digit) {
    a_planes = bf_digit_planes(a.planes, i);
    for (int32_t j = 0, w_planes; j < w.planes; j += w_planes) {
      w_planes = bf_digit_planes(w.planes, j);
      int32_t a_factor, w_factor;
      const Rule& rule = kRules[digit_at(a, i, &a_factor)][digit_at(w, j, &w_factor)];
      const int64_t tap = t.weight_tap * w_planes;
      const int32_t stage = kinds * digit + (kinds == 2 && w_planes == 2);
      use(Pair{&rule, i, stage, a_factor * w_factor, j * t.weight_plane + t.begin * tap, tap});
    }
  }
}

class Digits : public Direct {
 public:
  static int32_t most_blocks(const bf_conv_args*) { return 4; }
  static int32_t most_pixels(const bf_conv_args* args, int32_t blocks) { return blocks <= 2 && staged(args, 12) ? 12 : 6; }

  void begin_row(const bf_conv_args* args, const Tile& t) {
    staged_ = staged(args, 6);
    if (!staged_) return;
    for_each_stage(args, t, [&](auto& stage, const StageLookups& staging, const Tile& from) {
      stage.begin_row(staging, from, args->shape.out_w);
    });
  }

  void sum(const bf_conv_args* args, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, TileSums d) {
    if (staged_)
      for_each_stage(args, t, [&](auto& stage, const StageLookups& staging, const Tile& from) {
        if (!stage.holds_row()) stage.begin_tile(staging, from, pixels);
      });
    for (int32_t k = 0; k < blocks; ++k)
      for (int32_t p = 0; p < pixels; ++p) d[k][p] = vi_set1(0);
    for_each_pair(args, t, [&](const Pair& pair) {
      vi counted[kBlocks][kPixels];
      const TileSums counts{counted[0], kPixels};
      for (int32_t k = 0; k < (blocks + 1) / 2 * 2; ++k)
        for (int32_t p = 0; p < pixels; ++p) counts[k][p] = vi_set1(0);
      const Weights met{weights + pair.weights, t.kernel_h * pair.weight_tap, t.weight_step};
      if (staged_) count_pixels(pixels, blocks, *pair.rule, stages_[pair.stage].patches(t), met, counts);
      else count_codes(t, pair, met, pixels, blocks, counts);
      const int64_t lookups = (int64_t)t.rows * t.kernel_w * (t.tap_bytes / 4) * pair.rule->rows_per_word;
      const vi bias = vi_set1((int32_t)lookups * pair.rule->bias), factor = vi_set1(pair.factor);
      for (int32_t k = 0; k < blocks; ++k)
        for (int32_t p = 0; p < pixels; ++p) d[k][p] = vi_add(d[k][p], vi_mul(factor, vi_sub(counts[k][p], bias)));
    });
  }

  static void finish(const bf_conv_args* args, const Spot& at, vi* d) { finish_planes(args, at, d); }

 private:
  /* Whether tiles of so many pixels are staged as a whole: few digits, and no more places than there is room for. */
  static bool staged(const bf_conv_args* args, int64_t pixels) {
    const bf_conv_shape* s = &args->shape;
    const int32_t planes = args->weight_planes.planes, stages = (args->in_planes.planes + 1) / 2 * (planes > 1 && planes % 2 ? 2 : 1);
    const int64_t words = (s->in_c / s->groups + 31) / 32, patch = words * (planes > 1 ? 16 : 8) * s->kernel_h * s->kernel_w;
    return stages <= kStages && pixels * patch <= kWindow;
  }

  template <typename Use>
  void for_each_stage(const bf_conv_args* args, const Tile& t, const Use& use) {
    int32_t next = 0;
    for_each_pair(args, t, [&](const Pair& pair) {
      if (pair.stage != next) return;
      Tile from = t;
      from.origin += pair.i * t.plane_bytes;
      use(stages_[next++], StageLookups(*pair.rule, t), from);
    });
  }

  /* Windows for which there is no room: some lookups of a column of taps at a time. */
  static void count_codes(const Tile& t, const Pair& pair, const Weights& met, int32_t pixels, int32_t blocks, TileSums counts) {
    constexpr int32_t kFull = 128, kSome = kFull + 64;  // one staging adds at most 64
    uint16_t places[6][kSome];
    for (int32_t j = 0; j < t.kernel_w; ++j) {
      Weights weights{met.first + j * met.run, 0, met.pair_bytes};
      int32_t some = 0;
      const auto count = [&] {
        count_pixels(pixels, blocks, *pair.rule, Patches{places[0], 2 * kSome, 0, 1, some}, weights, counts);
        weights.first += 16 * some;
        some = 0;
      };
      for (int32_t i = 0; i < t.rows; ++i)
        for (int64_t k = 0; k < t.tap_bytes; k += 16) {
          const int32_t words = t.tap_bytes - k < 16 ? (int32_t)(t.tap_bytes - k) / 4 : 4;
          for (int32_t p = 0; p < pixels; ++p) {
            const int32_t ix = t.column + p * t.stride + j * t.dilation;
            const bool inside = (uint32_t)ix < (uint32_t)t.in_w;
            const uint8_t* px = inside ? t.origin + pair.i * t.plane_bytes + i * t.row_bytes + ix * t.pixel_bytes : kZeroWords;
            pair.rule->stage(px + k, t.plane_bytes, words, places[p] + some);
          }
          some += words * pair.rule->rows_per_word;
          if (some >= kFull) count();
        }
      count();
    }
  }

  Stage<kWindow> stages_[kStages];
  bool staged_;
};

}  // namespace

extern "C" void conv_planes_s32_6x64_avx2(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  popcount_conv<Digits>(args, y0, y1, b0, b1);
}
