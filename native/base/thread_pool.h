/* A small pool of fixed threads with a static split, so that results and memory traffic do not depend on luck. */
#pragma once

#include <atomic>
#include <condition_variable>
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

  /* Thread t runs tasks [t * n / threads, (t + 1) * n / threads); returns when all are done. One caller at a time.
   * Throws std::runtime_error in a forked child, where the threads do not exist. */
  void run(int tasks, Work work, void* context);

 private:
  void worker(int index);
  void share(int index) const;

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> generation_{0};  // rises by one for every run
  std::atomic<int> pending_{0};          // workers that have not finished this run
  bool stop_ = false;                    // guarded by mutex_
  int tasks_ = 0;
  Work work_ = nullptr;
  void* context_ = nullptr;
  int process_;  // the process that owns the threads
};

}  // namespace bitfold
