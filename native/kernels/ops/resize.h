/* Part of ops_body.h: images of another size, pixel by pixel (docs/format.md, Upsample and DepthToSpace). */

static void nearest(const bf_upsample_args* k, const void* in, void* out, int bytes, int begin, int end) {
  for (int oy = begin; oy < end; ++oy) {
    const char* row = (const char*)in + (size_t)(k->rows[oy] < 0 ? 0 : k->rows[oy]) * k->in_w * k->in_stride * bytes;
    char* y = (char*)out + (size_t)oy * k->out_w * k->out_stride * bytes;
    for (int ox = 0; ox < k->out_w; ++ox) {
      char* pixel = y + (size_t)ox * k->out_stride * bytes;
      if (k->rows[oy] < 0 || k->columns[ox] < 0) memset(pixel, 0, (size_t)k->c * bytes);
      else memcpy(pixel, row + (size_t)k->columns[ox] * k->in_stride * bytes, (size_t)k->c * bytes);
    }
  }
}

static void bilinear(const bf_upsample_args* k, const float* in, float* out, int begin, int end) {
  const size_t row_size = (size_t)k->in_w * k->in_stride;
  for (int oy = begin; oy < end; ++oy) {
    const float *above = in + k->rows[oy] * row_size, *below = in + k->next_rows[oy] * row_size;
    const float down = k->row_weights[oy], stay_down = 1.0f - down;
    for (int ox = 0; ox < k->out_w; ++ox) {
      const size_t left = (size_t)k->columns[ox] * k->in_stride, right = (size_t)k->next_columns[ox] * k->in_stride;
      const float *a = above + left, *b = above + right, *c = below + left, *d = below + right;
      const float across = k->column_weights[ox], stay_across = 1.0f - across;
      float* BF_RESTRICT y = out + ((size_t)oy * k->out_w + ox) * k->out_stride;
      BF_CHANNELS(k->c) {
        const float upper = __builtin_fmaf(across, b[ch], stay_across * a[ch]);
        const float lower = __builtin_fmaf(across, d[ch], stay_across * c[ch]);
        y[ch] = __builtin_fmaf(down, lower, stay_down * upper);
      }
    }
  }
}

static void depth_to_space(const bf_depth_to_space_args* k, const float* in, float* out, int begin, int end) {
  const int phases = k->factor_h * k->factor_w, part = k->c / k->groups;
  for (int oy = begin; oy < end; ++oy) {
    const int iy = (oy + k->top) / k->factor_h, row = (oy + k->top) % k->factor_h * k->factor_w;
    for (int ox = 0; ox < k->out_w; ++ox) {
      const int ix = (ox + k->left) / k->factor_w, phase = row + (ox + k->left) % k->factor_w;
      const float* x = in + ((size_t)iy * k->in_w + ix) * k->in_stride + (size_t)phase * part;
      float* BF_RESTRICT y = out + ((size_t)oy * k->out_w + ox) * k->out_stride;
      if (part == 1) {
        BF_CHANNELS(k->c) y[ch] = x[(size_t)ch * phases];
      } else {
        for (int g = 0; g < k->groups; ++g) memcpy(y + (size_t)g * part, x + (size_t)g * phases * part, (size_t)part * sizeof(float));
      }
    }
  }
}
