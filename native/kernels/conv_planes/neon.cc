#include "kernels/conv_planes/conv_planes.h"
#include "kernels/popcount_neon.h"

#include "kernels/conv_planes/products.h"

extern "C" void conv_planes_s32_4x16_neon(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  planes_conv(args, y0, y1, b0, b1);
}
