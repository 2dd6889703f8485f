/* What networks of tokens add: values in another order, and products of two values. */
#include <limits>

#include "graph/plan.h"

namespace bitfold {

KernelName Plan::rearrange(int x_id, int out_id, Array<int32_t> table, int run, bool across) {
  const Value x = defined(x_id, "Rearrange"), out = output(out_id, "Rearrange");
  require(x.kind == Kind::kF32 && out.kind == Kind::kF32, "Rearrange: needs f32 values");
  const int cut = across ? out.pixels() : out.c;
  require(run >= 1 && run <= x.c && cut % run == 0,
          "Rearrange: runs of " + std::to_string(run) + " do not divide " + std::to_string(cut) + " or are longer than a pixel of the input");
  const size_t count = static_cast<size_t>(out.pixels()) * out.c / run;
  require(table.size == count, "Rearrange: a table of " + std::to_string(table.size) + " entries; allowed: " + std::to_string(count));
  require(x.image_bytes() / 4 <= static_cast<size_t>(std::numeric_limits<int32_t>::max()), "Rearrange: the input has more than 2^31 elements");
  disjoint(out, x, false, "Rearrange");
  const auto places = std::make_shared<AlignedBuffer>(count * 4);
  const long long elements = static_cast<long long>(x.pixels()) * x.c;
  for (size_t i = 0; i < count; ++i) {
    const int32_t at = table.data[i];
    require(at >= 0 && at < elements && at % x.c + run <= x.c, "Rearrange: a run at position " + std::to_string(at) + " is not within a pixel");
    places->as<int32_t>()[i] = at / x.c * x.stride + at % x.c;
  }
  const bf_rearrange_args args{out.c, out.stride, run, places->as<int32_t>()};
  auto* fn = across ? ops_->rearrange_across : ops_->rearrange;
  return push(across ? "transpose" : run > 1 ? "copy_runs" : "gather", make_step([=](const Frame& f) {
    (void)places;  // args points into it
    f.per_image(out.pixels(), static_cast<double>(out.pixels()) * out.c, [&](int image, int begin, int end) {
      fn(&args, f.at<float>(x, image), f.at<float>(out, image), begin, end);
    });
  }));
}

KernelName Plan::matmul(int a_id, int b_id, int out_id) {
  const Value a = defined(a_id, "MatMul"), b = defined(b_id, "MatMul"), out = output(out_id, "MatMul");
  require(a.kind == Kind::kF32 && b.kind == Kind::kF32 && out.kind == Kind::kF32, "MatMul: needs f32 values");
  require(b.h == a.h && b.w == a.c && out.h == a.h && out.w == a.w && out.c == b.c, "MatMul: needs values (g, m, k), (g, k, n) and (g, m, n)");
  const int lanes = (out.c + 15) / 16 * 16;
  require(b.stride >= lanes && out.stride >= lanes, "MatMul: pixels without room for whole blocks of 16 channels");
  disjoint(out, a, false, "MatMul");
  disjoint(out, b, false, "MatMul");
  const bf_matmul_args args{a.w, a.c, out.c, a.stride, b.stride, out.stride};
  const bf_ops* ops = ops_;
  const double work = static_cast<double>(out.pixels()) * out.c * a.c;
  return push("matmul", make_step([=](const Frame& f) {
    f.per_image(out.pixels(), work, [&](int image, int begin, int end) {
      ops->matmul(&args, f.at<float>(a, image), f.at<float>(b, image), f.at<float>(out, image), begin, end);
    });
  }));
}

}  // namespace bitfold
