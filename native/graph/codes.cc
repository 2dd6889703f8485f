/* Steps that make codes or change how they are held. */
#include <cmath>
#include <limits>
#include <vector>

#include "graph/plan.h"

namespace bitfold {
namespace {

/* Thresholds as the kernels want them: few levels side by side, [levels - 1][lanes]; many as given, [row][levels - 1]. */
template <typename T>
std::shared_ptr<AlignedBuffer> arrange_thresholds(Array<T> t, int c, int levels, bool per_channel) {
  const size_t count = static_cast<size_t>(levels - 1), lanes = round_up(static_cast<size_t>(c), 16);
  if (levels > BF_COUNT_LEVELS) {
    auto buffer = std::make_shared<AlignedBuffer>(t.size * sizeof(T));
    std::copy(t.data, t.data + t.size, buffer->template as<T>());
    return buffer;
  }
  auto buffer = std::make_shared<AlignedBuffer>(count * lanes * sizeof(T));
  for (size_t k = 0; k < count; ++k) {
    for (int ch = 0; ch < c; ++ch) buffer->template as<T>()[k * lanes + ch] = t.data[(per_channel ? ch * count : 0) + k];
  }
  return buffer;
}

template <typename T>
std::shared_ptr<AlignedBuffer> copied(Array<T> a) {
  auto buffer = std::make_shared<AlignedBuffer>(a.size * sizeof(T));
  std::copy(a.data, a.data + a.size, buffer->template as<T>());
  return buffer;
}

/* The greatest number below t; t itself if there is none. */
float below(float t) { return std::nextafter(t, -std::numeric_limits<float>::infinity()); }
int32_t below(int32_t t) { return t > std::numeric_limits<int32_t>::min() ? t - 1 : t; }

/* The lines of bf_quantize_args, or none: through the ends of each row, whose thresholds must all be near. What rises with x needs looking
 * at only where the number of thresholds changes. */
template <typename T>
std::vector<float> lines_near(Array<T> thresholds, int count) {
  std::vector<float> lines;
  for (const T* t = thresholds.data; count >= BF_COUNT_LEVELS && t < thresholds.data + thresholds.size; t += count) {
    const double step = (static_cast<double>(t[count - 1]) - static_cast<double>(t[0])) / (count - 1);
    const float line[2] = {static_cast<float>(1 / step), static_cast<float>(1 - static_cast<double>(t[0]) / step)};
    if (!(line[0] > 0) || !std::isfinite(line[0]) || !std::isfinite(line[1])) return {};
    for (int k = 0; k < count; ++k)
      if (bf_near_level(static_cast<float>(t[k]), line, count) < k || bf_near_level(static_cast<float>(below(t[k])), line, count) > k + 1) return {};
    lines.insert(lines.end(), line, line + 2);
  }
  return lines;
}

}  // namespace

KernelName Plan::quantize(int x_id, int out_id, int levels, bool per_channel, Array<float> f32, Array<int32_t> i32,
                          Array<uint8_t> descending, Array<int16_t> alphabet) {
  const Value x = defined(x_id, "Quantize"), out = output(out_id, "Quantize");
  const bool from_int = x.kind == Kind::kI32;
  require((from_int || x.kind == Kind::kF32) && (out.kind == Kind::kI16 || out.kind == Kind::kU8 || out.kind == Kind::kBits) && x.same_shape(out),
          "Quantize: needs an f32 or i32 input and an output of codes of one shape");
  require(levels >= 2 && levels <= 65536, "Quantize: levels=" + std::to_string(levels) + "; allowed: 2 to 65536");
  const size_t expected = static_cast<size_t>(levels - 1) * (per_channel ? x.c : 1);
  require((from_int ? i32.size : f32.size) == expected && (from_int ? f32.size : i32.size) == 0,
          "Quantize: thresholds have a wrong type or number; expected " + std::to_string(expected));
  require(descending.size == 0 || descending.size == static_cast<size_t>(x.c), "Quantize: descending has a wrong size");
  require(alphabet.size == static_cast<size_t>(levels), "Quantize: the alphabet must have one code a level");
  if (out.kind == Kind::kBits) {
    const int fits = out.plane_kind == BF_PLANES_BINARY ? 2 : out.plane_kind == BF_PLANES_TERNARY ? 3 : 1 << out.planes;
    require(levels == fits, "Quantize: levels do not fit the planes of the output");
  }
  const int base = out.kind == Kind::kU8 ? out.min_code : 0;
  bool in_steps = true;
  for (size_t i = 0; i < alphabet.size; ++i) {
    const int byte = alphabet.data[i] - base;
    require(out.kind != Kind::kU8 || (byte >= 0 && byte <= 255), "Quantize: code " + std::to_string(alphabet.data[i]) + " does not fit the bytes of the output");
    in_steps = in_steps && alphabet.data[i] == alphabet.data[0] + static_cast<int>(i);
  }
  disjoint(out, x, false, "Quantize");
  auto thresholds = from_int ? arrange_thresholds(i32, x.c, levels, per_channel) : arrange_thresholds(f32, x.c, levels, per_channel);
  const std::vector<float> lines = from_int ? lines_near(i32, levels - 1) : lines_near(f32, levels - 1);
  auto falling = copied(descending);
  auto codes = copied(alphabet);
  for (size_t i = 0; i < alphabet.size; ++i) codes->as<int16_t>()[i] = static_cast<int16_t>(alphabet.data[i] - base);
  const bool has_falling = descending.size != 0;
  const bf_ops* ops = ops_;
  const std::string name = std::string("quantize_") + kind_name(x.kind) + "_" + (out.kind == Kind::kBits ? "planes" : kind_name(out.kind));
  return push(name.c_str(), make_step([=](const Frame& f) {
    const bf_quantize_args q{x.c, x.stride, levels, per_channel ? 1 : 0, thresholds->data(), has_falling ? falling->data() : nullptr,
                             in_steps ? nullptr : codes->as<int16_t>(), codes->as<int16_t>()[0], lines.empty() ? nullptr : lines.data()};
    const double work = static_cast<double>(f.images) * x.pixels() * x.c;
    f.parallel(f.images * x.pixels(), work, [&](int b, int e) {
      if (out.kind == Kind::kBits) {
        if (from_int) ops->quantize_i32_planes(&q, f.at<int32_t>(x), f.at<uint32_t>(out), out.plane_kind, out.planes, b, e);
        else ops->quantize_f32_planes(&q, f.at<float>(x), f.at<uint32_t>(out), out.plane_kind, out.planes, b, e);
      } else if (out.kind == Kind::kU8) {
        if (from_int) ops->quantize_i32_u8(&q, f.at<int32_t>(x), f.at<uint8_t>(out), out.stride, b, e);
        else ops->quantize_f32_u8(&q, f.at<float>(x), f.at<uint8_t>(out), out.stride, b, e);
      } else {
        if (from_int) ops->quantize_i32_i16(&q, f.at<int32_t>(x), f.at<int16_t>(out), out.stride, b, e);
        else ops->quantize_f32_i16(&q, f.at<float>(x), f.at<int16_t>(out), out.stride, b, e);
      }
    });
  }));
}

KernelName Plan::convert(int x_id, int out_id) {
  const Value x = defined(x_id, "convert"), out = output(out_id, "convert");
  auto codes = [](Kind kind) { return kind == Kind::kI16 || kind == Kind::kU8 || kind == Kind::kBits; };
  require(codes(x.kind) && codes(out.kind) && x.kind != out.kind && x.same_shape(out), "convert: needs two forms of codes (i16, u8, bits) of one shape");
  disjoint(out, x, false, "convert");
  const bf_ops* ops = ops_;
  const bool packs = out.kind == Kind::kBits, unpacks = x.kind == Kind::kBits, from_i16 = x.kind == Kind::kI16, to_i16 = out.kind == Kind::kI16;
  return push(packs ? "pack" : unpacks ? "unpack" : from_i16 ? "narrow" : "widen", make_step([=](const Frame& f) {
    f.parallel(f.images * x.pixels(), static_cast<double>(f.images) * x.pixels() * x.c, [&](int b, int e) {
      if (packs && from_i16) {
        ops->pack_i16(f.at<int16_t>(x), 0, f.at<uint32_t>(out), out.plane_kind, out.planes, out.min_code, x.c, x.stride, b, e);
      } else if (packs) {
        ops->pack_u8(f.at<uint8_t>(x), x.min_code, f.at<uint32_t>(out), out.plane_kind, out.planes, out.min_code, x.c, x.stride, b, e);
      } else if (unpacks && to_i16) {
        ops->unpack_i16(f.at<uint32_t>(x), f.at<int16_t>(out), 0, x.plane_kind, x.planes, x.min_code, x.c, out.stride, b, e);
      } else if (unpacks) {
        ops->unpack_u8(f.at<uint32_t>(x), f.at<uint8_t>(out), out.min_code, x.plane_kind, x.planes, x.min_code, x.c, out.stride, b, e);
      } else if (from_i16) {
        ops->narrow(f.at<int16_t>(x), f.at<uint8_t>(out), out.min_code, x.c, x.stride, out.stride, b, e);
      } else {
        ops->widen(f.at<uint8_t>(x), f.at<int16_t>(out), x.min_code, x.c, x.stride, out.stride, b, e);
      }
    });
  }));
}

}  // namespace bitfold
