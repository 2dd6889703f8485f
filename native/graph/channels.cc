/* Steps that only move data: Flatten, Concat, PadChannels, Slice. What lies in its place already is not moved. */
#include "graph/plan.h"

namespace bitfold {

KernelName Plan::flatten(int x_id, int out_id) {
  const Value x = defined(x_id, "Flatten"), out = output(out_id, "Flatten");
  require(x.kind == out.kind && x.planes == out.planes && x.plane_kind == out.plane_kind && x.min_code == out.min_code && out.h == 1 && out.w == 1 &&
              static_cast<long long>(x.pixels()) * x.c == out.c,
          "Flatten: needs an output of one pixel with all channels, of the input's type");
  disjoint(out, x, false, "Flatten");
  const bf_ops* ops = ops_;
  const int bytes = element_bytes(x.kind);
  return push(x.kind == Kind::kBits ? "flatten_bits" : "flatten", make_step([=](const Frame& f) {
    f.parallel(f.images, static_cast<double>(f.images) * out.c, [&](int begin, int end) {
      for (int i = begin; i < end; ++i) {
        if (x.kind == Kind::kBits) ops->flatten_bits(f.at<uint32_t>(x, i), f.at<uint32_t>(out, i), x.planes, x.c, x.pixels());
        else ops->nhwc_to_nchw(f.at<void>(x, i), bytes, f.at<void>(out, i), bytes, x.c, x.pixels(), x.stride);
      }
    });
  }));
}

KernelName Plan::concat(const std::vector<int>& ids, int out_id) {
  require(!ids.empty(), "Concat: no inputs");
  struct Part {
    Value x;
    int at;
  };
  const Value out = value(out_id, "Concat");
  std::vector<Part> parts; /* to copy; the others are in their place */
  long long channels = 0;
  for (int id : ids) {
    const Value x = defined(id, "Concat");
    require(x.kind == out.kind && x.planes == out.planes && x.plane_kind == out.plane_kind && x.min_code == out.min_code && x.h == out.h && x.w == out.w,
            "Concat: inputs and output must have one type and image size");
    require(channels + x.c <= out.c, "Concat: the channels of the inputs do not sum to those of the output");
    if (!x.is_part(out, static_cast<int>(channels))) {
      Value place = out;
      if (out.kind != Kind::kBits) place.c = x.c, place.offset += static_cast<size_t>(channels) * element_bytes(out.kind);
      require(clear(out, x, true) || clear(place, x, true), "Concat: output and input overlap");
      parts.push_back({x, static_cast<int>(channels)});
    }
    channels += x.c;
  }
  require(channels == out.c, "Concat: the channels of the inputs do not sum to those of the output");
  output(out_id, "Concat");
  if (parts.empty()) return push("in_place", make_step([](const Frame&) {}));
  const bf_ops* ops = ops_;
  const int bytes = element_bytes(out.kind);
  return push(out.kind == Kind::kBits ? "copy_bits" : "copy_channels", make_step([=](const Frame& f) {
    f.parallel(f.images * out.pixels(), static_cast<double>(f.images) * out.pixels() * out.c, [&](int b, int e) {
      if (out.kind == Kind::kBits) ops->zero_channels(f.at<void>(out), bytes, 0, out.stride, out.stride, b, e);
      for (const auto& [x, at] : parts) {
        if (out.kind == Kind::kBits) ops->copy_bits(f.at<uint32_t>(x), f.at<uint32_t>(out), x.planes, x.c, x.words(), at, out.words(), b, e);
        else ops->copy_channels(f.at<void>(x), f.at<void>(out), bytes, x.c, x.stride, at, out.stride, b, e);
      }
    });
  }));
}

KernelName Plan::pad_channels(int x_id, int out_id, int before) {
  const Value x = defined(x_id, "PadChannels"), out = output(out_id, "PadChannels");
  require(x.kind == Kind::kF32 && out.kind == Kind::kF32 && x.h == out.h && x.w == out.w, "PadChannels: needs f32 values of one image size");
  require(before >= 0 && static_cast<long long>(before) + x.c <= out.c, "PadChannels: the input's channels do not fit the output's");
  disjoint(out, x, false, "PadChannels");
  const bf_ops* ops = ops_;
  const int after = out.c - before - x.c;
  return push("pad_channels", make_step([=](const Frame& f) {
    f.parallel(f.images * out.pixels(), static_cast<double>(f.images) * out.pixels() * out.c, [&](int b, int e) {
      ops->zero_channels(f.at<void>(out), 4, 0, before, out.stride, b, e);
      ops->copy_channels(f.at<void>(x), f.at<void>(out), 4, x.c, x.stride, before, out.stride, b, e);
      ops->zero_channels(f.at<void>(out), 4, before + x.c, after, out.stride, b, e);
    });
  }));
}

KernelName Plan::slice(int x_id, int out_id, int start) {
  const Value x = defined(x_id, "Slice"), out = output(out_id, "Slice");
  require(x.kind == Kind::kF32 && out.kind == Kind::kF32 && x.h == out.h && x.w == out.w, "Slice: needs f32 values of one image size");
  require(start >= 0 && static_cast<long long>(start) + out.c <= x.c, "Slice: the channels are not all in the input");
  if (out.is_part(x, start)) return push("in_place", make_step([](const Frame&) {}));
  disjoint(out, x, false, "Slice");
  const bf_ops* ops = ops_;
  return push("copy_channels", make_step([=](const Frame& f) {
    f.parallel(f.images * out.pixels(), static_cast<double>(f.images) * out.pixels() * out.c, [&](int b, int e) {
      ops->copy_channels(f.at<float>(x) + start, f.at<void>(out), 4, out.c, x.stride, 0, out.stride, b, e);
    });
  }));
}

}  // namespace bitfold
