/* Part of ops_body.h: a matrix of 32-bit numbers turned around, for the layout of floats at the doors and for Rearrange. */

typedef uint32_t bf_row __attribute__((vector_size(32), aligned(4), may_alias));

#define BF_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define BF_HIGH(a, b) __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define BF_LOW_PAIRS(a, b) __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define BF_HIGH_PAIRS(a, b) __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#define BF_LOW_HALVES(a, b) __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11)
#define BF_HIGH_HALVES(a, b) __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15)

/* Eight rows of eight to eight columns, each number moved by log2(8) = 3 exchanges. */
static inline __attribute__((always_inline)) void turn_8x8(const bf_row* rows, uint32_t* out, size_t out_row) {
  bf_row a[8], b[8];
  for (int i = 0; i < 8; ++i) a[i] = rows[i];
  for (int i = 0; i < 8; i += 2) b[i] = BF_LOW(a[i], a[i + 1]), b[i + 1] = BF_HIGH(a[i], a[i + 1]);
  for (int i = 0; i < 8; i += 4) { /* a[i + k]: columns k and k + 4 of rows i to i + 3 */
    a[i] = BF_LOW_PAIRS(b[i], b[i + 2]), a[i + 1] = BF_HIGH_PAIRS(b[i], b[i + 2]);
    a[i + 2] = BF_LOW_PAIRS(b[i + 1], b[i + 3]), a[i + 3] = BF_HIGH_PAIRS(b[i + 1], b[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    *(bf_row*)(out + i * out_row) = BF_LOW_HALVES(a[i], a[i + 4]);
    *(bf_row*)(out + (i + 4) * out_row) = BF_HIGH_HALVES(a[i], a[i + 4]);
  }
}

static inline void transpose_8x8(const uint32_t* in, size_t in_row, uint32_t* out, size_t out_row) {
  bf_row a[8];
  for (int i = 0; i < 8; ++i) a[i] = *(const bf_row*)(in + i * in_row);
  turn_8x8(a, out, out_row);
}

/* out[c][r] = in[r][c]. Sixteen columns at a time: what is read are whole cache lines, what is written are sixteen streams. */
static void transpose_32(const uint32_t* BF_RESTRICT in, size_t in_row, uint32_t* BF_RESTRICT out, size_t out_row, int rows, int cols) {
  const int whole_rows = rows & ~7, whole_cols = cols & ~7;
  for (int c0 = 0; c0 < whole_cols; c0 += 16)
    for (int r = 0; r < whole_rows; r += 8)
      for (int c = c0; c < c0 + 16 && c < whole_cols; c += 8) transpose_8x8(in + r * in_row + c, in_row, out + c * out_row + r, out_row);
  for (int r0 = 0; r0 < rows; r0 += 64) { /* the rest, in pieces that the first cache holds */
    const int r1 = r0 + 64 < rows ? r0 + 64 : rows;
    for (int c = whole_cols; c < cols; ++c)
      for (int r = r0; r < r1; ++r) out[c * out_row + r] = in[r * in_row + c];
  }
  for (int c = 0; c < whole_cols; ++c)
    for (int r = whole_rows; r < rows; ++r) out[c * out_row + r] = in[r * in_row + c];
}
