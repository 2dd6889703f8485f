#include "kernels/conv_b1/conv_b1.h"
#include "kernels/popcount_avx512.h"

namespace {

/* A lone output pixel, as of a Linear with one row, waits for its weights, each of which is read once: a core fetches four streams of them
 * faster than one. Four blocks are summed side by side then, in images of more pixels one after the other. */
struct StreamedXor : Xor {
  static constexpr int kMostBlocks = 4;
  static int32_t most_blocks(const bf_conv_args* args) { return args->shape.out_h * args->shape.out_w == 1 ? kMostBlocks : 1; }

  static void sum(const bf_conv_args* args, const Tile& t, const uint8_t* weights, int32_t pixels, int32_t blocks, TileSums d) {
    if (blocks == kMostBlocks) return four_blocks(t, weights + (int64_t)t.begin * t.kernel_w * t.weight_tap, d);
    for (int32_t b = 0; b < blocks; ++b) Xor::sum(args, t, weights + b * t.weight_step, pixels, 1, TileSums{d[b], d.step});
  }

 private:
  static void four_blocks(const Tile& t, const uint8_t* weights, TileSums d) {
    for (int b = 0; b < kMostBlocks; ++b) d[b][0] = vi_set1(0);
    for_each_run<1>(t, [&](const uint8_t* const(&px)[1], int64_t bytes) {
      vi count[kMostBlocks] = {d[0][0], d[1][0], d[2][0], d[3][0]};
      for (int64_t k = 0; k < bytes; k += 4, weights += 64) {
        const __m512i a = word_at(px[0] + k);
        BF_UNROLL
        for (int b = 0; b < kMostBlocks; ++b) {
          const __m512i weight = _mm512_load_si512((const void*)(weights + b * t.weight_step));
          count[b] = vi_add(count[b], _mm512_popcnt_epi32(_mm512_xor_si512(weight, a)));
        }
      }
      for (int b = 0; b < kMostBlocks; ++b) d[b][0] = count[b];
    });
  }
};

}  // namespace

extern "C" void conv_b1_s32_8x16_avx512(const bf_conv_args* args, int32_t y0, int32_t y1, int32_t b0, int32_t b1) {
  popcount_conv<StreamedXor>(args, y0, y1, b0, b1);
}
