/* Single conv kernels on NumPy arrays, for the differential tests and benchmarks. All relations of shapes are checked here. */
#include "python/bind_kernels.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "base/aligned.h"
#include "kernels/patch_sum/patch_sum.h"
#include "kernels/registry.h"

namespace nb = nanobind;

namespace bitfold {
namespace {

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Format = std::tuple<std::string, int, bool, int>;  // kind, bits, signed, min_exp

[[noreturn]] void refuse(const std::string& message) { throw std::invalid_argument("conv_run: " + message); }

const ConvKernel& kernel_named(const std::string& name) {
  size_t count = 0;
  const ConvKernel* kernels = conv_kernels(&count);
  for (size_t i = 0; i < count; ++i)
    if (name == kernels[i].name) {
      if (kernels[i].isa > detected_isa()) refuse(name + " needs an instruction set that this CPU does not have");
      return kernels[i];
    }
  refuse("unknown kernel " + name);
}

CodeFormat code_format(const Format& f) {
  const auto& [kind, bits, is_signed, min_exp] = f;
  CodeFormat format;
  if (kind == "binary") format.kind = CodeKind::kBinary;
  else if (kind == "ternary") format.kind = CodeKind::kTernary;
  else if (kind == "power_of_two") format.kind = CodeKind::kPowerOfTwo;
  else if (kind == "uniform") format.kind = CodeKind::kUniform;
  else refuse("unknown code format " + kind + "; allowed: binary, ternary, power_of_two, uniform");
  if (bits < 1 || bits > (format.kind == CodeKind::kPowerOfTwo ? 4 : 16)) refuse("format bits out of range");
  if (min_exp < 0 || min_exp > 14) refuse("min_exp must be 0 to 14");
  format.bits = bits;
  format.is_signed = is_signed;
  format.min_exp = min_exp;
  return format;
}

int extent(int in, int pad, int kernel, int dilation, int stride) {
  const int reach = in + 2 * pad - dilation * (kernel - 1) - 1;
  return reach < 0 ? 0 : reach / stride + 1;
}

/* in_h, in_w, in_c, out_c, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups, in_stride */
bf_conv_shape conv_shape(const std::vector<int>& v) {
  if (v.size() != 14) refuse("shape has " + std::to_string(v.size()) + " entries, expected 14");
  bf_conv_shape s = {};
  s.in_h = v[0], s.in_w = v[1], s.in_c = v[2], s.out_c = v[3], s.kernel_h = v[4], s.kernel_w = v[5], s.stride_h = v[6];
  s.stride_w = v[7], s.pad_h = v[8], s.pad_w = v[9], s.dilation_h = v[10], s.dilation_w = v[11], s.groups = v[12], s.in_stride = v[13];
  for (size_t i = 0; i < v.size(); ++i)
    if (v[i] < (i == 8 || i == 9 ? 0 : 1) || v[i] > 1 << 20) refuse("shape entry " + std::to_string(i) + " is out of range");
  if (s.in_c % s.groups != 0 || s.out_c % s.groups != 0) refuse("groups must divide both channel counts");
  s.out_h = extent(s.in_h, s.pad_h, s.kernel_h, s.dilation_h, s.stride_h);
  s.out_w = extent(s.in_w, s.pad_w, s.kernel_w, s.dilation_w, s.stride_w);
  if (s.out_h < 1 || s.out_w < 1) refuse("the output is empty");
  return s;
}

template <typename T>
const T* data_of(const Array& a, int64_t count, const char* what) {
  if (a.dtype() != nb::dtype<T>()) refuse(std::string(what) + " has the wrong dtype");
  if (static_cast<int64_t>(a.size()) != count)
    refuse(std::string(what) + " has " + std::to_string(a.size()) + " elements, expected " + std::to_string(count));
  return static_cast<const T*>(a.data());
}

/* An array of the epilogue, copied with padding to whole blocks; null if the key is absent. */
template <typename T>
const T* padded(const nb::dict& d, const char* key, int64_t rows, int64_t columns, int64_t stride, std::vector<AlignedBuffer>& keep) {
  if (!d.contains(key)) return nullptr;
  const T* from = data_of<T>(nb::cast<Array>(d[key]), rows * columns, key);
  keep.emplace_back(static_cast<size_t>(rows * stride) * sizeof(T));
  T* to = keep.back().as<T>();
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) to[r * stride + c] = from[r * columns + c];
  return to;
}

struct Call {
  const ConvKernel* kernel = nullptr;
  bf_conv_args args = {};
  std::vector<AlignedBuffer> keep;
  int64_t lanes = 0, blocks = 0, pixels = 0; /* lanes of the outputs; blocks of the weights */

  void add_input(const Array& input, const Format& in_format, const nb::dict& d);
  void add_bytes(const CodeFormat& format, int outside);
  void add_weights(const Array& weights, const Format& weight_format, const Format& in_format);
  void add_epilogue(const nb::dict& e);
  void* buffer(size_t bytes) {
    keep.emplace_back(bytes);
    return keep.back().data();
  }
  void run(int row_parts, int block_parts) const;
};

/* outside: the byte that stands for a tap outside the image. */
void Call::add_bytes(const CodeFormat& format, int outside) {
  const int base = std::min(0, format.min_code()), max = format.max_code() - base;
  if (base < -128 || max > 255) refuse("activations do not fit bytes");
  if (outside < 0 || outside > max) refuse("outside is not a byte of a code");
  args.in_bytes.base = base, args.in_bytes.max = max;
  const size_t size = round_up(static_cast<size_t>(args.shape.in_c / args.shape.groups), 8);
  args.in_bytes.outside = static_cast<uint8_t*>(std::memset(buffer(size), outside, size));
}

void Call::add_input(const Array& input, const Format& in_format, const nb::dict& d) {
  const bf_conv_shape& s = args.shape;
  const int64_t count = static_cast<int64_t>(s.in_h) * s.in_w * s.in_stride, words = (s.in_c + 31) / 32;
  int32_t* sums = nullptr;
  if (kernel->family != Family::kConvF32) sums = static_cast<int32_t*>(buffer(static_cast<size_t>(pixels * s.groups) * 4));
  args.epilogue.patch_sums = sums;
  if (kernel->family == Family::kConvF32 || kernel->family == Family::kConvI16) {
    if (s.in_stride < s.in_c) refuse("in_stride is smaller than in_c");
    if (kernel->family == Family::kConvF32) {
      args.input = data_of<float>(input, count, "input");
    } else {
      args.input = data_of<int16_t>(input, count, "input");
      find_patch_sum_i16(kernel->isa)(&s, static_cast<const int16_t*>(args.input), sums, 0, s.out_h);
    }
    return;
  }
  const CodeFormat format = code_format(in_format);
  const Family family = kernel->family;
  if (family == Family::kConvI8 || family == Family::kConvU8 || family == Family::kAdderU8 || family == Family::kDensePacked) {
    if (s.in_stride < s.in_c) refuse("in_stride is smaller than in_c");
    add_bytes(format, d.contains("outside") ? nb::cast<int>(d["outside"]) : -std::min(0, format.min_code()));
    if (kernel->family == Family::kConvU8 && args.in_bytes.base != 0) refuse("conv_u8 needs codes that are their bytes");
    args.input = data_of<uint8_t>(input, count, "input");
    find_patch_sum_u8(kernel->isa)(&s, args.in_bytes.base, static_cast<const uint8_t*>(args.input), sums, 0, s.out_h);
    return;
  }
  if (kernel->family == Family::kConvB1 && format.kind != CodeKind::kBinary) refuse("conv_b1 needs binary activations");
  args.in_planes = format.code_planes();
  if (s.in_stride < words * args.in_planes.planes) refuse("in_stride is smaller than the packed pixel");
  args.input = data_of<uint32_t>(input, count, "input");
  find_patch_sum_bits(kernel->isa)(&s, &args.in_planes, static_cast<const uint32_t*>(args.input), sums, 0, s.out_h);
}

void Call::add_weights(const Array& weights, const Format& weight_format, const Format& in_format) {
  const bf_conv_shape& s = args.shape;
  StoredWeights w;
  w.out_c = s.out_c, w.group_c = s.in_c / s.groups, w.kernel_h = s.kernel_h, w.kernel_w = s.kernel_w;
  const int64_t rows = static_cast<int64_t>(s.out_c) * s.kernel_h * s.kernel_w;
  if (kernel->family == Family::kConvF32 && weights.dtype() == nb::dtype<float>()) {
    w.floats = data_of<float>(weights, rows * w.group_c, "weights");
  } else {
    w.format = code_format(weight_format);
    if (kernel->family == Family::kConvB1 && w.format.kind != CodeKind::kBinary) refuse("conv_b1 needs binary weights");
    w.planes = data_of<uint8_t>(weights, w.format.planes() * rows * ((w.group_c + 7) / 8), "weights");
    if (kernel->family == Family::kDensePacked) {
      if (!w.format.packable()) refuse("dense_packed cannot hold these weights");
      args.weight_fields = w.format.packed_codes();
    }
    if (w.format.linear()) args.weight_planes = w.format.code_planes();
    int32_t* sums = static_cast<int32_t*>(buffer(tap_sums_count(w) * sizeof(int32_t)));
    tap_sums(w, sums);
    args.tap_sums = sums;
    if (w.format.kind == CodeKind::kTernary) {
      int32_t* nonzero = static_cast<int32_t*>(buffer(tap_sums_count(w) * sizeof(int32_t)));
      tap_nonzero(w, nonzero);
      args.tap_nonzero = nonzero;
    }
  }
  if (kernel->family == Family::kAdderU8) w.x_format = code_format(in_format);
  const size_t size = packed_size(kernel->layout, w);
  void* packed = buffer(size);
  pack_weights(kernel->layout, w, packed);
  if (kernel->layout == Layout::kI8) args.in_bytes.short_steps = short_steps(args.in_bytes.max, static_cast<int8_t*>(packed), size);
  args.weights = packed;
  if (kernel->family == Family::kAdderU8) {
    int32_t* excess = static_cast<int32_t*>(buffer(static_cast<size_t>(lanes) * 4));
    excess_sums(w, excess);
    args.excess = excess;
  }
}

void Call::add_epilogue(const nb::dict& d) {
  bf_epilogue& e = args.epilogue;
  const bf_conv_shape& s = args.shape;
  const int64_t channels = static_cast<int64_t>(s.out_c) * e.copies;
  e.mul = padded<float>(d, "mul", 1, channels, lanes, keep);
  if (e.mul) {
    if (!d.contains("table")) refuse("mul without table");
    const Array table = nb::cast<Array>(d["table"]);
    if (table.ndim() != 3) refuse("table must have the shape (row classes, column classes, out_c)");
    const int64_t classes = static_cast<int64_t>(table.shape(0) * table.shape(1));
    e.table = padded<float>(d, "table", classes, channels, lanes, keep);
    e.col_classes = static_cast<int32_t>(table.shape(1));
    e.row_class = padded<int32_t>(d, "row_class", 1, s.out_h, s.out_h, keep);
    e.col_class = padded<int32_t>(d, "col_class", 1, s.out_w, s.out_w, keep);
    for (int y = 0; e.row_class && y < s.out_h; ++y)
      if (e.row_class[y] < 0 || e.row_class[y] >= static_cast<int64_t>(table.shape(0))) refuse("row_class is out of range");
    for (int x = 0; e.col_class && x < s.out_w; ++x)
      if (e.col_class[x] < 0 || e.col_class[x] >= e.col_classes) refuse("col_class is out of range");
  }
  e.patch_mul = padded<float>(d, "patch_mul", 1, channels, lanes, keep);
  if (e.patch_mul && !e.patch_sums) refuse("patch_mul needs coded activations");
  e.residual = padded<float>(d, "residual", pixels, channels, lanes, keep);
  e.residual_stride = lanes;
  if (d.contains("neg")) e.activation = BF_ACT_TWO_SLOPE;
  e.neg = padded<float>(d, "neg", 1, channels, lanes, keep);
  e.pos = padded<float>(d, "pos", 1, channels, lanes, keep);
  e.shift_in = padded<float>(d, "shift_in", 1, channels, lanes, keep);
  e.shift_out = padded<float>(d, "shift_out", 1, channels, lanes, keep);
  if (e.activation == BF_ACT_TWO_SLOPE && !(e.pos && e.shift_in && e.shift_out)) refuse("neg, pos, shift_in and shift_out come together");
  if (d.contains("low") != d.contains("high")) refuse("low and high come together");
  if (d.contains("low")) e.activation = BF_ACT_CLAMP, e.low = nb::cast<float>(d["low"]), e.high = nb::cast<float>(d["high"]);
  e.threshold_f32 = padded<float>(d, "threshold_f32", 1, channels, lanes, keep);
  e.threshold_i32 = padded<int32_t>(d, "threshold_i32", 1, channels, lanes, keep);
  if (e.threshold_i32 && kernel->family == Family::kConvF32) refuse("conv_f32 has no integer thresholds");
  e.ascending = padded<uint16_t>(d, "ascending", 1, lanes / 16, lanes / 16, keep);
  if (((e.threshold_f32 != nullptr) + (e.threshold_i32 != nullptr)) != (e.ascending != nullptr))
    refuse("one of the thresholds comes with ascending");
  if (!d.contains("levels_f32") && !d.contains("levels_i32")) return;
  const char* key = d.contains("levels_f32") ? "levels_f32" : "levels_i32";
  e.level_count = static_cast<int32_t>(nb::cast<Array>(d[key]).size() / static_cast<size_t>(channels));
  if (e.level_count < 1 || e.level_count > 255) refuse("levels must have the shape (1 to 255, out_c)");
  e.levels_f32 = padded<float>(d, "levels_f32", e.level_count, channels, lanes, keep);
  e.levels_i32 = padded<int32_t>(d, "levels_i32", e.level_count, channels, lanes, keep);
  if (e.levels_f32 && e.levels_i32) refuse("levels of one kind only");
  if (e.levels_i32 && kernel->family == Family::kConvF32) refuse("conv_f32 has no integer levels");
  e.level_top = padded<int32_t>(d, "level_top", 1, channels, lanes, keep);
}

void Call::run(int row_parts, int block_parts) const {
  const int64_t steps = (blocks + kernel->block_step - 1) / kernel->block_step;
  for (int64_t r = 0; r < row_parts; ++r)
    for (int64_t b = 0; b < block_parts; ++b) {
      const int64_t y0 = r * args.shape.out_h / row_parts, y1 = (r + 1) * args.shape.out_h / row_parts;
      const int64_t b0 = b * steps / block_parts * kernel->block_step;
      const int64_t b1 = std::min<int64_t>((b + 1) * steps / block_parts * kernel->block_step, blocks);
      if (y0 < y1 && b0 < b1)
        kernel->run(&args, static_cast<int32_t>(y0), static_cast<int32_t>(y1), static_cast<int32_t>(b0), static_cast<int32_t>(b1));
    }
}

template <typename T>
nb::object to_numpy(const T* data, int64_t rows, int64_t columns) {
  T* copy = new T[static_cast<size_t>(rows * columns)];
  std::copy(data, data + rows * columns, copy);
  nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T>(copy, {static_cast<size_t>(rows), static_cast<size_t>(columns)}, owner));
}

Call make_call(const std::string& name, const std::vector<int>& shape, const Array& input, const Array& weights, const Format& in_format,
               const Format& weight_format, const nb::dict& epilogue) {
  Call call;
  call.kernel = &kernel_named(name);
  call.args.shape = conv_shape(shape);
  if (const char* why = call.kernel->refuses(&call.args.shape)) refuse(name + " does not serve this shape: " + why);
  call.pixels = static_cast<int64_t>(call.args.shape.out_h) * call.args.shape.out_w;
  const int copies = epilogue.contains("copies") ? nb::cast<int>(epilogue["copies"]) : 1;
  if (copies < 1 || copies > 16 || (copies > 1 && (call.args.shape.out_c % 16 != 0 || call.args.shape.groups != 1))) refuse("copies");
  call.args.epilogue.copies = copies;
  call.blocks = (static_cast<int64_t>(call.args.shape.out_c) + 15) / 16;
  call.lanes = static_cast<int64_t>(round_up(static_cast<size_t>(call.args.shape.out_c) * static_cast<size_t>(copies), 16));
  call.add_input(input, in_format, epilogue);
  call.add_weights(weights, weight_format, in_format);
  call.add_epilogue(epilogue);
  return call;
}

nb::dict conv_run(const std::string& name, const std::vector<int>& shape, const Array& input, const Array& weights, const Format& in_format,
                  const Format& weight_format, const nb::dict& epilogue, int row_parts, int block_parts) {
  if (row_parts < 1 || block_parts < 1) refuse("row_parts and block_parts must be at least 1");
  Call call = make_call(name, shape, input, weights, in_format, weight_format, epilogue);
  bf_epilogue& e = call.args.epilogue;
  const int64_t words = (call.lanes + 31) / 32;
  const size_t floats = static_cast<size_t>(call.pixels * call.lanes) * sizeof(float);
  const bool integers = call.kernel->family != Family::kConvF32;
  if (integers) e.out_i32 = static_cast<int32_t*>(call.buffer(floats));
  if (!e.threshold_i32 && !e.levels_i32) e.out_f32 = static_cast<float*>(call.buffer(floats));
  if (e.ascending) e.out_bits = static_cast<uint32_t*>(call.buffer(static_cast<size_t>(call.pixels * words) * sizeof(uint32_t)));
  if (e.out_bits) std::fill(e.out_bits, e.out_bits + call.pixels * words, 0xffffffffu);  // the kernel writes padding bits too
  if (e.level_count) e.out_u8 = static_cast<uint8_t*>(call.buffer(static_cast<size_t>(call.pixels * call.lanes)));
  e.out_i32_stride = e.out_f32_stride = e.out_u8_stride = call.lanes;
  e.out_bits_stride = words;
  {
    nb::gil_scoped_release release;
    call.run(row_parts, block_parts);
  }
  nb::dict result;
  if (e.out_i32) result["i32"] = to_numpy(e.out_i32, call.pixels, call.lanes);
  if (e.out_f32) result["f32"] = to_numpy(e.out_f32, call.pixels, call.lanes);
  if (e.out_bits) result["bits"] = to_numpy(e.out_bits, call.pixels, words);
  if (e.out_u8) result["u8"] = to_numpy(e.out_u8, call.pixels, call.lanes);
  if (integers) result["patch_sums"] = to_numpy(e.patch_sums, call.pixels, call.args.shape.groups);
  return result;
}

std::vector<double> conv_time(const std::string& name, const std::vector<int>& shape, const Array& input, const Array& weights,
                              const Format& in_format, const Format& weight_format, const nb::dict& epilogue, int repeats) {
  if (repeats < 1) refuse("repeats must be at least 1");
  Call call = make_call(name, shape, input, weights, in_format, weight_format, epilogue);
  bf_epilogue& e = call.args.epilogue;
  e.out_f32 = static_cast<float*>(call.buffer(static_cast<size_t>(call.pixels * call.lanes) * sizeof(float)));
  e.out_f32_stride = call.lanes;
  if (e.ascending) e.out_bits = static_cast<uint32_t*>(call.buffer(static_cast<size_t>(call.pixels * ((call.lanes + 31) / 32)) * 4));
  e.out_bits_stride = (call.lanes + 31) / 32;
  std::vector<double> seconds;
  nb::gil_scoped_release release;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    call.run(1, 1);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return seconds;
}

nb::list kernel_list() {
  size_t count = 0;
  const ConvKernel* kernels = conv_kernels(&count);
  nb::list rows;
  for (size_t i = 0; i < count; ++i)
    rows.append(nb::make_tuple(kernels[i].name, family_name(kernels[i].family), isa_name(kernels[i].isa), kernels[i].isa <= detected_isa()));
  return rows;
}

}  // namespace

void bind_kernels(nb::module_& m) {
  m.def("kernels", kernel_list, "(name, family, isa, available on this CPU) of every compiled conv and linear kernel, best first.");
  m.def(
      "conv_refusal",
      [](const std::string& name, const std::vector<int>& shape) -> std::optional<std::string> {
        const bf_conv_shape s = conv_shape(shape);
        const char* why = kernel_named(name).refuses(&s);
        return why ? std::optional<std::string>(why) : std::nullopt;
      },
      nb::arg("name"), nb::arg("shape"), "None if the kernel serves the shape, else the reason why not.");
  m.def("conv_run", conv_run, nb::arg("name"), nb::arg("shape"), nb::arg("input"), nb::arg("weights"), nb::arg("in_format"),
        nb::arg("weight_format"), nb::arg("epilogue"), nb::arg("row_parts") = 1, nb::arg("block_parts") = 1,
        "Runs one kernel; see native/kernels/conv.h and epilogue.h. Returns its outputs, one row per output pixel.");
  m.def("conv_time", conv_time, nb::arg("name"), nb::arg("shape"), nb::arg("input"), nb::arg("weights"), nb::arg("in_format"),
        nb::arg("weight_format"), nb::arg("epilogue"), nb::arg("repeats"), "Seconds of each of `repeats` runs.");
}

}  // namespace bitfold
