#include "kernels/conv_planes/conv_planes.h"
#include "kernels/popcount_avx2.h"

#include "kernels/conv_planes/tables_avx2.h"

namespace {

constexpr int kFull = 128, kRoom = kFull + 64;  // lookups that are staged before they are counted; one staging adds at most 64
constexpr int kMostChunks = 257;                // of 255 at most, in 16-bit sums

/* The lookups of P pixels and V registers of weights on their way to 32-bit sums. */
template <int P, int V>
struct Counter {
  uint16_t rows[P][kRoom];  // staged: where the table's rows begin
  __m256i sums[P][V][2];
  int32_t staged, chunks, lookups;
};

/* Staged lookups [begin, end), both even. w: the weights of lookup 0. A function of its own: inlined, its registers spill. */
template <int P, int V>
__attribute__((noinline)) void count_rows(const uint8_t* table, Counter<P, V>& c, int32_t begin, int32_t end, const uint8_t* w, int64_t pair_bytes) {
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256i acc[P][V];
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int v = 0; v < V; ++v) acc[p][v] = _mm256_setzero_si256();
  for (int64_t k = begin; k < end; k += 2) {
    BF_UNROLL
    for (int half = 0; half < 2; ++half) {
      __m256i index[V];
      BF_UNROLL
      for (int v = 0; v < V; ++v) {
        const __m256i weights = _mm256_load_si256((const __m256i*)(w + v * pair_bytes + 16 * k));
        index[v] = _mm256_and_si256(half ? _mm256_srli_epi16(weights, 4) : weights, nibble);
      }
      BF_UNROLL
      for (int p = 0; p < P; ++p) {
        const __m256i row = _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)(table + c.rows[p][k + half])));
        BF_UNROLL
        for (int v = 0; v < V; ++v) add_in_place(acc[p][v], _mm256_shuffle_epi8(row, index[v]));
      }
      keep_apart();
    }
  }
  add_bytes<P, V>(acc, c.sums);
}

/* 16-bit sums -> counts, and 0. */
template <int P, int V>
void flush(Counter<P, V>& c, vi (*counts)[kPixels]) {
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) {
      vi first, second;
      widen(c.sums[p][v], first, second);
      counts[2 * v][p] = vi_add(counts[2 * v][p], first);
      counts[2 * v + 1][p] = vi_add(counts[2 * v + 1][p], second);
      c.sums[p][v][0] = c.sums[p][v][1] = _mm256_setzero_si256();
    }
  c.chunks = 0;
}

/* Counts what is staged and returns the weights behind it. */
template <int P, int V>
BF_INLINE const uint8_t* count_staged(const Rule& rule, Counter<P, V>& c, const uint8_t* w, int64_t pair_bytes, vi (*counts)[kPixels]) {
  const int32_t steps = c.staged / 2, most = rule.most / 2, chunks = (steps + most - 1) / most;
  if (c.chunks + chunks > kMostChunks) flush(c, counts);
  for (int32_t i = 0; i < chunks; ++i) count_rows<P, V>(rule.table, c, i * steps / chunks * 2, (i + 1) * steps / chunks * 2, w, pair_bytes);
  w += 16 * c.staged;
  c.chunks += chunks;
  c.lookups += c.staged;
  c.staged = 0;
  return w;
}

/* counts = sum over one pair of digits. */
template <int P, int V>
void count_digits(const Rule& rule, const Tile& t, const uint8_t* w, vi (*counts)[kPixels]) {
  Counter<P, V> c;
  c.staged = c.lookups = 0;
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) {
      c.sums[p][v][0] = c.sums[p][v][1] = _mm256_setzero_si256();
      counts[2 * v][p] = counts[2 * v + 1][p] = vi_set1(0);
    }
  c.chunks = 0;
  for_each_run<P>(t, [&](const uint8_t* const(&px)[P], int64_t bytes) __attribute__((always_inline)) {
    for (int64_t k = 0; k < bytes; k += 16) {
      const int32_t words = bytes - k < 16 ? (int32_t)(bytes - k) / 4 : 4;
      for (int p = 0; p < P; ++p) rule.stage(px[p] + k, t.plane_bytes, words, c.rows[p] + c.staged);
      c.staged += words * rule.rows_per_word;
      if (c.staged >= kFull) w = count_staged(rule, c, w, t.weight_step, counts);
    }
  });
  count_staged(rule, c, w, t.weight_step, counts);
  flush(c, counts);
  const vi bias = vi_set1(rule.bias * c.lookups);
  for (int k = 0; k < 2 * V; ++k)
    for (int p = 0; p < P; ++p) counts[k][p] = vi_sub(counts[k][p], bias);
}

/* The digit that begins with plane `first`, and what its value is multiplied by. */
Digit digit_at(const bf_code_planes& codes, int32_t first, int32_t* factor) {
  const int32_t planes = bf_digit_planes(codes.planes, first);
  *factor = codes.coefficient[first + planes - 1];
  return planes == 1 ? kBit : codes.coefficient[first] < 0 ? kTrit : kPair;
}

struct Digits : Direct {
  static int32_t most_blocks(const bf_conv_args*) { return 4; }
  static int32_t most_pixels(const bf_conv_args*, int32_t) { return 6; }
  static void sum(const bf_conv_args* args, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, vi (*d)[kPixels]) {
    for (int32_t k = 0; k < blocks; ++k)
      for (int32_t p = 0; p < pixels; ++p) d[k][p] = vi_set1(0);
    vi counts[kBlocks][kPixels];
    Tile from = t;
    for (int32_t i = 0, a_planes; i < args->in_planes.planes; i += a_planes) {
      a_planes = bf_digit_planes(args->in_planes.planes, i);
      from.origin = t.origin + i * t.plane_bytes;
      for (int32_t j = 0, w_planes; j < args->weight_planes.planes; j += w_planes) {
        w_planes = bf_digit_planes(args->weight_planes.planes, j);
        int32_t a_factor, w_factor;
        const Rule& rule = kRules[digit_at(args->in_planes, i, &a_factor)][digit_at(args->weight_planes, j, &w_factor)];
        const uint8_t* w = weights + j * t.weight_plane + (int64_t)t.begin * t.kernel_w * t.weight_tap * w_planes;
        for_pixels<6>(pixels, [&](auto p) {
          if (blocks > 2) count_digits<decltype(p)::kValue, 2>(rule, from, w, counts);
          else count_digits<decltype(p)::kValue, 1>(rule, from, w, counts);
        });
        const vi factor = vi_set1(a_factor * w_factor);
        for (int32_t k = 0; k < blocks; ++k)
          for (int32_t p = 0; p < pixels; ++p) d[k][p] = vi_add(d[k][p], vi_mul(factor, counts[k][p]));
      }
    }
  }
  static void finish(const bf_conv_args* args, const Spot& at, vi* d) { finish_planes(args, at, d); }
};

}  // namespace

extern "C" void conv_planes_s32_6x64_avx2(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  popcount_conv<Digits>(args, y0, y1, b0, b1);
}
