/* The list of conv kernels, made from every family's kernels.inc. */
#pragma once

#include <cstddef>

#include "base/cpu.h"
#include "kernels/conv.h"
#include "kernels/patch_sum/patch_sum.h"
#include "kernels/weights.h"

namespace bitfold {

enum class Family { kConvB1, kConvPlanes, kConvI8, kConvU8, kConvI16, kConvF32, kAdderU8, kDensePacked };

struct ConvKernel {
  const char* name; /* family_types_tile_isa: the symbol, the test id and the benchmark row */
  Family family;
  Isa isa;
  Layout layout;
  int block_step; /* b0 is a multiple of it; so is b1 unless it is the last block */
  bf_conv_fn run;
  bf_refuses_fn refuses;
};

const char* family_name(Family family);

/* All compiled kernels, best first within a family; `count` receives their number. */
const ConvKernel* conv_kernels(size_t* count);

/* The best kernel of the family for the shape that `isa` can run; the scalar kernel serves every shape. If `reason` is given it
 * receives why kernels of a better ISA were passed over, or "". */
const ConvKernel& find_conv_kernel(Family family, const bf_conv_shape& shape, Isa isa, const char** reason);

/* The patch sums for `isa`. */
bf_patch_sum_bits_fn find_patch_sum_bits(Isa isa);
bf_patch_sum_i16_fn find_patch_sum_i16(Isa isa);
bf_patch_sum_u8_fn find_patch_sum_u8(Isa isa);

}  // namespace bitfold
