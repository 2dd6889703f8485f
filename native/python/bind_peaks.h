#pragma once

#include <nanobind/nanobind.h>

namespace bitfold {

void bind_peaks(nanobind::module_& m);

}  // namespace bitfold
