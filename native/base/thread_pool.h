/* A small pool of threads. Every run is cut into one share a thread, always at the same places, so that results do not depend on luck; a
 * share whose thread is late (asleep, or without a core) is taken by another one. */
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace bitfold {

class ThreadPool {
 public:
  /* Runs tasks [begin, end); must not throw. */
  using Work = void (*)(void* context, int begin, int end);

  /* threads >= 1, the calling thread included; 1 starts nothing. */
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  /* Share t is tasks [t * n / threads, (t + 1) * n / threads); returns when all are done. One caller at a time.
   * Throws std::runtime_error in a forked child, where the threads do not exist. */
  void run(int tasks, Work work, void* context);

 private:
  /* The run that last took this share: runs are numbered, and each takes every share once. */
  struct alignas(64) Share {
    std::atomic<unsigned> taken{0};
  };

  void worker(int index);
  void help(unsigned generation, int first); /* works on the shares of a run that nobody has taken, from `first` on */

  std::vector<std::thread> workers_;
  std::unique_ptr<Share[]> shares_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> generation_{0};  // rises by one for every run
  std::atomic<int> pending_{0};          // shares of this run that are not finished
  bool stop_ = false;                    // guarded by mutex_
  int tasks_ = 0;                        // this and the next two are read by those who hold a share of the run
  Work work_ = nullptr;
  void* context_ = nullptr;
  unsigned forks_;  // of the process that owns the threads
};

}  // namespace bitfold
