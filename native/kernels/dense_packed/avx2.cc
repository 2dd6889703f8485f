/* AVX2: vpmaddubsw adds pairs of (unsigned byte x signed byte) into 16-bit lanes, two of which belong to one output channel. */
#include "kernels/dense_packed/dense_packed.h"
#include "kernels/simd_avx2.h"

static constexpr int kRows = 6;
static constexpr int kPairedRows = 3;

#include "kernels/dense_packed/tiles.h"

/* acc += x, in place: gcc 12 renames accumulators across iterations otherwise, and spills them. */
BF_INLINE void add_in_place(__m256i& acc, __m256i x) { asm("vpaddw %1, %0, %0" : "+x"(acc) : "x"(x)); }

/* Where a tile reads next: one word is 64 bytes of weights and 32 / kBits codes a row. */
template <int P>
struct Cursor {
  const uint8_t* rows[P];
  const uint8_t* weights;
  int64_t block_bytes;
};

/* One place of one word: four channels of P rows against V registers of eight outputs each. The barrier keeps the compiler from mixing
 * two places, which would take more registers than there are. */
template <int kBits, int kPlace, int P, int V>
BF_INLINE void add_place(const Cursor<P>& at, const __m256i (&packed)[V], __m256i (&acc)[P][V]) {
  const __m256i mask = _mm256_set1_epi8(Fields<kBits>::kMask);
  __m256i fields[V];
  BF_UNROLL
  for (int v = 0; v < V; ++v) fields[v] = _mm256_and_si256(_mm256_srli_epi16(packed[v], kBits * kPlace), mask);
  BF_UNROLL
  for (int p = 0; p < P; ++p) {
    int32_t four;
    __builtin_memcpy(&four, at.rows[p] + 4 * kPlace, 4);
    const __m256i code = _mm256_set1_epi32(four);
    BF_UNROLL
    for (int v = 0; v < V; ++v) add_in_place(acc[p][v], _mm256_maddubs_epi16(code, fields[v]));
  }
  asm volatile("" ::: "memory");
}

template <int V>
BF_INLINE void load_packed(const uint8_t* weights, int64_t block_bytes, __m256i (&packed)[V]) {
  BF_UNROLL
  for (int v = 0; v < V; ++v) {
    packed[v] = _mm256_load_si256((const __m256i*)(weights + v / 2 * block_bytes + 32 * (v % 2)));
    asm("" : "+x"(packed[v]));  // in a register: the mask stays in memory then
  }
}

/* Few accumulators leave room to hold the packed weights of a word; else every place loads them again. */
template <int kBits, int P, int V>
BF_INLINE void add_word(Cursor<P>& at, int32_t places, __m256i (&acc)[P][V]) {
  constexpr bool kHold = (P + 1) * V <= 12;
  __m256i held[V];
  if constexpr (kHold) load_packed(at.weights, at.block_bytes, held);
  for_each_place<Fields<kBits>::kPlaces>(places, [&](auto place) __attribute__((always_inline)) {
    __m256i packed[V];
    if constexpr (!kHold) load_packed(at.weights, at.block_bytes, packed);
    add_place<kBits, decltype(place)::value, P, V>(at, kHold ? held : packed, acc);
  });
  BF_UNROLL
  for (int p = 0; p < P; ++p) at.rows[p] += 32 / kBits;
  at.weights += 64;
}

template <int P, int V>
BF_INLINE void clear(__m256i (&acc)[P][V]) {
  BF_UNROLL
  for (int p = 0; p < P; ++p)
    BF_UNROLL
    for (int v = 0; v < V; ++v) acc[p][v] = _mm256_setzero_si256();
}

/* The 16-bit sums go to the 32-bit ones. */
template <int P, int B>
BF_INLINE void widen(const __m256i (&acc)[P][2 * B], vi (*d)[kRows]) {
  const __m256i one = _mm256_set1_epi16(1);
  BF_UNROLL
  for (int k = 0; k < B; ++k)
    BF_UNROLL
    for (int p = 0; p < P; ++p)
      d[k][p] = vi_add(d[k][p], vi{_mm256_madd_epi16(acc[p][2 * k], one), _mm256_madd_epi16(acc[p][2 * k + 1], one)});
}

template <int kBits, int P, int B>
static void dot_tile(const FieldTile& t, vi (*d)[kRows]) {
  __m256i acc[P][2 * B];
  Cursor<P> at;
  at.weights = (const uint8_t*)t.weights;
  at.block_bytes = 4 * t.block_words;
  for (int p = 0; p < P; ++p) at.rows[p] = t.rows + p * t.row_bytes;
  for (int k = 0; k < B; ++k)
    for (int p = 0; p < P; ++p) d[k][p] = vi_set1(0);
  for (int32_t left = t.words, words; left > 0; left -= words) {
    words = left < t.short_words ? left : t.short_words;
    clear(acc);
    for (int32_t i = 0; i < words; ++i) add_word<kBits>(at, Fields<kBits>::kPlaces, acc);
    widen<P, B>(acc, d);
  }
  if (t.places == 0) return;
  clear(acc);
  add_word<kBits>(at, t.places, acc);
  widen<P, B>(acc, d);
}

extern "C" void dense_packed_s32_6x16_avx2(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  dense_packed(args, y0, y1, b0, b1);
}
