#include "base/thread_pool.h"

#include <pthread.h>

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

/* How many forks this process is away from the first one; counted in the child. */
std::atomic<unsigned> forks{0};

unsigned forks_so_far() {
  static const int registered = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  (void)registered;
  return forks.load(std::memory_order_relaxed);
}

}  // namespace

ThreadPool::ThreadPool(int threads) : shares_(new Share[static_cast<size_t>(threads * kPieces)]), forks_(forks_so_far()) {
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { worker(i); });
}

ThreadPool::~ThreadPool() {
  if (forks_ != forks_so_far()) {  // a forked child: nothing to join
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

void ThreadPool::take(unsigned generation, int thread, int piece) {
  std::atomic<unsigned>& taken = shares_[static_cast<size_t>(thread * kPieces + piece)].taken;
  unsigned before = generation - 1;
  if (taken.load(std::memory_order_relaxed) != before) return;
  if (!taken.compare_exchange_strong(before, generation, std::memory_order_acq_rel)) return;
  const long n = tasks_, total = threads(), first = n * thread / total, count = n * (thread + 1) / total - first;
  const int most = kEnds[kPieces];  // rounded up: a lone task is in the first piece
  const auto cut = [&](int i) { return static_cast<int>(first + (divide_ ? (count * kEnds[i] + most - 1) / most : i == 0 ? 0 : count)); };
  if (cut(piece) < cut(piece + 1)) work_(context_, cut(piece), cut(piece + 1));
  pending_.fetch_sub(1, std::memory_order_release);
}

void ThreadPool::help(unsigned generation, int self) {
  for (int piece = 0; piece < kPieces; ++piece) take(generation, self, piece);
  for (int i = 1; i < threads(); ++i)
    for (int piece = kPieces; piece-- > 0;) take(generation, (self + i) % threads(), piece);
}

void ThreadPool::run(int tasks, bool divide, Work work, void* context) {
  if (workers_.empty() || tasks <= 1) {
    if (tasks > 0) work(context, 0, tasks);
    return;
  }
  if (forks_ != forks_so_far()) {
    throw std::runtime_error("the engine was loaded before a fork; load it again in the child process to use threads > 1");
  }
  unsigned generation;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks_ = tasks;
    divide_ = divide;
    work_ = work;
    context_ = context;
    pending_.store(threads() * kPieces, std::memory_order_relaxed);
    generation = generation_.fetch_add(1, std::memory_order_release) + 1;
  }
  wake_.notify_all();
  help(generation, 0);
  for (int spins = 0; pending_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kSpins) {
      pause_cpu();
    } else {
      std::this_thread::yield();  // more threads than cores: let the one that is at work have this one
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
    help(seen, index);
  }
}

}  // namespace bitfold
