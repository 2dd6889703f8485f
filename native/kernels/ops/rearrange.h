/* Part of ops_body.h: Rearrange (docs/format.md), runs of neighbouring channels of the input in another order. */

static void rearrange(const bf_rearrange_args* k, const float* in, float* out, int begin, int end) {
  const int run = k->run, runs = k->c / run;
  for (int p = begin; p < end; ++p) {
    const int32_t* at = k->table + (size_t)p * runs;
    float* BF_RESTRICT y = out + (size_t)p * k->out_stride;
    if (run == 1) {
      BF_CHANNELS(k->c) y[ch] = in[at[ch]];
    } else if (run % 8 == 0) {
      for (int i = 0; i < runs; ++i)
        for (int j = 0; j < run; j += 8) *(vector_f32*)(y + (size_t)i * run + j) = *(const vector_f32*)(in + at[i] + j);
    } else {
      for (int i = 0; i < runs; ++i) memcpy(y + (size_t)i * run, in + at[i], (size_t)run * sizeof(float));
    }
  }
}

/* `pixels` of a group of runs from its pixel i0 on. Squares of 8 x 8, sixteen pixels at a time as in transpose_32; the last ones reach back
 * over others, which they write again. */
static void turn_runs(const bf_rearrange_args* k, const int32_t* at, const float* in, float* out, int i0, int pixels) {
  const int c = k->c;
  if (c < 8 || pixels < 8) {
    for (int i = 0; i < pixels; ++i) BF_CHANNELS(c) out[(size_t)i * k->out_stride + ch] = in[at[ch] + i0 + i];
    return;
  }
  for (int p0 = 0; p0 < pixels; p0 += 16) {
    for (int c0 = 0; c0 < c; c0 += 8) {
      const int first = c0 + 8 <= c ? c0 : c - 8;
      for (int p = p0; p < p0 + 16 && p < pixels; p += 8) {
        const int i = p + 8 <= pixels ? p : pixels - 8;
        bf_row rows[8];
        for (int j = 0; j < 8; ++j) rows[j] = *(const bf_row*)(in + at[first + j] + i0 + i);
        turn_8x8(rows, (uint32_t*)(out + (size_t)i * k->out_stride + first), (size_t)k->out_stride);
      }
    }
  }
}

static void rearrange_across(const bf_rearrange_args* k, const float* in, float* out, int begin, int end) {
  for (int p = begin; p < end;) {
    const int i0 = p % k->run, left = k->run - i0, pixels = left < end - p ? left : end - p;
    turn_runs(k, k->table + (size_t)(p / k->run) * k->c, in, out + (size_t)p * k->out_stride, i0, pixels);
    p += pixels;
  }
}
