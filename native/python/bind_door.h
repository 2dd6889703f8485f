#pragma once

#include <nanobind/nanobind.h>

namespace bitfold {

void bind_door(nanobind::module_& m);

}  // namespace bitfold
