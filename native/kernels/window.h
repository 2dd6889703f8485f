/* Which taps and output columns lie inside the image; shared by the SIMD bodies. */
#ifndef BITFOLD_KERNELS_WINDOW_H_
#define BITFOLD_KERNELS_WINDOW_H_

#include <stdint.h>

#include "kernels/conv.h"

struct TapRange {
  int32_t begin, end; /* empty if begin >= end */
};

/* Taps t of [0, kernel) with 0 <= start + t * dilation < size. */
static inline TapRange bf_valid_taps(int32_t start, int32_t kernel, int32_t dilation, int32_t size) {
  TapRange r = {0, kernel};
  if (start < 0) r.begin = (-start + dilation - 1) / dilation;
  if (start + (kernel - 1) * dilation >= size) r.end = size <= start ? 0 : (size - 1 - start) / dilation + 1;
  return r;
}

static inline TapRange bf_valid_rows(const bf_conv_shape* s, int32_t y) {
  return bf_valid_taps(y * s->stride_h - s->pad_h, s->kernel_h, s->dilation_h, s->in_h);
}

static inline TapRange bf_valid_columns(const bf_conv_shape* s, int32_t x) {
  return bf_valid_taps(x * s->stride_w - s->pad_w, s->kernel_w, s->dilation_w, s->in_w);
}

/* Output columns whose taps all lie inside the image; may be empty. */
static inline TapRange bf_inside_columns(const bf_conv_shape* s) {
  const int32_t room = s->in_w - 1 - (s->kernel_w - 1) * s->dilation_w + s->pad_w;
  TapRange r = {(s->pad_w + s->stride_w - 1) / s->stride_w, room < 0 ? 0 : room / s->stride_w + 1};
  if (r.end > s->out_w) r.end = s->out_w;
  if (r.begin > r.end) r.begin = r.end;
  return r;
}

#endif
