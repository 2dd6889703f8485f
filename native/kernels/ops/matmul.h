/* Part of ops_body.h: MatMul (docs/format.md). A tile is some rows of a by a block of 16 channels of b, its sums in registers for all of k. A
 * block of b is a column that the first cache holds, so all rows of a group pass through one block before the next begins. */
#if defined(__cplusplus)

#if defined(__AVX512F__)
#include "kernels/simd_avx512.h"
enum { kMatmulRows = 12 };
#elif defined(__AVX2__)
#include "kernels/simd_avx2.h"
enum { kMatmulRows = 6 };
#else
#include "kernels/simd_neon.h"
enum { kMatmulRows = 6 };
#endif

#define BF_MATMUL_UNROLL _Pragma("GCC unroll 16")

template <int ROWS, int BLOCKS>
static inline void matmul_tile(const bf_matmul_args* s, const float* a, const float* b, float* out) {
  vf sum[ROWS][BLOCKS];
  BF_MATMUL_UNROLL
  for (int i = 0; i < ROWS; ++i)
    BF_MATMUL_UNROLL
    for (int j = 0; j < BLOCKS; ++j) sum[i][j] = vf_set1(0.0f);
  for (int k = 0; k < s->k; ++k, b += s->b_stride) {
    vf right[BLOCKS];
    BF_MATMUL_UNROLL
    for (int j = 0; j < BLOCKS; ++j) right[j] = vf_load(b + 16 * j);
    BF_MATMUL_UNROLL
    for (int i = 0; i < ROWS; ++i) {
      const vf left = vf_set1(a[(size_t)i * s->a_stride + k]);
      BF_MATMUL_UNROLL
      for (int j = 0; j < BLOCKS; ++j) sum[i][j] = vf_fma(left, right[j], sum[i][j]);
    }
  }
  BF_MATMUL_UNROLL
  for (int i = 0; i < ROWS; ++i)
    BF_MATMUL_UNROLL
    for (int j = 0; j < BLOCKS; ++j) vf_store(out + (size_t)i * s->out_stride + 16 * j, sum[i][j]);
}

/* `rows` of one group. A lone row takes four blocks at a time, for enough independent sums. */
static void matmul_rows(const bf_matmul_args* s, const float* a, const float* b, float* out, int rows) {
  const int four = rows == 1 ? s->n / 64 * 64 : 0;
  for (int n = 0; n < four; n += 64) matmul_tile<1, 4>(s, a, b + n, out + n);
  for (int n = four; n < s->n; n += 16) {
    int i = 0;
    for (; rows - i >= kMatmulRows; i += kMatmulRows) {
      matmul_tile<kMatmulRows, 1>(s, a + (size_t)i * s->a_stride, b + n, out + (size_t)i * s->out_stride + n);
    }
    for (; rows - i >= 3; i += 3) matmul_tile<3, 1>(s, a + (size_t)i * s->a_stride, b + n, out + (size_t)i * s->out_stride + n);
    for (; i < rows; ++i) matmul_tile<1, 1>(s, a + (size_t)i * s->a_stride, b + n, out + (size_t)i * s->out_stride + n);
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
