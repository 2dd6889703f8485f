/* Popcount tiles on AVX2: up to 6 pixels x 64 output channels.
 *
 * AVX2 has no popcount, but a byte shuffle looks up 16 entries at once. Weights lie as one byte (8 input channels) of 32 output channels
 * in a register (layout BYTES), so the two nibbles of a weight register index a table of 16 counts that depends only on the activation's
 * nibble: popcount(a xor i), i = 0 .. 15. Two shuffles and two byte additions make 256 products; splitting the nibbles of the weights is
 * shared by all pixels. Tables are broadcast from memory (8 KiB, one load each), addressed by the activation byte. Byte counters hold 31
 * steps of 8, then go to 16 bits.
 */
#ifndef BITFOLD_KERNELS_POPCOUNT_AVX2_H_
#define BITFOLD_KERNELS_POPCOUNT_AVX2_H_

#include "kernels/simd_avx2.h"

static constexpr int kPixels = 6;
static constexpr int kBlocks = 4;
static constexpr int kWeightBlocks = 2;

#include "kernels/popcount_conv.h"

namespace {

struct Tables {
  uint8_t low[256][16], high[256][16];  // of activation byte a: ones of (nibble of a) xor i
};

constexpr int ones(int nibble) { return (nibble & 1) + (nibble >> 1 & 1) + (nibble >> 2 & 1) + (nibble >> 3 & 1); }

constexpr Tables make_tables() {
  Tables t = {};
  for (int a = 0; a < 256; ++a)
    for (int i = 0; i < 16; ++i) {
      t.low[a][i] = static_cast<uint8_t>(ones((a & 15) ^ i));
      t.high[a][i] = static_cast<uint8_t>(ones((a >> 4) ^ i));
    }
  return t;
}

alignas(64) constexpr Tables kXorTables = make_tables();

BF_INLINE __m256i table_at(const uint8_t (*tables)[16], uint32_t a) {
  return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)tables[a]));
}

/* acc += x, in place: gcc 12 renames accumulators across iterations otherwise, and spills them. */
BF_INLINE void add_in_place(__m256i& acc, __m256i x) { asm("vpaddb %1, %0, %0" : "+x"(acc) : "x"(x)); }

/* Adds the counts of one nibble of the weights. The barrier keeps the compiler from mixing two nibbles, which would take more registers
 * than there are. */
template <int P, int V>
BF_INLINE void count_nibble(const uint8_t (*tables)[16], const uint8_t* const (&px)[P], int64_t k, const __m256i (&index)[V], __m256i (&acc)[P][V]) {
  BF_UNROLL
  for (int p = 0; p < P; ++p) {
    const __m256i table = table_at(tables, px[p][k]);
    BF_UNROLL
    for (int v = 0; v < V; ++v) add_in_place(acc[p][v], _mm256_shuffle_epi8(table, index[v]));
  }
  asm volatile("" ::: "memory");
}

/* One byte of the activations of P pixels against V registers of weights. */
template <int P, int V>
BF_INLINE void count_byte(const Tables& tables, const uint8_t* const (&px)[P], int64_t k, const uint8_t* w, int64_t pair_bytes,
                          __m256i (&acc)[P][V]) {
  const __m256i nibble = _mm256_set1_epi8(15);
  __m256i index[V];
  BF_UNROLL
  for (int v = 0; v < V; ++v) index[v] = _mm256_and_si256(_mm256_load_si256((const __m256i*)(w + v * pair_bytes + 32 * k)), nibble);
  count_nibble<P, V>(tables.low, px, k, index, acc);
  BF_UNROLL
  for (int v = 0; v < V; ++v)
    index[v] = _mm256_and_si256(_mm256_srli_epi16(_mm256_load_si256((const __m256i*)(w + v * pair_bytes + 32 * k)), 4), nibble);
  count_nibble<P, V>(tables.high, px, k, index, acc);
}

template <int P, int V>
BF_INLINE void add_bytes(const __m256i (&acc)[P][V], __m256i (&sums)[P][V][2]) {
  const __m256i zero = _mm256_setzero_si256();
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int v = 0; v < V; ++v) {
      sums[p][v][0] = _mm256_add_epi16(sums[p][v][0], _mm256_unpacklo_epi8(acc[p][v], zero));
      sums[p][v][1] = _mm256_add_epi16(sums[p][v][1], _mm256_unpackhi_epi8(acc[p][v], zero));
    }
}

/* At most 31 bytes, added to the 16-bit sums. */
template <int P, int V>
BF_INLINE void count_chunk(const Tables& tables, const uint8_t* const (&px)[P], int64_t begin, int64_t end, const uint8_t* w, int64_t pair_bytes,
                           __m256i (&sums)[P][V][2]) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i acc[P][V];
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int v = 0; v < V; ++v) acc[p][v] = zero;
  for (int64_t k = begin; k < end; ++k) count_byte<P, V>(tables, px, k, w, pair_bytes, acc);
  add_bytes<P, V>(acc, sums);
}

/* 16-bit sums of 32 output channels and their 32-bit form; unpacking bytes left channels 0-7 and 16-23 in the first register, 8-15 and
 * 24-31 in the second. */
BF_INLINE void widen(const __m256i (&sums)[2], vi& first, vi& second) {
  const __m256i a = sums[0], b = sums[1];
  first = vi{_mm256_cvtepu16_epi32(_mm256_castsi256_si128(a)), _mm256_cvtepu16_epi32(_mm256_castsi256_si128(b))};
  second = vi{_mm256_cvtepu16_epi32(_mm256_extracti128_si256(a, 1)), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(b, 1))};
}

/* A function of its own: inlined, its registers spill. */
template <int P, int V>
__attribute__((noinline)) void count_runs(const Tile& t, const uint8_t* w, vi (*counts)[kPixels]) {
  __m256i sums[P][V][2];
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) sums[p][v][0] = sums[p][v][1] = _mm256_setzero_si256();
  for_each_run<P>(t, [&](const uint8_t* const(&px)[P], int64_t bytes) __attribute__((always_inline)) {
    const int64_t chunks = (bytes + 30) / 31;
    for (int64_t c = 0; c < chunks; ++c)
      count_chunk<P, V>(kXorTables, px, c * bytes / chunks, (c + 1) * bytes / chunks, w, t.weight_step, sums);
    w += 32 * bytes;
  });
  for (int p = 0; p < P; ++p)
    for (int v = 0; v < V; ++v) widen(sums[p][v], counts[2 * v][p], counts[2 * v + 1][p]);
}

}  // namespace

template <Pairs kPairs, int P>
static void count_tile(const Tile& t, const void* weights, int32_t blocks, vi (*counts)[kPixels]) {
  static_assert(kPairs == Pairs::kXor, "conv_planes has its own tables");
  if (blocks > 2) count_runs<P, 2>(t, (const uint8_t*)weights, counts);
  else count_runs<P, 1>(t, (const uint8_t*)weights, counts);
}

#endif
