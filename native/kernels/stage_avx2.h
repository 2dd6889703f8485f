/* Staging for popcount tiles on AVX2: activations become the places of rows in a table, 16 bits each.
 *
 * Places lie as [column][tap row][place of a tap], columns outside the image being codes of 0, so that what a pixel reads is one run. The next
 * output row of stride 1 reads the same but a tap row on: moving the origin by one tap row turns every column's rows 1, 2, ... into 0, 1,
 * ..., and only the last row of each column is new.
 *
 * A Staging says how one input pixel becomes places: `width` of them for a tap, operator()(from, to), whether it writes no more than `width`
 * (kExact; if not, columns are staged in the order of their places, and up to kStageSlack are written behind the last).
 */
#ifndef BITFOLD_KERNELS_STAGE_AVX2_H_
#define BITFOLD_KERNELS_STAGE_AVX2_H_

#include "kernels/popcount_avx2.h"

namespace {

constexpr int64_t kStageSlack = 4;

/* What the pixels of a tile have staged: `runs` runs of `steps` places. */
struct Patches {
  const uint16_t* first;  // of pixel 0
  int64_t pixel, run;     // from pixel to pixel, from run to run, in bytes of memory
  int32_t runs, steps;
};

/* Where P pixels read their next place. Two address registers serve six pixels. */
template <int P>
struct Places {
  const char* base[(P + 2) / 3];
  int64_t pixel;
};

template <int P>
BF_INLINE Places<P> places_of(const Patches& a, int32_t run) {
  Places<P> places;
  places.pixel = a.pixel;
  for (int i = 0; i < (P + 2) / 3; ++i) places.base[i] = (const char*)a.first + run * a.run + 3 * i * a.pixel;
  return places;
}

/* Of pixel p, `ahead` places on. */
template <int P>
BF_INLINE uint32_t place_of(const Places<P>& a, int p, int ahead = 0) {
  return *(const uint16_t*)(a.base[p / 3] + p % 3 * a.pixel + 2 * ahead);
}

template <int P>
BF_INLINE void advance(Places<P>& a, int places = 1) {
  BF_UNROLL
  for (int i = 0; i < (P + 2) / 3; ++i) a.base[i] += 2 * places;
}

/* Where columns of `rows` tap rows go. */
struct Target {
  uint16_t* to;
  int32_t rows;
  int64_t pitch;  // places from column to column
};

template <typename Staging>
BF_INLINE void stage_run(const Staging& stage, const uint8_t* from, int64_t pixel_bytes, int64_t row_bytes, int32_t columns, Target& target) {
  uint16_t* const to = target.to;
  const int64_t width = stage.width, pitch = target.pitch;
  const int32_t rows = target.rows;
  target.to += columns * pitch;
  if (Staging::kExact) {
    for (int32_t i = 0; i < rows; ++i)
      for (int32_t c = 0; c < columns; ++c) stage(from + i * row_bytes + c * pixel_bytes, to + i * width + c * pitch);
  } else {
    for (int32_t c = 0; c < columns; ++c)
      for (int32_t i = 0; i < rows; ++i) stage(from + i * row_bytes + c * pixel_bytes, to + i * width + c * pitch);
  }
}

/* Columns ix, ix + 1, ... inside the image and outside; from: tap row 0 of column 0. */
template <typename Staging>
BF_INLINE void stage_columns(const Staging& stage, const Tile& t, const uint8_t* from, int32_t ix, int32_t columns, Target target) {
  const int32_t before = ix >= 0 ? 0 : -ix < columns ? -ix : columns;
  stage_run(stage, kZeroWords, 0, 0, before, target);
  const int32_t room = t.in_w - ix - before, rest = columns - before, inside = rest < room ? rest : room > 0 ? room : 0;
  stage_run(stage, from + (ix + before) * t.pixel_bytes, t.pixel_bytes, t.row_bytes, inside, target);
  stage_run(stage, kZeroWords, 0, 0, rest - inside, target);
}

/* What is staged: a whole row of output pixels if it is short enough, else the tile at hand, of at most kRoom places. */
template <int64_t kRoom>
class Stage {
 public:
  /* Before the tiles of a row of `pixels`. */
  template <typename Staging>
  void begin_row(const Staging& stage, const Tile& t, int32_t pixels) {
    const int64_t width = stage.width, column = t.rows * width, columns = (int64_t)(pixels - 1) * t.stride + t.kernel_w;
    const bool follows = Staging::kExact && whole_row_ && t.origin == origin_ + t.row_bytes && t.rows == rows_ && t.rows > 1 &&
                         first_place_ + columns * column + width <= places_ + kRoom;
    width_ = width, rows_ = t.rows, origin_ = t.origin, first_ = t.column;
    spread_ = t.dilation > 1 || t.stride > t.kernel_w;
    whole_row_ = !spread_ && columns > 1 && columns * column <= kNear;
    if (!whole_row_) return;
    first_place_ = follows ? first_place_ + width : places_;
    const int32_t known = follows ? t.rows - 1 : 0;
    stage_columns(stage, t, t.origin + known * t.row_bytes, first_, (int32_t)columns,
                  Target{first_place_ + known * width, t.rows - known, column});
  }

  bool holds_row() const { return whole_row_; }

  /* Stages a tile, unless its row is held. */
  template <typename Staging>
  void begin_tile(const Staging& stage, const Tile& t, int32_t pixels) {
    const int64_t column = t.rows * width_;
    first_ = t.column;
    first_place_ = places_;
    if (!spread_) return stage_columns(stage, t, t.origin, first_, (pixels - 1) * t.stride + t.kernel_w, Target{places_, t.rows, column});
    for (int32_t p = 0; p < pixels; ++p)
      for (int32_t j = 0; j < t.kernel_w; ++j)
        stage_columns(stage, t, t.origin, first_ + p * t.stride + j * t.dilation, 1,
                      Target{places_ + (p * t.kernel_w + j) * column, t.rows, column});
  }

  Patches patches(const Tile& t) const {
    const int64_t column = t.rows * width_;
    const bool one_run = t.rows == t.kernel_h;  // else the weights of tap rows outside the image lie between those of two columns
    return Patches{first_place_ + (t.column - first_) * column, 2 * column * (spread_ ? t.kernel_w : t.stride), 2 * column,
                   one_run ? 1 : t.kernel_w, (int32_t)(column * (one_run ? t.kernel_w : 1))};
  }

 private:
  static constexpr int64_t kNear = 4096;  // places: a row that takes more is staged tile by tile

  int64_t width_;          // places of a tap
  int32_t first_, rows_;   // input column of the first one staged; tap rows of a column
  bool spread_, whole_row_ = false;  // spread_: kernel_w columns for each pixel, those between them left out
  const uint8_t* origin_;
  uint16_t* first_place_;
  alignas(64) uint16_t places_[kRoom + kStageSlack];
};

}  // namespace

#endif
