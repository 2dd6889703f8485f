#pragma once

#include <nanobind/nanobind.h>

namespace bitfold {

void bind_plan(nanobind::module_& m);

}  // namespace bitfold
