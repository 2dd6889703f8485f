#pragma once

#include <nanobind/nanobind.h>

namespace bitfold {

void bind_kernels(nanobind::module_& m);

}  // namespace bitfold
