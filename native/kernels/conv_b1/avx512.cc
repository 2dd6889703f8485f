#include "kernels/conv_b1/conv_b1.h"
#include "kernels/popcount_avx512.h"

extern "C" void conv_b1_s32_8x16_avx512(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  popcount_conv<Xor>(args, y0, y1, b0, b1);
}
