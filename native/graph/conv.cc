/* Conv and Linear: one kernel call with everything its epilogue does. */
#include <numeric>

#include "graph/plan.h"
#include "kernels/patch_sum/patch_sum.h"

namespace bitfold {

constexpr int kLimit = 1 << 20;  // of kernel, stride, padding, dilation

/* The constants that a step keeps; the arguments point into them. */
struct Constants {
  AlignedBuffer weights, tap_sums, tap_nonzero, outside, excess, table, row_class, col_class, ascending;
  AlignedBuffer levels, level_top;
  std::shared_ptr<AlignedBuffer> mul, patch_mul, neg, pos, shift_in, shift_out, threshold_f32, threshold_i32;
};

struct ConvStep final : Step {
  ConvKernel kernel;
  bf_conv_args args{};  // without the pointers into the arena
  Value x, residual, out_i32, out_f32, out_bits, out_u8, patch_sums;
  bool has_residual = false, has_i32 = false, has_f32 = false, has_bits = false, has_u8 = false, has_sums = false;
  bool is_pointwise = false;  // pixels do not meet: those of all images are one row, which may be cut anywhere
  Constants constants;
  double macs = 0;

  bf_conv_args bind(const Frame& f, int image) const {
    bf_conv_args a = args;
    a.input = f.at<void>(x, image);
    if (has_i32) a.epilogue.out_i32 = f.at<int32_t>(out_i32, image);
    if (has_f32) a.epilogue.out_f32 = f.at<float>(out_f32, image);
    if (has_bits) a.epilogue.out_bits = f.at<uint32_t>(out_bits, image);
    if (has_u8) a.epilogue.out_u8 = f.at<uint8_t>(out_u8, image);
    if (has_residual) a.epilogue.residual = f.at<float>(residual, image);
    if (has_sums) a.epilogue.patch_sums = f.at<int32_t>(patch_sums, image);
    return a;
  }

  /* The pixels [begin, end) of all images as one row. */
  bf_conv_args bind_row(const Frame& f, int begin, int end) const {
    bf_conv_args a = bind(f, 0);
    const auto skip = [begin](auto*& pointer, const Value& v) {
      if (pointer != nullptr) pointer += static_cast<int64_t>(begin) * v.stride;
    };
    bf_epilogue& e = a.epilogue;
    a.input = static_cast<const uint8_t*>(a.input) + static_cast<int64_t>(begin) * x.stride * element_bytes(x.kind);
    skip(e.out_i32, out_i32), skip(e.out_f32, out_f32), skip(e.out_bits, out_bits), skip(e.out_u8, out_u8);
    skip(e.residual, residual), skip(e.patch_sums, patch_sums);
    a.shape.in_h = a.shape.out_h = 1;
    a.shape.in_w = a.shape.out_w = end - begin;
    return a;
  }

  /* How many pixels of a row go through a kernel at once: few enough for the nearest cache, though the weights are read anew for each such
   * part. conv_f32 cuts for itself; the weights of a matrix product are its larger side. */
  int part(int pixels) const {
    constexpr int kNear = 1 << 15, kFew = 24, kTile = 6;  // codes; pixels; pixels
    if (kernel.family == Family::kConvF32 || x.pixels() == 1) return pixels;
    const int most = std::max(kFew, kNear / args.shape.in_c / kTile * kTile), parts = (pixels + most - 1) / most;
    return ((pixels + parts - 1) / parts + kTile - 1) / kTile * kTile;
  }

  void run_row(const Frame& f) const {
    const int pixels = args.shape.out_h * args.shape.out_w * f.images, blocks = (args.shape.out_c + 15) / 16;
    const double work = macs * f.images / per_operation();
    constexpr int kRun = 12;  // pixels, of which tiles are made
    const int runs = (pixels + kRun - 1) / kRun;
    if (runs >= 4 * f.pool->threads()) {
      f.parallel(runs, work, [&](int r0, int r1) {
        const int end = std::min(r1 * kRun, pixels), step = part(end - r0 * kRun);
        for (int begin = r0 * kRun; begin < end; begin += step) {
          const bf_conv_args a = bind_row(f, begin, std::min(begin + step, end));
          kernel.run(&a, 0, 1, 0, blocks);
        }
      });
      return;
    }
    const bf_conv_args a = bind_row(f, 0, pixels);
    split_channels(f, work, [&](int b0, int b1) { kernel.run(&a, 0, 1, b0, b1); });
  }

  double per_operation() const { return kernel.family == Family::kConvF32 ? 8 : 64; }

  /* In units of whole words, so that two threads never write one word of packed bits. */
  template <typename F>
  void split_channels(const Frame& f, double work, F&& run_blocks) const {
    const int blocks = (args.shape.out_c + 15) / 16, unit = std::lcm(kernel.block_step, 2);
    f.parallel((blocks + unit - 1) / unit, work, [&](int u0, int u1) { run_blocks(u0 * unit, std::min(u1 * unit, blocks)); });
  }

  void sum_patches(const Frame& f) const {
    const bf_conv_shape& shape = args.shape;
    auto sum = [&](int image, int y0, int y1) {
      const bf_conv_args a = bind(f, image);
      int32_t* sums = f.at<int32_t>(patch_sums, image);
      if (x.kind == Kind::kBits) find_patch_sum_bits(kernel.isa)(&a.shape, &a.in_planes, f.at<uint32_t>(x, image), sums, y0, y1);
      else if (x.kind == Kind::kU8) find_patch_sum_u8(kernel.isa)(&a.shape, a.in_bytes.base, f.at<uint8_t>(x, image), sums, y0, y1);
      else find_patch_sum_i16(kernel.isa)(&a.shape, f.at<int16_t>(x, image), sums, y0, y1);
    };
    f.per_image(shape.out_h, static_cast<double>(shape.out_h) * shape.out_w * shape.kernel_h * shape.kernel_w * shape.in_c / 8, sum);
  }

  void run(const Frame& f) const override {
    if (has_sums) sum_patches(f);
    if (is_pointwise) return run_row(f);
    const int rows = args.shape.out_h, blocks = (args.shape.out_c + 15) / 16;
    const double work = macs / per_operation();
    if (f.images * rows >= 4 * f.pool->threads()) {
      f.per_image(rows, work, [&](int image, int y0, int y1) {
        const bf_conv_args a = bind(f, image);
        kernel.run(&a, y0, y1, 0, blocks);
      });
      return;
    }
    for (int image = 0; image < f.images; ++image) {  // few rows: the channels are split
      const bf_conv_args a = bind(f, image);
      split_channels(f, work, [&](int b0, int b1) { kernel.run(&a, 0, rows, b0, b1); });
    }
  }
};

namespace {

Kind input_kind(Family family) {
  switch (family) {
    case Family::kConvB1:
    case Family::kConvPlanes: return Kind::kBits;
    case Family::kConvI8:
    case Family::kDensePacked:
    case Family::kConvU8: return Kind::kU8;
    case Family::kConvI16: return Kind::kI16;
    case Family::kConvF32: return Kind::kF32;
    case Family::kAdderU8: return Kind::kU8;
  }
  throw std::invalid_argument("Conv: unknown kernel family");
}

int out_size(int size, int kernel, int stride, int pad, int dilation, const char* axis) {
  const long long room = static_cast<long long>(size) + 2LL * pad - static_cast<long long>(dilation) * (kernel - 1) - 1;
  require(room >= 0, std::string("Conv: the kernel does not fit into the padded image's ") + axis);
  return static_cast<int>(room / stride + 1);
}

bf_conv_shape make_shape(const ConvSpec& s, const Value& x) {
  for (int v : {s.kernel_h, s.kernel_w, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w}) {
    require(v >= 1 && v <= kLimit, "Conv: kernel, stride or dilation out of range");
  }
  for (int v : {s.pad_h, s.pad_w}) require(v >= 0 && v <= kLimit, "Conv: padding out of range");
  const StoredWeights& w = s.weights;
  require(w.out_c >= 1 && w.group_c >= 1 && w.kernel_h == s.kernel_h && w.kernel_w == s.kernel_w, "Conv: weights have a wrong shape");
  require(s.groups >= 1 && w.out_c % s.groups == 0 && static_cast<long long>(w.group_c) * s.groups == x.c,
          "Conv: groups do not divide the channels");
  bf_conv_shape shape{};
  shape.in_h = x.h, shape.in_w = x.w, shape.in_c = x.c, shape.out_c = w.out_c;
  shape.out_h = out_size(x.h, s.kernel_h, s.stride_h, s.pad_h, s.dilation_h, "height");
  shape.out_w = out_size(x.w, s.kernel_w, s.stride_w, s.pad_w, s.dilation_w, "width");
  shape.kernel_h = s.kernel_h, shape.kernel_w = s.kernel_w, shape.stride_h = s.stride_h, shape.stride_w = s.stride_w;
  shape.pad_h = s.pad_h, shape.pad_w = s.pad_w, shape.dilation_h = s.dilation_h, shape.dilation_w = s.dilation_w;
  shape.groups = s.groups, shape.in_stride = x.stride;
  return shape;
}

void check_weights(const ConvSpec& s) {
  const StoredWeights& w = s.weights;
  const bool coded = w.planes != nullptr;
  require(coded != (w.floats != nullptr), "Conv: weights must be either codes or floats");
  require(coded || s.family == Family::kConvF32, "Conv: float weights need float activations");
  require(s.family != Family::kConvB1 || w.format.kind == CodeKind::kBinary, "Conv: conv_b1 needs binary weights");
  require(s.family != Family::kConvPlanes || w.format.linear(), "Conv: conv_planes cannot hold power-of-two weights");
  require(s.family != Family::kDensePacked || w.format.packable(), "Conv: dense_packed holds weights in fields of at most 4 bits; these need more");
  const CodeFormat& f = w.format;
  require(!coded || (f.bits >= 1 && f.bits <= 16 && f.min_exp >= 0 && f.min_exp <= 14 && f.planes() <= 16),
          "Conv: weights' encoding out of range");
  const double rows = static_cast<double>(w.out_c) * w.kernel_h * w.kernel_w;
  const double expected = coded ? rows * w.format.planes() * ((w.group_c + 7) / 8) : rows * w.group_c;
  require(static_cast<double>(s.weight_count) == expected,
          "Conv: weights have " + std::to_string(s.weight_count) + " elements, expected another number");
}

/* Positions of one axis to classes; every class has a row of the table. */
AlignedBuffer class_index(Array<int32_t> index, int size, size_t classes, const char* axis) {
  require(index.size == 0 ? classes == 1 : index.size == static_cast<size_t>(size),
          std::string("Conv: wrong number of ") + axis + " classes");
  AlignedBuffer buffer(static_cast<size_t>(size) * 4);
  for (size_t i = 0; i < index.size; ++i) {
    require(index.data[i] >= 0 && static_cast<size_t>(index.data[i]) < classes, std::string("Conv: a ") + axis + " class is out of range");
    buffer.as<int32_t>()[i] = index.data[i];
  }
  return buffer;
}

/* adder_u8: uniform codes, one of them for the value 0, and sums that fit an int32. */
void check_distance(const ConvSpec& s) {
  const CodeFormat &a = s.x_format, &w = s.weights.format;
  require(a.kind == CodeKind::kUniform && a.bits <= 8, "Conv: adder_u8 needs uniform activations of 1 to 8 bits");
  require(s.weights.planes != nullptr && w.kind == CodeKind::kUniform && w.bits >= 1 && w.bits <= 16, "Conv: adder_u8 needs uniform weights");
  require(s.x_zero >= a.min_code() && s.x_zero <= a.max_code(), "Conv: the zero point is not a code of the activations");
  const double terms = static_cast<double>(s.weights.group_c) * s.kernel_h * s.kernel_w;
  const int farthest = std::max(a.max_code() - w.min_code(), w.max_code() - a.min_code());
  require(terms * farthest < 2147483648.0, "Conv: distances do not fit int32 accumulators");
  require(s.patch_sums < 0, "Conv: adder_u8 has no patch sums");
}

/* No sum of products of codes leaves int32. The encodings decide, as when a graph is checked, whatever the codes at hand. */
void check_sums(const ConvSpec& s) {
  const auto largest = [](const CodeFormat& f) { return std::max(f.max_code(), -f.min_code()); };
  const double terms = static_cast<double>(s.weights.group_c) * s.kernel_h * s.kernel_w;
  require(terms * largest(s.x_format) * largest(s.weights.format) < 2147483648.0,
          std::string("Conv: sums of ") + family_name(s.family) + " do not fit int32 accumulators");
}

/* What a byte of the input can be, and the row that stands for taps outside the image. */
void set_bytes(const ConvSpec& s, ConvStep& k) {
  bf_byte_codes& bytes = k.args.in_bytes;
  const CodeFormat& f = s.x_format;
  require(f.bits >= 1 && f.bits <= 16 && f.min_exp >= 0 && f.min_exp <= 14, "Conv: the encoding of the activations is out of range");
  require(!f.linear() || std::min(0, f.min_code()) == k.x.min_code, "Conv: the encoding of the activations does not fit their bytes");
  bytes.base = k.x.min_code;
  bytes.max = std::min(255, f.max_code() - bytes.base);
  if (s.family == Family::kAdderU8) check_distance(s);
  const size_t octets = round_up(static_cast<size_t>(k.x.c / s.groups), 8);
  k.constants.outside = AlignedBuffer(octets);
  std::fill_n(k.constants.outside.as<uint8_t>(), octets, static_cast<uint8_t>((s.family == Family::kAdderU8 ? s.x_zero : 0) - bytes.base));
  bytes.outside = k.constants.outside.as<uint8_t>();
}

void set_input(const ConvSpec& s, ConvStep& k) {
  require(k.x.kind == input_kind(s.family),
          std::string("Conv: the input is held as ") + kind_name(k.x.kind) + ", which " + family_name(s.family) + " does not read");
  require(s.family != Family::kConvB1 || k.x.plane_kind == BF_PLANES_BINARY, "Conv: conv_b1 needs binary activations");
  require(s.family != Family::kConvU8 || k.x.min_code == 0, "Conv: conv_u8 needs codes that are their bytes");
  k.args.shape = make_shape(s, k.x);
  const int out_c = k.args.shape.out_c;
  require(s.copies >= 1 && s.copies <= 1 << 16 && static_cast<double>(s.copies) * out_c <= 1 << 24, "Conv: copies out of range");
  require(s.copies == 1 || (out_c % 16 == 0 && s.groups == 1), "Conv: copies need whole blocks of 16 channels, and one group");
  k.args.epilogue.copies = s.copies;
  if (k.x.kind == Kind::kBits) {
    require(s.x_format.linear() && s.x_format.bits >= 1 && s.x_format.bits <= 16 && s.x_format.planes() == k.x.planes,
            "Conv: the encoding of the activations does not fit their planes");
    k.args.in_planes = s.x_format.code_planes();
  }
  if (k.x.kind == Kind::kU8) set_bytes(s, k);
  if ((k.x.kind == Kind::kBits || k.x.kind == Kind::kU8) && s.family != Family::kAdderU8) check_sums(s);
  const bf_conv_shape& shape = k.args.shape;
  k.macs = static_cast<double>(shape.out_h) * shape.out_w * shape.out_c * s.weights.group_c * s.kernel_h * s.kernel_w;
  const bool steps = s.stride_h != 1 || s.stride_w != 1;
  k.is_pointwise = s.kernel_h == 1 && s.kernel_w == 1 && s.pad_h == 0 && s.pad_w == 0 && (!steps || k.x.pixels() == 1);
  if (k.is_pointwise) {  // the stride of a single pixel means nothing
    k.args.shape.stride_h = k.args.shape.stride_w = k.args.shape.dilation_h = k.args.shape.dilation_w = 1;
  }
}

void set_weights(const ConvSpec& s, ConvStep& k) {
  Constants& c = k.constants;
  StoredWeights weights = s.weights;
  weights.x_format = s.x_format;
  const size_t size = packed_size(k.kernel.layout, weights);
  c.weights = AlignedBuffer(size + kAlignment);
  pack_weights(k.kernel.layout, weights, c.weights.data());
  k.args.weights = c.weights.data();
  if (s.family == Family::kConvI8) k.args.in_bytes.short_steps = short_steps(k.args.in_bytes.max, c.weights.as<int8_t>(), size);
  if (s.family == Family::kAdderU8) {
    c.excess = AlignedBuffer(round_up(static_cast<size_t>(s.weights.out_c), 16) * 4);
    excess_sums(weights, c.excess.as<int32_t>());
    k.args.excess = c.excess.as<int32_t>();
  }
  if (s.family == Family::kConvU8 || s.family == Family::kConvI16 || s.family == Family::kConvF32 || s.family == Family::kAdderU8) return;
  c.tap_sums = AlignedBuffer(tap_sums_count(s.weights) * 4);
  tap_sums(s.weights, c.tap_sums.as<int32_t>());
  k.args.tap_sums = c.tap_sums.as<int32_t>();
  if (s.family == Family::kConvI8) return;
  if (s.family == Family::kDensePacked) {
    k.args.weight_fields = s.weights.format.packed_codes();
    require(k.has_sums || k.args.weight_fields.base == 0, "Conv: dense_packed with these weights needs patch sums");
    return;
  }
  k.args.weight_planes = s.weights.format.code_planes();
  if (s.weights.format.kind == CodeKind::kTernary) {
    c.tap_nonzero = AlignedBuffer(tap_sums_count(s.weights) * 4);
    tap_nonzero(s.weights, c.tap_nonzero.as<int32_t>());
    k.args.tap_nonzero = c.tap_nonzero.as<int32_t>();
  }
  require(k.has_sums || s.family == Family::kConvB1 || k.args.weight_planes.base == 0,
          "Conv: conv_planes with these weights needs patch sums");
}

int out_channels(const ConvStep& k) { return k.args.shape.out_c * k.args.epilogue.copies; }

size_t count_classes(Array<int32_t> index) {
  return index.size == 0 ? 1 : 1 + static_cast<size_t>(std::max(0, *std::max_element(index.data, index.data + index.size)));
}

void set_scaling(const ConvSpec& s, ConvStep& k) {
  bf_epilogue& e = k.args.epilogue;
  Constants& c = k.constants;
  const size_t oc = static_cast<size_t>(out_channels(k)), block_lanes = round_up(oc, 16);
  e.col_classes = 1;
  if (s.mul.size != 0) {
    const size_t rows = count_classes(s.row_class), cols = count_classes(s.col_class);
    require(rows * cols * oc == s.table.size, "Conv: the epilogue's table has a wrong size");
    require(!k.is_pointwise || rows * cols == 1, "Conv: a pointwise layer has one border class");
    c.row_class = class_index(s.row_class, k.args.shape.out_h, rows, "row");
    c.col_class = class_index(s.col_class, k.args.shape.out_w, cols, "column");
    c.table = AlignedBuffer(rows * cols * block_lanes * 4);
    for (size_t r = 0; r < rows * cols; ++r) {
      std::copy(s.table.data + r * oc, s.table.data + (r + 1) * oc, c.table.as<float>() + r * block_lanes);
    }
    c.mul = lanes(s.mul, out_channels(k), 1.0f, "Conv mul");
    e.mul = c.mul->as<float>(), e.table = c.table.as<float>(), e.col_classes = static_cast<int32_t>(cols);
    e.row_class = rows > 1 ? c.row_class.as<int32_t>() : nullptr;
    e.col_class = cols > 1 ? c.col_class.as<int32_t>() : nullptr;
  }
  if (s.patch_mul.size != 0) {
    require(s.mul.size != 0 && k.has_sums, "Conv: patch_mul needs mul and patch sums");
    c.patch_mul = lanes(s.patch_mul, out_channels(k), 0.0f, "Conv patch_mul");
    e.patch_mul = c.patch_mul->as<float>();
  }
}

void set_activation(const ConvSpec& s, ConvStep& k) {
  bf_epilogue& e = k.args.epilogue;
  Constants& c = k.constants;
  const int oc = out_channels(k);
  require(s.activation == BF_ACT_NONE || s.activation == BF_ACT_TWO_SLOPE || s.activation == BF_ACT_CLAMP, "Conv: unknown activation");
  e.activation = s.activation, e.low = s.low, e.high = s.high;
  if (s.activation != BF_ACT_TWO_SLOPE) return;
  c.neg = lanes(s.neg, oc, 1.0f, "Conv neg"), c.pos = lanes(s.pos, oc, 1.0f, "Conv pos");
  c.shift_in = lanes(s.shift_in, oc, 0.0f, "Conv shift_in"), c.shift_out = lanes(s.shift_out, oc, 0.0f, "Conv shift_out");
  e.neg = c.neg->as<float>(), e.pos = c.pos->as<float>(), e.shift_in = c.shift_in->as<float>(), e.shift_out = c.shift_out->as<float>();
}

void set_thresholds(const ConvSpec& s, ConvStep& k) {
  bf_epilogue& e = k.args.epilogue;
  Constants& c = k.constants;
  const int oc = out_channels(k);
  const bool by_float = s.threshold_f32.size != 0, by_int = s.threshold_i32.size != 0;
  require(k.has_bits ? by_float != by_int : !by_float && !by_int, "Conv: packed output needs one kind of thresholds");
  require(!(by_int && s.family == Family::kConvF32), "Conv: conv_f32 has no integer thresholds");
  if (!k.has_bits) return;
  require(s.descending.size == 0 || s.descending.size == static_cast<size_t>(oc), "Conv: descending has a wrong size");
  if (by_float) c.threshold_f32 = lanes(s.threshold_f32, oc, 0.0f, "Conv thresholds"), e.threshold_f32 = c.threshold_f32->as<float>();
  else c.threshold_i32 = lanes(s.threshold_i32, oc, 0, "Conv thresholds"), e.threshold_i32 = c.threshold_i32->as<int32_t>();
  c.ascending = AlignedBuffer(round_up(static_cast<size_t>(oc), 16) / 16 * 2);
  for (int o = 0; o < oc; ++o) {
    if (s.descending.size == 0 || s.descending.data[o] == 0) c.ascending.as<uint16_t>()[o / 16] |= static_cast<uint16_t>(1u << (o % 16));
  }
  e.ascending = c.ascending.as<uint16_t>();
}

/* [row][count], one row or one a channel, to [count][lanes]. */
template <typename T>
const T* arrange_levels(Array<T> levels, bool per_channel, int oc, AlignedBuffer& buffer, bf_epilogue& e) {
  const size_t rows = per_channel ? static_cast<size_t>(oc) : 1, count = levels.size / rows, block_lanes = round_up(static_cast<size_t>(oc), 16);
  require(count >= 1 && count <= 255 && count * rows == levels.size, "Conv: levels have a wrong size; allowed: 1 to 255 a row");
  buffer = AlignedBuffer(count * block_lanes * sizeof(T));
  for (size_t k = 0; k < count; ++k)
    for (size_t o = 0; o < static_cast<size_t>(oc); ++o) buffer.as<T>()[k * block_lanes + o] = levels.data[(per_channel ? o * count : 0) + k];
  e.level_count = static_cast<int32_t>(count);
  return buffer.as<T>();
}

void set_levels(const ConvSpec& s, ConvStep& k) {
  const bool by_float = s.levels_f32.size != 0, by_int = s.levels_i32.size != 0;
  require(k.has_u8 ? by_float != by_int : !by_float && !by_int, "Conv: u8 output needs one kind of levels");
  require(!(by_int && s.family == Family::kConvF32), "Conv: conv_f32 has no integer levels");
  if (!k.has_u8) return;
  require(!k.has_bits, "Conv: one output of codes at most");
  bf_epilogue& e = k.args.epilogue;
  const int oc = out_channels(k);
  if (by_float) e.levels_f32 = arrange_levels(s.levels_f32, s.levels_per_channel, oc, k.constants.levels, e);
  else e.levels_i32 = arrange_levels(s.levels_i32, s.levels_per_channel, oc, k.constants.levels, e);
  require(s.descending.size == 0 || s.descending.size == static_cast<size_t>(oc), "Conv: descending has a wrong size");
  if (s.descending.size == 0) return;
  k.constants.level_top = AlignedBuffer(round_up(static_cast<size_t>(oc), 16) * 4);
  for (int o = 0; o < oc; ++o) k.constants.level_top.as<int32_t>()[o] = s.descending.data[o] ? e.level_count : 0;
  e.level_top = k.constants.level_top.as<int32_t>();
}

}  // namespace

void Plan::conv_values(const ConvSpec& s, ConvStep& k) {
  const bf_conv_shape& shape = k.args.shape;
  const bool is_float = s.family == Family::kConvF32;
  const int channels = out_channels(k), block_lanes = static_cast<int>(round_up(static_cast<size_t>(channels), 16));
  const std::vector<std::pair<const bool*, const Value*>> others{
      {&k.has_residual, &k.residual}, {&k.has_i32, &k.out_i32}, {&k.has_f32, &k.out_f32}, {&k.has_bits, &k.out_bits}, {&k.has_u8, &k.out_u8}};
  auto attach = [&](int id, Kind kind, bool writes, bool& has, Value& v, const char* what) {
    if (id < 0) return;
    v = writes ? output(id, what) : defined(id, what);
    require(v.kind == kind && v.h == shape.out_h && v.w == shape.out_w && v.c == channels,
            std::string("Conv: ") + what + " has a wrong kind or shape");
    require(kind == Kind::kBits ? v.plane_kind == BF_PLANES_BINARY : v.stride >= block_lanes,
            std::string("Conv: ") + what + " has no room for whole blocks of channels");
    if (writes) {
      disjoint(v, k.x, false, what);
      for (const auto& [present, other] : others) {
        if (*present) disjoint(v, *other, &v == &k.out_f32 && other == &k.residual, what);
      }
    }
    has = true;
  };
  attach(s.residual, Kind::kF32, false, k.has_residual, k.residual, "residual");
  attach(s.out_i32, Kind::kI32, true, k.has_i32, k.out_i32, "i32 output");
  attach(s.out_f32, Kind::kF32, true, k.has_f32, k.out_f32, "f32 output");
  attach(s.out_bits, Kind::kBits, true, k.has_bits, k.out_bits, "packed output");
  attach(s.out_u8, Kind::kU8, true, k.has_u8, k.out_u8, "u8 output");
  require(k.has_i32 || k.has_f32 || k.has_bits || k.has_u8, "Conv: no output");
  require(!(is_float && (k.has_i32 || s.patch_sums >= 0)), "Conv: conv_f32 has neither an i32 output nor patch sums");
  if (s.patch_sums >= 0) {
    k.patch_sums = output(s.patch_sums, "patch sums");
    k.has_sums = true;
    const Value& p = k.patch_sums;
    require(p.kind == Kind::kI32 && p.h == shape.out_h && p.w == shape.out_w && p.c == shape.groups && p.stride == shape.groups,
            "Conv: patch sums have a wrong kind or shape");
    disjoint(p, k.x, false, "patch sums");
    for (const auto& [present, other] : others) {
      if (*present) disjoint(p, *other, false, "patch sums");
    }
  }
  bf_epilogue& e = k.args.epilogue;
  e.out_i32_stride = k.out_i32.stride, e.out_f32_stride = k.out_f32.stride,
  e.out_bits_stride = k.out_bits.stride, e.out_u8_stride = k.out_u8.stride, e.residual_stride = k.residual.stride;
}

KernelName Plan::conv(const ConvSpec& s) {
  auto step = std::make_unique<ConvStep>();
  step->x = defined(s.x, "Conv");
  set_input(s, *step);
  check_weights(s);
  conv_values(s, *step);
  const char* reason = "";
  step->kernel = find_conv_kernel(s.family, step->args.shape, isa_, &reason);
  set_weights(s, *step);
  set_scaling(s, *step);
  set_activation(s, *step);
  set_thresholds(s, *step);
  set_levels(s, *step);
  const KernelName name{step->kernel.name, isa_name(step->kernel.isa), reason};
  steps_.push_back(std::move(step));
  return name;
}

}  // namespace bitfold
