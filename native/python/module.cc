/* The Python module bitfold._core: only calls bind_x(m) functions. */
#include <nanobind/nanobind.h>

#include "base/cpu.h"
#include "python/bind_door.h"
#include "python/bind_kernels.h"
#include "python/bind_peaks.h"
#include "python/bind_plan.h"

namespace nb = nanobind;

NB_MODULE(_core, m) {
  m.def("detected_isa", [] { return bitfold::isa_name(bitfold::detected_isa()); }, "Best instruction set of this CPU.");
  m.def("active_isa", [] { return bitfold::isa_name(bitfold::active_isa()); }, "The same, capped by BITFOLD_ISA.");
  bitfold::bind_plan(m);
  bitfold::bind_door(m);
  bitfold::bind_kernels(m);
  bitfold::bind_peaks(m);
}
