#include "kernels/conv_b1/conv_b1.h"
#include "kernels/conv_b1/tiles_avx2.h"

extern "C" void conv_b1_s32_6x64_avx2(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  popcount_conv<StagedXor>(args, y0, y1, b0, b1);
}
