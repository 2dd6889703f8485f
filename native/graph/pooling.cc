/* Pooling and means. */
#include "graph/plan.h"

namespace bitfold {
namespace {

bool within(int v, int low, int high) { return v >= low && v <= high; }

/* One axis of a window: sizes are sane, the output size is what they give, and every output position has a valid tap. */
void check_axis(int size, int out, int kernel, int stride, int before, int after, int dilation, const char* what) {
  const int limit = 1 << 20;
  const bool sane = within(kernel, 1, limit) && within(stride, 1, limit) && within(dilation, 1, limit) && within(before, 0, limit) &&
                    within(after, 0, limit);
  require(sane, std::string(what) + ": kernel, stride, padding or dilation out of range");
  const long long reach = static_cast<long long>(dilation) * (kernel - 1) + 1;
  const long long room = static_cast<long long>(size) + before + after - reach;
  require(room >= 0 && room / stride + 1 == out, std::string(what) + ": the output's size does not follow from kernel, stride and padding");
  for (long long o = 0; o < out; ++o) {
    const long long start = o * stride - before;
    const long long skipped = start >= 0 ? 0 : (-start + dilation - 1) / dilation;  // taps before the image
    require(skipped < kernel && start + skipped * dilation < size, std::string(what) + ": a window lies outside the image");
  }
}

}  // namespace

KernelName Plan::pool(const std::string& op, int x_id, int out_id, const Window& k, bool count_padding) {
  require(op == "max" || op == "avg", "pool: unknown operation " + op);
  const bool is_max = op == "max";
  const char* what = is_max ? "MaxPool" : "AvgPool";
  const Value x = defined(x_id, what), out = output(out_id, what);
  require(x.kind == out.kind && x.c == out.c && x.planes == out.planes && x.min_code == out.min_code,
          std::string(what) + ": input and output must have one type and channel count");
  require(is_max || x.kind == Kind::kF32, "AvgPool: needs f32 values");
  require(x.kind != Kind::kBits || (x.plane_kind == BF_PLANES_BINARY && out.plane_kind == BF_PLANES_BINARY),
          "MaxPool: of packed codes only Binary");
  check_axis(x.h, out.h, k.kernel_h, k.stride_h, k.pad_top, k.pad_bottom, k.dilation_h, what);
  check_axis(x.w, out.w, k.kernel_w, k.stride_w, k.pad_left, k.pad_right, k.dilation_w, what);
  disjoint(out, x, false, what);
  const int channels = x.kind == Kind::kBits ? x.words() : x.c;
  const bf_pool_args args{x.h,        x.w,        channels,  x.stride,   out.h,        out.w,        out.stride, k.kernel_h, k.kernel_w,
                          k.stride_h, k.stride_w, k.pad_top, k.pad_left, k.dilation_h, k.dilation_w, count_padding ? 1 : 0};
  const double work = static_cast<double>(out.pixels()) * args.c * k.kernel_h * k.kernel_w;
  const bf_ops* ops = ops_;
  const char* name = !is_max ? "avg_pool" : x.kind == Kind::kF32 ? "max_pool_f32" : x.kind == Kind::kI32 ? "max_pool_i32"
                     : x.kind == Kind::kI16 ? "max_pool_i16" : x.kind == Kind::kU8 ? "max_pool_u8" : "max_pool_bits";
  return push(name, make_step([=](const Frame& f) {
    f.per_image(out.h, work, [&](int image, int y0, int y1) {
      switch (x.kind) {
        case Kind::kF32: (is_max ? ops->max_pool_f32 : ops->avg_pool)(&args, f.at<float>(x, image), f.at<float>(out, image), y0, y1); break;
        case Kind::kI32: ops->max_pool_i32(&args, f.at<int32_t>(x, image), f.at<int32_t>(out, image), y0, y1); break;
        case Kind::kI16: ops->max_pool_i16(&args, f.at<int16_t>(x, image), f.at<int16_t>(out, image), y0, y1); break;
        case Kind::kU8: ops->max_pool_u8(&args, f.at<uint8_t>(x, image), f.at<uint8_t>(out, image), y0, y1); break;
        case Kind::kBits: ops->max_pool_bits(&args, f.at<uint32_t>(x, image), f.at<uint32_t>(out, image), y0, y1); break;
      }
    });
  }));
}

KernelName Plan::mean(const std::string& over, int x_id, int out_id) {
  require(over == "space" || over == "channels", "mean: over=" + over + "; allowed: space, channels");
  const bool space = over == "space";
  const Value x = defined(x_id, "Mean"), out = output(out_id, "Mean");
  const bool fits = space ? out.h == 1 && out.w == 1 && out.c == x.c : out.c == 1 && out.h == x.h && out.w == x.w;
  require(x.kind == Kind::kF32 && out.kind == Kind::kF32 && fits, "Mean: needs f32 values; output (C, 1, 1) or (1, H, W)");
  disjoint(out, x, false, "Mean");
  const bf_ops* ops = ops_;
  const double work = static_cast<double>(x.pixels()) * x.c;
  if (space) {
    const int blocks = (x.c + 31) / 32;
    return push("mean_space", make_step([=](const Frame& f) {
      f.per_image(blocks, work, [&](int image, int b, int e) {
        ops->mean_space(f.at<float>(x, image), f.at<float>(out, image), x.pixels(), x.stride, b * 32, std::min(e * 32, x.c));
      });
    }));
  }
  return push("mean_channels", make_step([=](const Frame& f) {
    f.parallel(f.images * x.pixels(), work * f.images, [&](int b, int e) {
      ops->mean_channels(f.at<float>(x), f.at<float>(out), x.c, x.stride, out.stride, b, e);
    });
  }));
}

}  // namespace bitfold
