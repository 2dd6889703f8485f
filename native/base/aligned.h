/* A zeroed block of memory whose start is aligned to a cache line (and so to every vector register). */
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace bitfold {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = 2 << 20;  // blocks of half of it or more lie in huge pages where the system has them: fewer faults

inline size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t bytes) : bytes_(bytes) {
    const size_t alignment = bytes >= kHugePage / 2 ? kHugePage : kAlignment, padded = round_up(bytes == 0 ? 1 : bytes, alignment);
    data_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, padded)));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kHugePage) madvise(data_.get(), padded, MADV_HUGEPAGE);  // advice: whether it is taken changes nothing else
#endif
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
