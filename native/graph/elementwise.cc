/* Element-wise steps. Images of a chunk follow each other without gaps, so most steps see one long row of pixels. */
#include <algorithm>
#include <iterator>

#include "graph/plan.h"

namespace bitfold {
namespace {

double elements(const Frame& f, const Value& v) { return static_cast<double>(f.images) * v.pixels() * v.c; }

}  // namespace

KernelName Plan::dequantize(int x_id, int out_id, float scale, float offset) {
  const Value x = defined(x_id, "Dequantize"), out = output(out_id, "Dequantize");
  const bool bytes = x.kind == Kind::kU8;
  require((bytes || x.kind == Kind::kI16) && out.kind == Kind::kF32 && x.same_shape(out),
          "Dequantize: needs i16 or u8 codes and an f32 output of one shape");
  disjoint(out, x, false, "Dequantize");
  const bf_ops* ops = ops_;
  return push(bytes ? "dequantize_u8" : "dequantize_i16", make_step([=](const Frame& f) {
    f.parallel(f.images * x.pixels(), elements(f, x), [&](int b, int e) {
      if (bytes) ops->dequantize_u8(f.at<uint8_t>(x), x.min_code, f.at<float>(out), scale, offset, x.c, x.stride, out.stride, b, e);
      else ops->dequantize_i16(f.at<int16_t>(x), f.at<float>(out), scale, offset, x.c, x.stride, out.stride, b, e);
    });
  }));
}

KernelName Plan::affine(int x_id, int out_id, Array<float> mul, Array<float> bias) {
  const Value x = defined(x_id, "Affine"), out = output(out_id, "Affine");
  require((x.kind == Kind::kF32 || x.kind == Kind::kI32) && out.kind == Kind::kF32 && x.same_shape(out),
          "Affine: needs an f32 or i32 input and an f32 output of one shape");
  disjoint(out, x, true, "Affine");
  auto m = lanes(mul, x.c, 1.0f, "Affine"), t = lanes(bias, x.c, 0.0f, "Affine");
  const bf_ops* ops = ops_;
  const bool from_int = x.kind == Kind::kI32;
  return push(from_int ? "affine_i32" : "affine_f32", make_step([=](const Frame& f) {
    f.parallel(f.images * x.pixels(), elements(f, x), [&](int b, int e) {
      if (from_int) {
        ops->affine_i32(f.at<int32_t>(x), f.at<float>(out), m->as<float>(), t->as<float>(), x.c, x.stride, out.stride, b, e);
      } else {
        ops->affine_f32(f.at<float>(x), f.at<float>(out), m->as<float>(), t->as<float>(), x.c, x.stride, out.stride, b, e);
      }
    });
  }));
}

KernelName Plan::arithmetic(const std::string& op, int a_id, int b_id, int out_id) {
  require(op == "add" || op == "mul", "arithmetic: unknown operation " + op);
  const char* what = op == "add" ? "Add" : "Mul";
  const Value a = defined(a_id, what), b = defined(b_id, what), out = output(out_id, what);
  require(a.kind == Kind::kF32 && b.kind == Kind::kF32 && out.kind == Kind::kF32 && a.same_shape(out),
          std::string(what) + ": needs f32 values and an output of the first one's shape");
  const bool per_channel = b.h == 1 && b.w == 1 && b.c == a.c, per_pixel = b.c == 1 && b.h == a.h && b.w == a.w;
  const bool full = b.same_shape(a);
  require(full || per_channel || per_pixel, std::string(what) + ": the second value must have shape (C, H, W), (C, 1, 1) or (1, H, W)");
  disjoint(out, a, true, what);
  disjoint(out, b, full, what);
  const int b_pixel = full || per_pixel ? b.stride : 0, b_channel = full || per_channel ? 1 : 0;
  auto* fn = op == "add" ? ops_->add : ops_->mul;
  return push(op == "add" ? "add" : "mul", make_step([=](const Frame& f) {
    f.per_image(a.pixels(), static_cast<double>(a.pixels()) * a.c, [&](int image, int begin, int end) {
      fn(f.at<float>(a, image), f.at<float>(b, image), f.at<float>(out, image), a.c, a.stride, b_pixel, b_channel, out.stride, begin, end);
    });
  }));
}

KernelName Plan::clamp(int x_id, int out_id, float low, float high) {
  const Value x = defined(x_id, "Clamp"), out = output(out_id, "Clamp");
  require(x.kind == Kind::kF32 && out.kind == Kind::kF32 && x.same_shape(out), "Clamp: needs f32 values of one shape");
  disjoint(out, x, true, "Clamp");
  const bf_ops* ops = ops_;
  return push("clamp", make_step([=](const Frame& f) {
    f.parallel(f.images * x.pixels(), elements(f, x), [&](int b, int e) {
      ops->clamp(f.at<float>(x), f.at<float>(out), low, high, x.c, x.stride, out.stride, b, e);
    });
  }));
}

KernelName Plan::two_slope(int x_id, int out_id, Array<float> neg, Array<float> pos, Array<float> shift_in, Array<float> shift_out) {
  const Value x = defined(x_id, "TwoSlope"), out = output(out_id, "TwoSlope");
  require(x.kind == Kind::kF32 && out.kind == Kind::kF32 && x.same_shape(out), "TwoSlope: needs f32 values of one shape");
  require(neg.size != 0, "TwoSlope: neg is missing");
  disjoint(out, x, true, "TwoSlope");
  auto n = lanes(neg, x.c, 1.0f, "TwoSlope"), p = lanes(pos, x.c, 1.0f, "TwoSlope");
  auto i = lanes(shift_in, x.c, 0.0f, "TwoSlope"), o = lanes(shift_out, x.c, 0.0f, "TwoSlope");
  const bf_ops* ops = ops_;
  return push("two_slope", make_step([=](const Frame& f) {
    const bf_two_slope_args k{n->as<float>(), p->as<float>(), i->as<float>(), o->as<float>()};
    f.parallel(f.images * x.pixels(), elements(f, x), [&](int b, int e) {
      ops->two_slope(&k, f.at<float>(x), f.at<float>(out), x.c, x.stride, out.stride, b, e);
    });
  }));
}

KernelName Plan::unary(const std::string& op, int x_id, int out_id) {
  struct Map {
    const char* name;
    bf_map bf_ops::*kernel;
  };
  static const Map kMaps[] = {{"abs", &bf_ops::abs_f32},         {"softmax", &bf_ops::softmax},     {"sigmoid", &bf_ops::sigmoid},
                              {"tanh", &bf_ops::tanh_f32},       {"silu", &bf_ops::silu},           {"gelu", &bf_ops::gelu},
                              {"gelu_tanh", &bf_ops::gelu_tanh}, {"hardsigmoid", &bf_ops::hardsigmoid}, {"hardswish", &bf_ops::hardswish},
                              {"rsqrt", &bf_ops::rsqrt},         {"sqrt", &bf_ops::sqrt_f32},       {"reciprocal", &bf_ops::reciprocal}};
  const Map* map = std::find_if(std::begin(kMaps), std::end(kMaps), [&](const Map& m) { return op == m.name; });
  require(map != std::end(kMaps), "unary: unknown operation " + op);
  const Value x = defined(x_id, map->name), out = output(out_id, map->name);
  require(x.kind == Kind::kF32 && out.kind == Kind::kF32 && x.same_shape(out), op + ": needs f32 values of one shape");
  disjoint(out, x, true, map->name);
  const bf_map fn = ops_->*map->kernel;
  return push(map->name, make_step([=](const Frame& f) {
    f.parallel(f.images * x.pixels(), elements(f, x), [&](int b, int e) {
      fn(f.at<float>(x), f.at<float>(out), x.c, x.stride, out.stride, b, e);
    });
  }));
}

}  // namespace bitfold
