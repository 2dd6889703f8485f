#include "kernels/conv_i16/conv_i16.h"
#include "kernels/simd_neon.h"

static constexpr int kPixels = 4;
static constexpr int kBlocks = 1;

#include "kernels/conv_i16/tiles.h"

extern "C" void conv_i16_s32_4x16_neon(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  conv_i16_blocks(args, y0, y1, b0, b1);
}
