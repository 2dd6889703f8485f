/* A step of a plan: one kernel call with its constants. Steps are checked when they are made and never fail when they run. */
#pragma once

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>

#include "base/aligned.h"
#include "base/thread_pool.h"
#include "graph/value.h"

namespace bitfold {

/* Refuses a plan. Messages name the step; they reach Python as EngineError. */
inline void require(bool ok, const std::string& message) {
  if (!ok) throw std::invalid_argument(message);
}

/* What a step sees while it runs: the arena, the images of this chunk and the threads. */
struct Frame {
  uint8_t* arena;
  int images;
  ThreadPool* pool;

  template <typename T>
  T* at(const Value& v, int image = 0) const {
    return reinterpret_cast<T*>(arena + v.offset + v.image_bytes() * image);
  }

  /* Calls f(begin, end) over [0, tasks), split over the threads unless the whole is too small to be worth waking one. */
  template <typename F>
  void parallel(int tasks, double work, F&& f) const {
    constexpr double kSerial = 20e3;      // element operations: a few microseconds
    constexpr double kDivisible = 200e3;  // tens of microseconds: worth it that a thread that is ahead takes work from another
    if (work < kSerial || pool->threads() == 1) {
      if (tasks > 0) f(0, tasks);
      return;
    }
    const auto call = [](void* context, int begin, int end) { (*static_cast<std::remove_reference_t<F>*>(context))(begin, end); };
    pool->run(tasks, work >= kDivisible, call, const_cast<void*>(static_cast<const void*>(&f)));
  }

  /* The same over the units (pixels or rows) of all images: f(image, begin, end) within one image. */
  template <typename F>
  void per_image(int units, double work_per_image, F&& f) const {
    parallel(images * units, work_per_image * images, [&](int begin, int end) {
      while (begin < end) {
        const int image = begin / units, first = begin % units;
        const int count = std::min(units - first, end - begin);
        f(image, first, first + count);
        begin += count;
      }
    });
  }
};

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(const Frame& frame) const = 0;
};

/* A step made of a function object, for the operations that are one call. */
template <typename F>
class StepOf final : public Step {
 public:
  explicit StepOf(F f) : f_(std::move(f)) {}
  void run(const Frame& frame) const override { f_(frame); }

 private:
  F f_;
};

template <typename F>
std::unique_ptr<Step> make_step(F f) {
  return std::make_unique<StepOf<F>>(std::move(f));
}

}  // namespace bitfold
