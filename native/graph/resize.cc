/* Images of another size: Upsample, DepthToSpace. */
#include "graph/plan.h"

namespace bitfold {
namespace {

/* One axis of an Upsample: the tables of a step, checked. */
struct Axis {
  AlignedBuffer at, next, weights;
};

/* lowest: 0, or -1 where that position reads zeros. */
Axis make_axis(Array<int32_t> at, Array<float> weights, int lowest, int size, int out, const char* axis) {
  const std::string what = std::string("Upsample: ") + axis;
  require(at.size == static_cast<size_t>(out), what + ": " + std::to_string(at.size) + " entries; allowed: " + std::to_string(out));
  require(weights.size == 0 || weights.size == at.size,
          what + ": " + std::to_string(weights.size) + " weights; allowed: none or " + std::to_string(out));
  Axis a{AlignedBuffer(at.size * 4), AlignedBuffer(at.size * 4), AlignedBuffer(at.size * 4)};
  for (size_t i = 0; i < at.size; ++i) {
    require(at.data[i] >= lowest && at.data[i] < size, what + ": reads position " + std::to_string(at.data[i]) + "; allowed: " +
                                                           std::to_string(lowest) + " to " + std::to_string(size - 1));
    a.at.as<int32_t>()[i] = at.data[i];
    a.next.as<int32_t>()[i] = std::min(at.data[i] + 1, size - 1);
    if (weights.size != 0) a.weights.as<float>()[i] = weights.data[i];
  }
  return a;
}

}  // namespace

KernelName Plan::upsample(int x_id, int out_id, Array<int32_t> rows, Array<int32_t> columns, Array<float> row_weights,
                          Array<float> column_weights) {
  const Value x = defined(x_id, "Upsample"), out = output(out_id, "Upsample");
  require(x.kind == out.kind && x.c == out.c && x.planes == out.planes && x.plane_kind == out.plane_kind && x.min_code == out.min_code,
          "Upsample: input and output must have one type and channel count");
  require((row_weights.size == 0) == (column_weights.size == 0), "Upsample: weights of rows and columns, or of neither");
  const bool between = row_weights.size != 0;
  require(!between || x.kind == Kind::kF32, "Upsample: weights need f32 values");
  disjoint(out, x, false, "Upsample");
  const int lowest = x.kind == Kind::kF32 && !between ? -1 : 0;
  struct Tables {
    Axis rows, columns;
  };
  const auto tables = std::make_shared<Tables>(
      Tables{make_axis(rows, row_weights, lowest, x.h, out.h, "rows"), make_axis(columns, column_weights, lowest, x.w, out.w, "columns")});
  const int channels = x.kind == Kind::kBits ? x.stride : x.c;
  const bf_upsample_args args{channels,
                              x.w,
                              x.stride,
                              out.w,
                              out.stride,
                              tables->rows.at.as<int32_t>(),
                              tables->rows.next.as<int32_t>(),
                              tables->columns.at.as<int32_t>(),
                              tables->columns.next.as<int32_t>(),
                              between ? tables->rows.weights.as<float>() : nullptr,
                              between ? tables->columns.weights.as<float>() : nullptr};
  const bf_ops* ops = ops_;
  const int bytes = element_bytes(x.kind);
  const double work = static_cast<double>(out.pixels()) * channels * (between ? 4 : 1);
  return push(between ? "bilinear" : "nearest", make_step([=](const Frame& f) {
    (void)tables;  // args points into them
    f.per_image(out.h, work, [&](int image, int y0, int y1) {
      if (between) ops->bilinear(&args, f.at<float>(x, image), f.at<float>(out, image), y0, y1);
      else ops->nearest(&args, f.at<void>(x, image), f.at<void>(out, image), bytes, y0, y1);
    });
  }));
}

KernelName Plan::depth_to_space(int x_id, int out_id, std::pair<int, int> factor, int groups, const std::array<int, 4>& crop) {
  const Value x = defined(x_id, "DepthToSpace"), out = output(out_id, "DepthToSpace");
  require(x.kind == Kind::kF32 && out.kind == Kind::kF32, "DepthToSpace: needs f32 values");
  const int limit = 1 << 20;
  const auto [fh, fw] = factor;
  require(fh >= 1 && fh <= limit && fw >= 1 && fw <= limit && static_cast<double>(fh) * fw * out.c == x.c,
          "DepthToSpace: the input needs factor times the output's channels");
  require(groups >= 1 && out.c % groups == 0, "DepthToSpace: groups do not divide the channels");
  const auto [top, left, bottom, right] = crop;
  for (int cut : crop) require(cut >= 0 && cut <= limit, "DepthToSpace: crop out of range");
  require(static_cast<long long>(x.h) * fh == static_cast<long long>(out.h) + top + bottom &&
              static_cast<long long>(x.w) * fw == static_cast<long long>(out.w) + left + right,
          "DepthToSpace: the output's size does not follow from factor and crop");
  disjoint(out, x, false, "DepthToSpace");
  const bf_depth_to_space_args args{out.c, x.w, x.stride, out.w, out.stride, fh, fw, top, left, groups};
  const bf_ops* ops = ops_;
  const double work = static_cast<double>(out.pixels()) * out.c;
  return push("depth_to_space", make_step([=](const Frame& f) {
    f.per_image(out.h, work, [&](int image, int y0, int y1) {
      ops->depth_to_space(&args, f.at<float>(x, image), f.at<float>(out, image), y0, y1);
    });
  }));
}

}  // namespace bitfold
