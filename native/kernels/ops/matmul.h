/* Part of ops_body.h: MatMul (docs/format.md). A tile is some rows of a by blocks of 16 channels of b, its sums in registers while k rises
 * through a chunk; the sums of a later chunk go on from what the one before wrote. The chunk of b that a tile needs is copied together first,
 * unless it serves one tile alone: in its place its rows may all lie in the same few sets of the cache. */
#if defined(__cplusplus)

#if defined(__AVX512F__)
#include "kernels/simd_avx512.h"
static constexpr int kMatmulBlocks = 2;
#elif defined(__AVX2__)
#include "kernels/simd_avx2.h"
static constexpr int kMatmulBlocks = 1;
#else
#include "kernels/simd_neon.h"
static constexpr int kMatmulBlocks = 1;
#endif
static constexpr int kMatmulRows = 6, kMatmulChunk = 256;

#define BF_MATMUL_UNROLL _Pragma("GCC unroll 16")

/* What a tile takes: k steps of a and b, rows of each so far apart; `more`: out holds the sums of earlier steps. */
struct MatmulTile {
  const float *a, *b;
  float* out;
  int steps, a_stride, b_stride, out_stride;
  bool more;
};

template <int ROWS, int BLOCKS>
static void matmul_tile(const MatmulTile& t) {
  vf sum[ROWS][BLOCKS];
  BF_MATMUL_UNROLL
  for (int i = 0; i < ROWS; ++i)
    BF_MATMUL_UNROLL
    for (int j = 0; j < BLOCKS; ++j) sum[i][j] = t.more ? vf_load(t.out + (size_t)i * t.out_stride + 16 * j) : vf_set1(0.0f);
  const float* b = t.b;
  for (int k = 0; k < t.steps; ++k, b += t.b_stride) {
    vf right[BLOCKS];
    BF_MATMUL_UNROLL
    for (int j = 0; j < BLOCKS; ++j) right[j] = vf_load(b + 16 * j);
    BF_MATMUL_UNROLL
    for (int i = 0; i < ROWS; ++i) {
      const vf left = vf_set1(t.a[(size_t)i * t.a_stride + k]);
      BF_MATMUL_UNROLL
      for (int j = 0; j < BLOCKS; ++j) sum[i][j] = vf_fma(left, right[j], sum[i][j]);
    }
  }
  BF_MATMUL_UNROLL
  for (int i = 0; i < ROWS; ++i)
    BF_MATMUL_UNROLL
    for (int j = 0; j < BLOCKS; ++j) vf_store(t.out + (size_t)i * t.out_stride + 16 * j, sum[i][j]);
}

template <int BLOCKS>
static void matmul_tile_of(int rows, const MatmulTile& t) {
  switch (rows) {
    case 1: return matmul_tile<1, BLOCKS>(t);
    case 2: return matmul_tile<2, BLOCKS>(t);
    case 3: return matmul_tile<3, BLOCKS>(t);
    case 4: return matmul_tile<4, BLOCKS>(t);
    case 5: return matmul_tile<5, BLOCKS>(t);
    default: return matmul_tile<kMatmulRows, BLOCKS>(t);
  }
}

/* All rows, cut into tiles of nearly one height. */
template <int BLOCKS>
static void matmul_column(int rows, MatmulTile t) {
  alignas(64) float together[kMatmulChunk * 16 * BLOCKS];
  const int tiles = (rows + kMatmulRows - 1) / kMatmulRows;
  if (tiles > 1) {
    for (int k = 0; k < t.steps; ++k)
      for (int j = 0; j < BLOCKS; ++j) vf_store(together + (k * BLOCKS + j) * 16, vf_load(t.b + (size_t)k * t.b_stride + 16 * j));
    t.b = together, t.b_stride = 16 * BLOCKS;
  }
  for (int i = 0; i < tiles; ++i) {
    const int count = rows / tiles + (i < rows % tiles);
    matmul_tile_of<BLOCKS>(count, t);
    t.a += (size_t)count * t.a_stride, t.out += (size_t)count * t.out_stride;
  }
}

/* `rows` of one group. A lone row takes four blocks at a time, for enough independent sums. */
static void matmul_rows(const bf_matmul_args* s, const float* a, const float* b, float* out, int rows) {
  const int blocks = (s->n + 15) / 16, wide = rows == 1 ? 4 : kMatmulBlocks;
  for (int k = 0; k < s->k; k += kMatmulChunk) {
    const int steps = s->k - k < kMatmulChunk ? s->k - k : kMatmulChunk;
    const float* right = b + (size_t)k * s->b_stride;
    int n = 0;
    for (; blocks - n >= wide; n += wide) {
      const MatmulTile t = {a + k, right + 16 * n, out + 16 * n, steps, s->a_stride, s->b_stride, s->out_stride, k > 0};
      if (rows == 1) matmul_tile<1, 4>(t);
      else matmul_column<kMatmulBlocks>(rows, t);
    }
    for (; n < blocks; ++n) {
      matmul_column<1>(rows, {a + k, right + 16 * n, out + 16 * n, steps, s->a_stride, s->b_stride, s->out_stride, k > 0});
    }
  }
}

#else

static void matmul_rows(const bf_matmul_args* s, const float* a, const float* b, float* out, int rows) {
  for (int i = 0; i < rows; ++i) {
    float* y = out + (size_t)i * s->out_stride;
    for (int n = 0; n < s->n; ++n) y[n] = 0.0f;
    for (int k = 0; k < s->k; ++k) {
      const float left = a[(size_t)i * s->a_stride + k], *right = b + (size_t)k * s->b_stride;
      for (int n = 0; n < s->n; ++n) y[n] = __builtin_fmaf(left, right[n], y[n]);
    }
  }
}

#endif

static void matmul(const bf_matmul_args* s, const float* a, const float* b, float* out, int begin, int end) {
  for (int p = begin; p < end;) {
    const int left = s->m - p % s->m, rows = left < end - p ? left : end - p;
    matmul_rows(s, a + (size_t)p * s->a_stride, b + (size_t)(p / s->m) * s->k * s->b_stride, out + (size_t)p * s->out_stride, rows);
    p += rows;
  }
}
