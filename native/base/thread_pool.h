/* A small pool of threads. Every run is cut into a few shares a thread, always at the same places, so that results do not depend on luck
 * and a thread mostly finds in its cache what it wrote before; a share whose thread is late (asleep, slow, without a core) is taken by
 * another one. */
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

  /* Thread t begins with tasks [t * n / threads, (t + 1) * n / threads), all at once or, if `divide`, piece by piece; returns when all are
   * done. One caller at a time. Throws std::runtime_error in a forked child, where the threads do not exist. */
  void run(int tasks, bool divide, Work work, void* context);

 private:
  static constexpr int kPieces = 3;                     // of a thread's tasks: most of them, then two that another thread may take
  static constexpr int kEnds[kPieces + 1] = {0, 5, 7, 8};  // where they begin and end, in eighths

  /* The run that last took this share: runs are numbered, and each takes every share once, empty ones too. */
  struct alignas(64) Share {
    std::atomic<unsigned> taken{0};
  };

  void worker(int index);
  void help(unsigned generation, int self); /* works on the shares of a run that nobody has taken: its own, then the others' last ones */
  void take(unsigned generation, int thread, int piece);

  std::vector<std::thread> workers_;
  std::unique_ptr<Share[]> shares_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<unsigned> generation_{0};  // rises by one for every run
  std::atomic<int> pending_{0};          // shares of this run that are not finished
  bool stop_ = false;                    // guarded by mutex_
  int tasks_ = 0;                        // this and the next three are read by those who hold a share of the run
  bool divide_ = false;
  Work work_ = nullptr;
  void* context_ = nullptr;
  unsigned forks_;  // of the process that owns the threads
};

}  // namespace bitfold
