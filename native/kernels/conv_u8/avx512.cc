#include "kernels/conv_u8/conv_u8.h"
#include "kernels/simd_avx512.h"

static constexpr int kPixels = 7;
static constexpr int kBlocks = 2;

#include "kernels/conv_u8/tiles.h"

extern "C" void conv_u8_s32_7x32_avx512(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  conv_u8_blocks(args, y0, y1, b0, b1);
}
