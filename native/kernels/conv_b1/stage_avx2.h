/* Staging for conv_b1's tiles on AVX2: every byte of activations becomes the place of its row in the table, as 16 bits.
 *
 * Places lie as [column][tap row][byte], columns outside the image being bytes of 0, so that what a pixel reads is one run. The next
 * output row of stride 1 reads the same but a tap row on: moving the origin by one tap row turns every column's rows 1, 2, ... into 0, 1,
 * ..., and only the last row of each column is new.
 */
#ifndef BITFOLD_KERNELS_CONV_B1_STAGE_AVX2_H_
#define BITFOLD_KERNELS_CONV_B1_STAGE_AVX2_H_

#include "kernels/popcount_avx2.h"

namespace {

constexpr int kRowShift = 5;  // a row of the table has 32 bytes

/* Places of the bytes of one pixel, a multiple of four unless kWidth is 2. kWidth: 2, 4 or 8 bytes, or 0 for any number. */
template <int kWidth>
BF_INLINE void stage_pixel(const uint8_t* from, int64_t bytes, uint16_t* to) {
  const auto places = [](__m128i b) { return _mm_slli_epi16(_mm_cvtepu8_epi16(b), kRowShift); };
  if (kWidth == 2) return _mm_storeu_si32(to, places(_mm_loadu_si32(from)));
  if (kWidth == 4) return _mm_storel_epi64((__m128i*)to, places(_mm_loadu_si32(from)));
  if (kWidth == 8) return _mm_storeu_si128((__m128i*)to, places(_mm_loadl_epi64((const __m128i*)from)));
  int64_t k = 0;
  for (; k + 16 <= bytes; k += 16) {
    const __m256i words = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)(from + k)));
    _mm256_storeu_si256((__m256i*)(to + k), _mm256_slli_epi16(words, kRowShift));
  }
  for (; k < bytes; k += 4) _mm_storel_epi64((__m128i*)(to + k), places(_mm_loadu_si32(from + k)));
}

/* Where columns of `rows` tap rows go. */
struct Target {
  uint16_t* to;
  int32_t rows;
  int64_t width, pitch;  // places of a tap row; from column to column
};

template <int kWidth>
BF_INLINE void stage_run(const uint8_t* from, int64_t pixel_bytes, int64_t row_bytes, int64_t tap_bytes, int32_t columns, Target& target) {
  uint16_t* const to = target.to;
  const int64_t width = target.width, pitch = target.pitch;
  target.to += columns * pitch;
  if (kWidth != 0) {
    for (int32_t i = 0; i < target.rows; ++i)
      for (int32_t c = 0; c < columns; ++c) stage_pixel<kWidth>(from + i * row_bytes + c * pixel_bytes, tap_bytes, to + i * width + c * pitch);
    return;
  }
  for (int32_t c = 0; c < columns; ++c)  // in the order of places: what is written behind a tap row is written again
    for (int32_t i = 0; i < target.rows; ++i) stage_pixel<0>(from + i * row_bytes + c * pixel_bytes, tap_bytes, to + i * width + c * pitch);
}

/* Columns ix, ix + 1, ... inside the image and outside; from: tap row 0 of column 0. */
template <int kWidth>
BF_INLINE void stage_columns(const Tile& t, const uint8_t* from, int32_t ix, int32_t columns, Target& target) {
  const int32_t before = ix >= 0 ? 0 : -ix < columns ? -ix : columns;
  stage_run<kWidth>(kZeroWords, 0, 0, t.tap_bytes, before, target);
  const int32_t room = t.in_w - ix - before, rest = columns - before, inside = rest < room ? rest : room > 0 ? room : 0;
  stage_run<kWidth>(from + (ix + before) * t.pixel_bytes, t.pixel_bytes, t.row_bytes, t.tap_bytes, inside, target);
  stage_run<kWidth>(kZeroWords, 0, 0, t.tap_bytes, rest - inside, target);
}

/* What is staged: a whole row of output pixels if it is short enough, else the tile at hand. */
class Stage {
 public:
  void begin_row(const Tile& t, int64_t width, int32_t pixels) {
    const bool follows = whole_row_ && t.origin == origin_ + t.row_bytes && t.rows == rows_ && t.rows > 1 && (width == 2 || width % 4 == 0) &&
                         first_place_ + kNear + 2 * width <= places_ + BF_B1_WINDOW;
    width_ = width, rows_ = t.rows, origin_ = t.origin, first_ = t.column;
    spread_ = t.dilation > 1 || t.stride > t.kernel_w;
    const int64_t columns = (int64_t)(pixels - 1) * t.stride + t.kernel_w;
    whole_row_ = !spread_ && columns > 1 && columns * t.rows * width <= kNear;
    if (!whole_row_) return;
    first_place_ = follows ? first_place_ + width : places_;
    const int32_t known = follows ? t.rows - 1 : 0;
    columns_into(t, t.origin + known * t.row_bytes, (int32_t)columns, Target{first_place_ + known * width, t.rows - known, width, t.rows * width});
  }

  /* Where the first pixel of a tile finds its places; they are there until the next call. */
  const uint16_t* tile(const Tile& t, int32_t pixels) {
    if (whole_row_) return first_place_ + (t.column - first_) * t.rows * width_;
    const int64_t column = t.rows * width_;
    first_ = t.column;
    if (!spread_) {
      columns_into(t, t.origin, (pixels - 1) * t.stride + t.kernel_w, Target{places_, t.rows, width_, column});
      return places_;
    }
    for (int32_t p = 0; p < pixels; ++p, first_ += t.stride)
      for (int32_t j = 0; j < t.kernel_w; ++j)
        columns_into(t, t.origin, 1, Target{places_ + (p * t.kernel_w + j) * column, t.rows, width_, column}, j * t.dilation);
    return places_;
  }

  /* From the places of a pixel to those of the next one. */
  int64_t pixel(const Tile& t) const { return t.rows * width_ * (spread_ ? t.kernel_w : t.stride); }

 private:
  static constexpr int64_t kNear = 4096;  // places: a row that takes more is staged tile by tile

  void columns_into(const Tile& t, const uint8_t* from, int32_t columns, Target target, int32_t offset = 0) {
    const int32_t ix = first_ + offset;
    if (width_ == 2) stage_columns<2>(t, from, ix, columns, target);
    else if (width_ == 4) stage_columns<4>(t, from, ix, columns, target);
    else if (width_ == 8) stage_columns<8>(t, from, ix, columns, target);
    else stage_columns<0>(t, from, ix, columns, target);
  }

  int64_t width_;          // bytes of a tap
  int32_t first_, rows_;   // input column of the first one staged; tap rows of a column
  bool spread_, whole_row_ = false;  // spread_: kernel_w columns for each pixel, those between them left out
  const uint8_t* origin_;
  uint16_t* first_place_;
  alignas(64) uint16_t places_[BF_B1_WINDOW + 32];
};

}  // namespace

#endif
