/* Counts the allocations of a process, of all its threads and libraries; preloaded by test_allocations.py. glibc only. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

static atomic_long calls;

long allocations_so_far(void) { return calls; }

void* malloc(size_t size) {
  ++calls;
  return __libc_malloc(size);
}

void* calloc(size_t n, size_t size) {
  ++calls;
  return __libc_calloc(n, size);
}

void* realloc(void* p, size_t size) {
  ++calls;
  return __libc_realloc(p, size);
}

void* memalign(size_t alignment, size_t size) {
  ++calls;
  return __libc_memalign(alignment, size);
}

void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void** p, size_t alignment, size_t size) {
  *p = memalign(alignment, size);
  return *p ? 0 : ENOMEM;
}
