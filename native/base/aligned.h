/* A zeroed block of memory whose start is aligned to a cache line (and so to every vector register). */
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace bitfold {

constexpr size_t kAlignment = 64;

inline size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes) : bytes_(bytes) {
    const size_t padded = round_up(bytes == 0 ? 1 : bytes, kAlignment);
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(kAlignment, padded)));
    if (!data_) throw std::bad_alloc();
    std::memset(data_.get(), 0, padded);
  }
  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return bytes_; }

  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(data_.get());
  }
  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(uint8_t* p) const { std::free(p); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t bytes_ = 0;
};

}  // namespace bitfold
