#include "kernels/registry.h"

#include "kernels/shapes.h"

#define KERNEL(name, isa, layout, step, refuses) \
  extern "C" void name(const bf_conv_args*, int32_t, int32_t, int32_t, int32_t);
#include "kernels/adder_u8/kernels.inc"
#include "kernels/conv_b1/kernels.inc"
#include "kernels/conv_f32/kernels.inc"
#include "kernels/conv_i16/kernels.inc"
#include "kernels/conv_i8/kernels.inc"
#include "kernels/conv_planes/kernels.inc"
#include "kernels/conv_u8/kernels.inc"
#include "kernels/dense_packed/kernels.inc"
#undef KERNEL

namespace bitfold {
namespace {

constexpr ConvKernel kKernels[] = {
#define KERNEL(name, isa, layout, step, refuses) {#name, FAMILY, Isa::isa, Layout::layout, step, name, refuses},
#define FAMILY Family::kConvB1
#include "kernels/conv_b1/kernels.inc"
#undef FAMILY
#define FAMILY Family::kConvPlanes
#include "kernels/conv_planes/kernels.inc"
#undef FAMILY
#define FAMILY Family::kConvI8
#include "kernels/conv_i8/kernels.inc"
#undef FAMILY
#define FAMILY Family::kConvU8
#include "kernels/conv_u8/kernels.inc"
#undef FAMILY
#define FAMILY Family::kConvI16
#include "kernels/conv_i16/kernels.inc"
#undef FAMILY
#define FAMILY Family::kConvF32
#include "kernels/conv_f32/kernels.inc"
#undef FAMILY
#define FAMILY Family::kAdderU8
#include "kernels/adder_u8/kernels.inc"
#undef FAMILY
#define FAMILY Family::kDensePacked
#include "kernels/dense_packed/kernels.inc"
#undef FAMILY
#undef KERNEL
};

}  // namespace

const char* family_name(Family family) {
  switch (family) {
    case Family::kConvB1: return "conv_b1";
    case Family::kConvPlanes: return "conv_planes";
    case Family::kConvI8: return "conv_i8";
    case Family::kConvU8: return "conv_u8";
    case Family::kConvI16: return "conv_i16";
    case Family::kConvF32: return "conv_f32";
    case Family::kAdderU8: return "adder_u8";
    case Family::kDensePacked: return "dense_packed";
  }
  return "?";
}

const ConvKernel* conv_kernels(size_t* count) {
  *count = sizeof(kKernels) / sizeof(kKernels[0]);
  return kKernels;
}

const ConvKernel& find_conv_kernel(Family family, const bf_conv_shape& shape, Isa isa, const char** reason) {
  const ConvKernel* first = nullptr;
  const char* refused = "";
  for (const ConvKernel& kernel : kKernels) {
    if (kernel.family != family || kernel.isa > isa) continue;
    if (first == nullptr) first = &kernel;
    const char* why = kernel.refuses(&shape);
    if (why == nullptr) {
      if (reason != nullptr) *reason = kernel.isa == first->isa ? "" : refused;
      return kernel;
    }
    refused = why;
  }
  __builtin_unreachable();  // every family ends in a scalar kernel that serves all shapes
}

#if defined(__x86_64__)
bf_patch_sum_bits_fn find_patch_sum_bits(Isa isa) { return isa >= Isa::kAvx2 ? bf_patch_sum_bits_avx2 : bf_patch_sum_bits_scalar; }
bf_patch_sum_i16_fn find_patch_sum_i16(Isa isa) { return isa >= Isa::kAvx2 ? bf_patch_sum_i16_avx2 : bf_patch_sum_i16_scalar; }
bf_patch_sum_u8_fn find_patch_sum_u8(Isa isa) { return isa >= Isa::kAvx2 ? bf_patch_sum_u8_avx2 : bf_patch_sum_u8_scalar; }
#else
bf_patch_sum_bits_fn find_patch_sum_bits(Isa) { return bf_patch_sum_bits_scalar; }
bf_patch_sum_i16_fn find_patch_sum_i16(Isa) { return bf_patch_sum_i16_scalar; }
bf_patch_sum_u8_fn find_patch_sum_u8(Isa) { return bf_patch_sum_u8_scalar; }
#endif

}  // namespace bitfold
