/* Plan for Python: typed arrays at the door, everything else is checked by Plan itself. */
#include "graph/plan.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <optional>
#include <tuple>

#include "python/bind_plan.h"

namespace nb = nanobind;
namespace bitfold {
namespace {

template <typename T>
using In = nb::ndarray<const T, nb::c_contig, nb::device::cpu>;
template <typename T>
using Maybe = std::optional<In<T>>;
using AnyIn = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Pair = std::pair<int, int>;
using Names = std::tuple<std::string, std::string, std::string>;

template <typename T>
Array<T> array(const Maybe<T>& a) {
  return a ? Array<T>{a->data(), a->size()} : Array<T>{};
}

Names names(const KernelName& k) { return {k.name, k.isa, k.reason}; }

Kind kind_of(const std::string& name) {
  for (Kind kind : {Kind::kF32, Kind::kI32, Kind::kI16, Kind::kU8, Kind::kBits}) {
    if (name == kind_name(kind)) return kind;
  }
  throw std::invalid_argument("unknown kind " + name + "; allowed: f32, i32, i16, u8, bits");
}

Outside outside_of(const std::string& name) {
  if (name == "f32") return Outside::kF32;
  if (name == "i32") return Outside::kI32;
  if (name == "i16") return Outside::kI16;
  if (name == "u8") return Outside::kU8;
  throw std::invalid_argument("unknown array type " + name + "; allowed: f32, i32, i16, u8");
}

Family family_of(const std::string& name) {
  for (Family family : {Family::kConvB1, Family::kConvPlanes, Family::kConvI8, Family::kConvU8, Family::kConvI16, Family::kConvF32,
                        Family::kAdderU8, Family::kDensePacked}) {
    if (name == family_name(family)) return family;
  }
  throw std::invalid_argument("unknown kernel family " + name);
}

/* ("binary" | "ternary" | "power_of_two" | "uniform", bits, signed, min_exp) */
using Format = std::tuple<std::string, int, bool, int>;
CodeFormat format_of(const Format& f) {
  CodeFormat out;
  const std::string& kind = std::get<0>(f);
  if (kind == "binary") out.kind = CodeKind::kBinary;
  else if (kind == "ternary") out.kind = CodeKind::kTernary;
  else if (kind == "power_of_two") out.kind = CodeKind::kPowerOfTwo;
  else if (kind == "uniform") out.kind = CodeKind::kUniform;
  else throw std::invalid_argument("unknown encoding " + kind);
  out.bits = std::get<1>(f), out.is_signed = std::get<2>(f), out.min_exp = std::get<3>(f);
  require(out.bits >= 1 && out.bits <= 16 && out.min_exp >= 0 && out.min_exp <= 14, "encoding out of range");
  return out;
}

bf_plane_kind plane_kind_of(const std::string& name) {
  if (name == "binary") return BF_PLANES_BINARY;
  if (name == "ternary") return BF_PLANES_TERNARY;
  if (name == "uniform") return BF_PLANES_UNIFORM;
  throw std::invalid_argument("encoding " + name + " has no packed form in the engine");
}

int add_value(Plan& p, const std::string& kind, std::array<int, 3> hwc, int stride, size_t offset, int planes, const std::string& planes_of,
              int min_code) {
  return p.add_value(kind_of(kind), hwc[0], hwc[1], hwc[2], stride, planes, plane_kind_of(planes_of), min_code, offset);
}

Names add_conv(Plan& p, const std::string& family, int x, AnyIn weights, std::tuple<int, int, int, int> weight_shape,
               std::optional<Format> weight_format, std::optional<Format> x_format, Pair stride, Pair padding, Pair dilation, int groups, int copies, int x_zero,
               int out_i32, int out_f32, int out_bits, int out_u8, int patch_sums, int residual, Maybe<float> mul, Maybe<float> table,
               Maybe<float> patch_mul, Maybe<int32_t> row_class, Maybe<int32_t> col_class, std::optional<std::pair<float, float>> clamp,
               Maybe<float> neg, Maybe<float> pos, Maybe<float> shift_in, Maybe<float> shift_out, Maybe<float> threshold_f32,
               Maybe<int32_t> threshold_i32, Maybe<float> levels_f32, Maybe<int32_t> levels_i32, bool levels_per_channel,
               Maybe<uint8_t> descending) {
  ConvSpec s;
  s.family = family_of(family);
  s.x = x, s.residual = residual, s.out_i32 = out_i32, s.out_f32 = out_f32, s.out_bits = out_bits, s.out_u8 = out_u8, s.patch_sums = patch_sums;
  std::tie(s.weights.out_c, s.weights.group_c, s.weights.kernel_h, s.weights.kernel_w) = weight_shape;
  s.kernel_h = s.weights.kernel_h, s.kernel_w = s.weights.kernel_w;
  std::tie(s.stride_h, s.stride_w) = stride;
  std::tie(s.pad_h, s.pad_w) = padding;
  std::tie(s.dilation_h, s.dilation_w) = dilation;
  s.groups = groups;
  require(weights.dtype() == (weight_format ? nb::dtype<uint8_t>() : nb::dtype<float>()), "Conv: weights have a wrong dtype");
  s.weight_count = weights.size();
  if (weight_format) {
    s.weights.planes = static_cast<const uint8_t*>(weights.data());
    s.weights.format = format_of(*weight_format);
  } else {
    s.weights.floats = static_cast<const float*>(weights.data());
  }
  if (x_format) s.x_format = format_of(*x_format);
  s.copies = copies, s.x_zero = x_zero;
  s.mul = array<float>(mul), s.table = array<float>(table), s.patch_mul = array<float>(patch_mul);
  s.row_class = array<int32_t>(row_class), s.col_class = array<int32_t>(col_class);
  s.neg = array<float>(neg), s.pos = array<float>(pos), s.shift_in = array<float>(shift_in), s.shift_out = array<float>(shift_out);
  if (s.neg.size) s.activation = BF_ACT_TWO_SLOPE;
  if (clamp) {
    require(s.activation == BF_ACT_NONE, "Conv: two activations");
    s.activation = BF_ACT_CLAMP;
    std::tie(s.low, s.high) = *clamp;
  }
  s.levels_f32 = array<float>(levels_f32), s.levels_i32 = array<int32_t>(levels_i32), s.levels_per_channel = levels_per_channel;
  s.threshold_f32 = array<float>(threshold_f32), s.threshold_i32 = array<int32_t>(threshold_i32), s.descending = array<uint8_t>(descending);
  return names(p.conv(s));
}

/* The kernel that would serve a shape; only what kernels look at when they refuse. */
Names kernel_for(const std::string& family, int in_c, int out_c, Pair kernel, int groups, int in_stride) {
  bf_conv_shape shape{};
  shape.in_c = in_c, shape.out_c = out_c, shape.kernel_h = kernel.first,
  shape.kernel_w = kernel.second, shape.groups = groups, shape.in_stride = in_stride;
  shape.stride_h = shape.stride_w = shape.dilation_h = shape.dilation_w = 1;
  for (int v : {in_c, out_c, kernel.first, kernel.second, groups, in_stride}) {
    require(v >= 1 && v <= 1 << 24, "conv_kernel_for: out of range");
  }
  require(in_c % groups == 0 && out_c % groups == 0, "conv_kernel_for: groups must divide the channels");
  const char* reason = "";
  const ConvKernel& k = find_conv_kernel(family_of(family), shape, active_isa(), &reason);
  return {k.name, isa_name(k.isa), reason};
}

/* Sums of the weight codes of one tap over its input channels: flat (out_c, kernel_h * kernel_w). */
std::vector<int32_t> sums_of_taps(In<uint8_t> planes, std::tuple<int, int, int, int> shape, const Format& format) {
  StoredWeights w;
  w.planes = planes.data();
  w.format = format_of(format);
  std::tie(w.out_c, w.group_c, w.kernel_h, w.kernel_w) = shape;
  require(w.out_c >= 1 && w.group_c >= 1 && w.kernel_h >= 1 && w.kernel_w >= 1, "tap_sums: wrong shape");
  const double expected = static_cast<double>(w.format.planes()) * w.out_c * w.kernel_h * w.kernel_w * ((w.group_c + 7) / 8);
  require(static_cast<double>(planes.size()) == expected, "tap_sums: wrong number of bytes");
  std::vector<int32_t> blocked(tap_sums_count(w));
  tap_sums(w, blocked.data());
  const size_t taps = static_cast<size_t>(w.kernel_h) * w.kernel_w;
  std::vector<int32_t> out(static_cast<size_t>(w.out_c) * taps);
  for (size_t o = 0; o < static_cast<size_t>(w.out_c); ++o) {
    for (size_t t = 0; t < taps; ++t) out[o * taps + t] = blocked[((o / 16) * taps + t) * 16 + o % 16];
  }
  return out;
}

}  // namespace

void bind_plan(nb::module_& m) {
  using namespace nb::literals;
  m.def("conv_kernel_for", &kernel_for, "family"_a, "in_c"_a, "out_c"_a, "kernel"_a, "groups"_a, "in_stride"_a);
  m.def("tap_sums", &sums_of_taps, "planes"_a, "shape"_a, "format"_a);

  nb::class_<Plan>(m, "Plan", "Values in one arena and the steps that compute them; checked while it is built. See bitfold.engine.plan.")
      .def(nb::init<int, int, size_t>(), "threads"_a, "chunk"_a, "arena_bytes"_a)
      .def("value", &add_value, "kind"_a, "hwc"_a, "stride"_a, "offset"_a, "planes"_a = 1, "planes_of"_a = "binary", "min_code"_a = 0)
      .def("input", [](Plan& p, int value, const std::string& outside) { p.add_input(value, outside_of(outside)); }, "value"_a, "outside"_a)
      .def("output", [](Plan& p, int value, const std::string& outside) { p.add_output(value, outside_of(outside)); },
           "value"_a, "outside"_a)
      .def("quantize",
           [](Plan& p, int x, int out, int levels, bool per_channel, Maybe<float> f32, Maybe<int32_t> i32, Maybe<uint8_t> descending,
              In<int16_t> alphabet) {
             return names(p.quantize(x, out, levels, per_channel, array<float>(f32), array<int32_t>(i32), array<uint8_t>(descending),
                                     {alphabet.data(), alphabet.size()}));
           },
           "x"_a, "out"_a, "levels"_a, "per_channel"_a, "f32"_a.none(), "i32"_a.none(), "descending"_a.none(), "alphabet"_a)
      .def("convert", [](Plan& p, int x, int out) { return names(p.convert(x, out)); }, "x"_a, "out"_a)
      .def("dequantize", [](Plan& p, int x, int out, float scale, float offset) { return names(p.dequantize(x, out, scale, offset)); },
           "x"_a, "out"_a, "scale"_a, "offset"_a)
      .def("affine",
           [](Plan& p, int x, int out, In<float> mul, In<float> bias) {
             return names(p.affine(x, out, {mul.data(), mul.size()}, {bias.data(), bias.size()}));
           },
           "x"_a, "out"_a, "mul"_a, "bias"_a)
      .def("arithmetic", [](Plan& p, const std::string& op, int a, int b, int out) { return names(p.arithmetic(op, a, b, out)); },
           "op"_a, "a"_a, "b"_a, "out"_a)
      .def("clamp", [](Plan& p, int x, int out, float low, float high) { return names(p.clamp(x, out, low, high)); },
           "x"_a, "out"_a, "low"_a, "high"_a)
      .def("two_slope",
           [](Plan& p, int x, int out, Maybe<float> neg, Maybe<float> pos, Maybe<float> shift_in, Maybe<float> shift_out) {
             return names(p.two_slope(x, out, array<float>(neg), array<float>(pos), array<float>(shift_in), array<float>(shift_out)));
           },
           "x"_a, "out"_a, "neg"_a, "pos"_a.none(), "shift_in"_a.none(), "shift_out"_a.none())
      .def("unary", [](Plan& p, const std::string& op, int x, int out) { return names(p.unary(op, x, out)); }, "op"_a, "x"_a, "out"_a)
      .def("pool",
           [](Plan& p, const std::string& op, int x, int out, Pair kernel, Pair stride, std::array<int, 4> padding, Pair dilation,
              bool count_padding) {
             const Window w{kernel.first, kernel.second, stride.first, stride.second,  padding[0],
                            padding[1],   padding[2],    padding[3],   dilation.first, dilation.second};
             return names(p.pool(op, x, out, w, count_padding));
           },
           "op"_a, "x"_a, "out"_a, "kernel"_a, "stride"_a, "padding"_a, "dilation"_a, "count_padding"_a)
      .def("mean", [](Plan& p, const std::string& over, int x, int out) { return names(p.mean(over, x, out)); }, "over"_a, "x"_a, "out"_a)
      .def("flatten", [](Plan& p, int x, int out) { return names(p.flatten(x, out)); }, "x"_a, "out"_a)
      .def("concat", [](Plan& p, const std::vector<int>& xs, int out) { return names(p.concat(xs, out)); }, "xs"_a, "out"_a)
      .def("pad_channels", [](Plan& p, int x, int out, int before) { return names(p.pad_channels(x, out, before)); },
           "x"_a, "out"_a, "before"_a)
      .def("slice", [](Plan& p, int x, int out, int start) { return names(p.slice(x, out, start)); }, "x"_a, "out"_a, "start"_a)
      .def("upsample",
           [](Plan& p, int x, int out, In<int32_t> rows, In<int32_t> columns, Maybe<float> row_weights, Maybe<float> column_weights) {
             return names(p.upsample(x, out, {rows.data(), rows.size()}, {columns.data(), columns.size()}, array<float>(row_weights),
                                     array<float>(column_weights)));
           },
           "x"_a, "out"_a, "rows"_a, "columns"_a, "row_weights"_a.none(), "column_weights"_a.none())
      .def("depth_to_space",
           [](Plan& p, int x, int out, Pair factor, int groups, std::array<int, 4> crop) {
             return names(p.depth_to_space(x, out, factor, groups, crop));
           },
           "x"_a, "out"_a, "factor"_a, "groups"_a, "crop"_a)
      .def("rearrange",
           [](Plan& p, int x, int out, In<int32_t> table, int run, bool across) {
             return names(p.rearrange(x, out, {table.data(), table.size()}, run, across));
           },
           "x"_a, "out"_a, "table"_a, "run"_a, "across"_a)
      .def("matmul", [](Plan& p, int a, int b, int out) { return names(p.matmul(a, b, out)); }, "a"_a, "b"_a, "out"_a)
      .def("conv", &add_conv,
           "family"_a, "x"_a, "weights"_a, "weight_shape"_a, "weight_format"_a.none(), "x_format"_a.none(), "stride"_a, "padding"_a,
           "dilation"_a, "groups"_a, "copies"_a = 1, "x_zero"_a = 0, "out_i32"_a = -1, "out_f32"_a = -1, "out_bits"_a = -1, "out_u8"_a = -1, "patch_sums"_a = -1, "residual"_a = -1,
           "mul"_a = nb::none(), "table"_a = nb::none(), "patch_mul"_a = nb::none(), "row_class"_a = nb::none(), "col_class"_a = nb::none(),
           "clamp"_a = nb::none(), "neg"_a = nb::none(), "pos"_a = nb::none(), "shift_in"_a = nb::none(), "shift_out"_a = nb::none(),
           "threshold_f32"_a = nb::none(), "threshold_i32"_a = nb::none(), "levels_f32"_a = nb::none(), "levels_i32"_a = nb::none(),
           "levels_per_channel"_a = false, "descending"_a = nb::none())
      .def("finish", &Plan::finish)
      .def_prop_ro("arena_bytes", &Plan::arena_bytes)
      .def_prop_ro("threads", &Plan::threads)
      .def_prop_ro("allocations", &Plan::allocations);
}

}  // namespace bitfold
