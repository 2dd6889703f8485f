/* Part of ops_body.h: sums and maxima along the channels of a pixel, which keep their order (docs/format.md). Eight pixels go side by side, for
 * alone each step would wait for the one before it. */

enum { kChains = 8 };

/* The channels of pixels p, p + 1, ..; the last pixel stands in for those from `end` on. */
typedef struct {
  const float* at[kChains];
} Chains;

static inline Chains chains_from(const float* in, int stride, int p, int end) {
  Chains x;
  for (int q = 0; q < kChains; ++q) x.at[q] = in + (size_t)(p + q < end ? p + q : end - 1) * stride;
  return x;
}

static inline void chain_sums(Chains x, int c, float* sums) {
  float sum[kChains] = {0};
  for (int ch = 0; ch < c; ++ch) {
    for (int q = 0; q < kChains; ++q) sum[q] += x.at[q][ch];
  }
  memcpy(sums, sum, sizeof sum);
}

static inline void chain_tops(Chains x, int c, float* tops) {
  float top[kChains];
  for (int q = 0; q < kChains; ++q) top[q] = x.at[q][0];
  for (int ch = 1; ch < c; ++ch) {
    for (int q = 0; q < kChains; ++q) top[q] = x.at[q][ch] > top[q] ? x.at[q][ch] : top[q];
  }
  memcpy(tops, top, sizeof top);
}
