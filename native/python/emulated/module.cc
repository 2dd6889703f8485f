/* The conv kernels alone, with AVX-512 emulated: differential tests on a CPU without it (make test-emulated). */
#include "python/bind_kernels.h"

NB_MODULE(_core_emulated, m) { bitfold::bind_kernels(m); }
