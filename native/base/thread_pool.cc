#include "base/thread_pool.h"

#include <unistd.h>

#include <stdexcept>

namespace bitfold {
namespace {

// Long enough to bridge the gap between two layers (microseconds), short enough to leave the core alone between calls.
constexpr int kSpins = 2000;

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int threads) : process_(static_cast<int>(getpid())) {
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  if (process_ != static_cast<int>(getpid())) {  // a forked child: nothing to join
    for (auto& t : workers_) t.detach();
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (auto& t : workers_) t.join();
}

void ThreadPool::share(int index) const {
  const long n = tasks_, total = threads();
  const int begin = static_cast<int>(n * index / total), end = static_cast<int>(n * (index + 1) / total);
  if (begin < end) work_(context_, begin, end);
}

void ThreadPool::run(int tasks, Work work, void* context) {
  if (workers_.empty() || tasks <= 1) {
    if (tasks > 0) work(context, 0, tasks);
    return;
  }
  if (process_ != static_cast<int>(getpid())) {
    throw std::runtime_error("the engine was loaded before a fork; load it again in the child process to use threads > 1");
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks_ = tasks;
    work_ = work;
    context_ = context;
    pending_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  share(0);
  for (int spins = 0; pending_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      pause_cpu();
    } else {
      std::this_thread::yield();  // more threads than cores: let the worker have this one
    }
  }
}

void ThreadPool::worker(int index) {
  unsigned seen = 0;
  for (;;) {
    for (int spins = 0; spins < kSpins && generation_.load(std::memory_order_acquire) == seen; ++spins) pause_cpu();
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      seen = generation_.load(std::memory_order_acquire);
      if (stop_) return;
    }
    share(index);
    pending_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace bitfold
