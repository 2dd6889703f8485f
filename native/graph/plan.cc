#include "graph/plan.h"

#include <chrono>

namespace bitfold {
namespace {

constexpr int kMaxDim = 1 << 24;
constexpr double kMaxBytes = 16.0 * (1u << 30);  // of one value and of the arena

const bf_ops* ops_for(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return &bf_ops_avx512;
  if (isa == Isa::kAvx2) return &bf_ops_avx2;
#elif defined(__aarch64__)
  if (isa == Isa::kNeon) return &bf_ops_neon;
#endif
  (void)isa;
  return &bf_ops_scalar;
}

double elapsed_ns(std::chrono::steady_clock::time_point& since) {
  const auto now = std::chrono::steady_clock::now();
  const double ns = std::chrono::duration<double, std::nano>(now - since).count();
  since = now;
  return ns;
}

}  // namespace

int outside_bytes(Outside outside) { return outside == Outside::kU8 ? 1 : outside == Outside::kI16 ? 2 : 4; }

Plan::Plan(int threads, int chunk, size_t arena_bytes)
    : isa_(active_isa()),
      ops_(ops_for(isa_)),
      pool_((require(threads >= 1 && threads <= 1024, "threads=" + std::to_string(threads) + "; allowed: 1 to 1024"), threads)),
      chunk_(chunk),
      arena_bytes_(arena_bytes) {
  require(chunk >= 1 && chunk <= 4096, "chunk=" + std::to_string(chunk) + "; allowed: 1 to 4096");
  require(static_cast<double>(arena_bytes) <= kMaxBytes, "arena of " + std::to_string(arena_bytes) + " bytes; allowed: up to 16 GiB");
}

int Plan::add_value(Kind kind, int h, int w, int c, int stride, int planes, bf_plane_kind plane_kind, int min_code, size_t offset) {
  require(!finished_, "the plan is finished");
  const std::string where = "value " + std::to_string(values_.size());
  for (int d : {h, w, c, stride}) {
    require(d >= 1 && d <= kMaxDim, where + ": a dimension of " + std::to_string(d) + " is not within 1 to 2^24");
  }
  require(static_cast<double>(h) * w * chunk_ <= (1 << 30), where + ": more than 2^30 pixels");
  Value v;
  v.kind = kind, v.h = h, v.w = w, v.c = c, v.stride = stride, v.planes = planes, v.plane_kind = plane_kind, v.min_code = min_code;
  v.offset = offset;
  if (kind == Kind::kBits) {
    const int allowed = plane_kind == BF_PLANES_BINARY ? 1 : plane_kind == BF_PLANES_TERNARY ? 2 : planes;
    require(planes >= 1 && planes <= 16 && planes == allowed,
            where + ": " + std::to_string(planes) + " bit planes do not fit its encoding");
    require(static_cast<long long>(planes) * v.words() == stride, where + ": stride of packed codes must be planes * words");
  } else {
    require(planes == 1, where + ": only packed codes have planes");
    require(stride >= c, where + ": stride is less than the number of channels");
  }
  require(min_code >= (kind == Kind::kU8 ? -128 : -32768) && min_code <= 0, where + ": min_code is not a code");
  require(offset % kAlignment == 0, where + ": offset is not a multiple of 64");
  const double most = static_cast<double>(offset) + static_cast<double>(h) * w * stride * element_bytes(kind) * chunk_;  // no overflow
  require(most <= 4 * kMaxBytes && v.end(chunk_) <= arena_bytes_,
          where + ": ends at byte " + std::to_string(most) + " of an arena of " + std::to_string(arena_bytes_));
  values_.push_back(v);
  written_.push_back(false);
  return static_cast<int>(values_.size()) - 1;
}

const Value& Plan::value(int id, const char* what) const {
  require(!finished_, "the plan is finished");
  require(id >= 0 && static_cast<size_t>(id) < values_.size(), std::string(what) + ": no value " + std::to_string(id));
  return values_[static_cast<size_t>(id)];
}

const Value& Plan::defined(int id, const char* what) const {
  const Value& v = value(id, what);
  require(written_[static_cast<size_t>(id)], std::string(what) + ": value " + std::to_string(id) + " is read before it is written");
  return v;
}

const Value& Plan::output(int id, const char* what) {
  const Value& v = value(id, what);
  written_[static_cast<size_t>(id)] = true;
  return v;
}

bool Plan::clear(const Value& out, const Value& in, bool copied) const {
  if (out.end(chunk_, copied) <= in.offset || in.end(chunk_, copied) <= out.offset) return true;
  const size_t pitch = static_cast<size_t>(out.stride) * element_bytes(out.kind);
  const size_t ahead = (out.offset + pitch - in.offset % pitch) % pitch;  // of the input's channels, within a pixel
  const bool fit = ahead >= in.pixel_bytes(copied) && ahead + out.pixel_bytes(copied) <= pitch;
  return fit && pitch == static_cast<size_t>(in.stride) * element_bytes(in.kind);
}

void Plan::disjoint(const Value& out, const Value& in, bool in_place, const char* what) const {
  const bool same = out.offset == in.offset && out.image_bytes() == in.image_bytes() && out.stride == in.stride;
  require(clear(out, in, false) || (in_place && same), std::string(what) + ": output and input overlap");
}

KernelName Plan::push(const char* name, std::unique_ptr<Step> step) {
  steps_.push_back(std::move(step));
  return {name, ops_->isa, ""};
}

void Plan::add_input(int id, Outside outside) {
  const Value& v = output(id, "input");
  const bool ok = (v.kind == Kind::kF32 && outside == Outside::kF32) || (v.kind == Kind::kI32 && outside == Outside::kI32) ||
                  (v.kind == Kind::kI16 && (outside == Outside::kI16 || outside == Outside::kU8)) ||
                  (v.kind == Kind::kU8 && outside == Outside::kU8 && v.min_code == 0);
  require(ok, std::string("input: the array's type does not fit a value of ") + kind_name(v.kind));
  inputs_.push_back({id, outside, static_cast<size_t>(v.pixels()) * v.c});
}

void Plan::add_output(int id, Outside outside) {
  const Value& v = defined(id, "output");
  const bool ok = (v.kind == Kind::kF32 && outside == Outside::kF32) || (v.kind == Kind::kI32 && outside == Outside::kI32) ||
                  (v.kind == Kind::kI16 && (outside == Outside::kI16 || outside == Outside::kU8)) ||
                  (v.kind == Kind::kU8 && outside == Outside::kU8 && v.min_code == 0);
  require(ok, std::string("output: the array's type does not fit a value of ") + kind_name(v.kind));
  outputs_.push_back({id, outside, static_cast<size_t>(v.pixels()) * v.c});
}

void Plan::finish() {
  require(!finished_, "the plan is finished");
  require(!inputs_.empty() && !outputs_.empty(), "a plan needs inputs and outputs");
  arena_ = AlignedBuffer(arena_bytes_ + kAlignment);
  ++allocations_;
  finished_ = true;
}

void Plan::door_in(const Frame& frame, const void* const* inputs, size_t first) const {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const Port& port = inputs_[i];
    const Value& v = values_[static_cast<size_t>(port.value)];
    const size_t bytes = outside_bytes(port.outside);
    frame.parallel(frame.images, static_cast<double>(port.image_elements) * frame.images, [&](int begin, int end) {
      for (int image = begin; image < end; ++image) {
        const uint8_t* from = static_cast<const uint8_t*>(inputs[i]) + (first + image) * port.image_elements * bytes;
        ops_->nchw_to_nhwc(from, static_cast<int>(bytes), frame.at<void>(v, image), element_bytes(v.kind), v.c, v.pixels(), v.stride);
      }
    });
  }
}

void Plan::door_out(const Frame& frame, void* const* outputs, size_t first) const {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Port& port = outputs_[i];
    const Value& v = values_[static_cast<size_t>(port.value)];
    const size_t bytes = outside_bytes(port.outside);
    frame.parallel(frame.images, static_cast<double>(port.image_elements) * frame.images, [&](int begin, int end) {
      for (int image = begin; image < end; ++image) {
        uint8_t* to = static_cast<uint8_t*>(outputs[i]) + (first + image) * port.image_elements * bytes;
        ops_->nhwc_to_nchw(frame.at<void>(v, image), element_bytes(v.kind), to, static_cast<int>(bytes), v.c, v.pixels(), v.stride);
      }
    });
  }
}

void Plan::run(const void* const* inputs, void* const* outputs, size_t batch, double* step_ns) {
  if (!finished_) throw std::invalid_argument("the plan is not finished");  // no require: it makes a string before it looks
  std::lock_guard<std::mutex> lock(mutex_);
  std::chrono::steady_clock::time_point clock;
  if (step_ns) clock = std::chrono::steady_clock::now();
  for (size_t first = 0; first < batch; first += static_cast<size_t>(chunk_)) {
    const Frame frame{arena_.data(), static_cast<int>(std::min<size_t>(chunk_, batch - first)), &pool_};
    door_in(frame, inputs, first);
    if (step_ns) step_ns[0] += elapsed_ns(clock);
    for (size_t s = 0; s < steps_.size(); ++s) {
      steps_[s]->run(frame);
      if (step_ns) step_ns[s + 1] += elapsed_ns(clock);
    }
    door_out(frame, outputs, first);
    if (step_ns) step_ns[steps_.size() + 1] += elapsed_ns(clock);
  }
}

}  // namespace bitfold
