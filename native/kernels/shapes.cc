#include "kernels/shapes.h"

#include "kernels/conv_b1/conv_b1.h"
#include "kernels/conv_u8/conv_u8.h"

namespace {
constexpr int kMaxGroupChannels = 16384;  // the row of zeros that stands for a tap outside the image holds two planes of this many bits

const char* word_groups(const bf_conv_shape* s, int step) {
  if (s->in_c / s->groups > kMaxGroupChannels) return "more than 16384 input channels per group";
  if (s->groups == 1) return nullptr;
  if (s->in_c / s->groups % 32 != 0) return "input channels per group are not a multiple of 32";
  if (s->out_c / s->groups % step != 0)
    return step == 16 ? "output channels per group are not a multiple of 16" : "output channels per group are not a multiple of 32";
  return nullptr;
}
const char* plane_groups(const bf_conv_shape* s, int step) {
  return s->in_c > kMaxGroupChannels ? "more than 16384 input channels" : word_groups(s, step);
}
}  // namespace

const char* bf_needs_plane_groups(const bf_conv_shape* s) { return plane_groups(s, 16); }
const char* bf_needs_plane_groups_avx2(const bf_conv_shape* s) { return plane_groups(s, 32); }
const char* bf_needs_word_groups(const bf_conv_shape* s) { return word_groups(s, 16); }

const char* bf_needs_word_groups_avx2(const bf_conv_shape* s) {
  const int64_t channels = s->in_c / s->groups, taps = static_cast<int64_t>(s->kernel_h) * s->kernel_w;
  if (channels * taps > 65535) return "more than 65535 products per sum";
  if ((channels + 7) / 8 * taps > BF_B1_WINDOW) return "more than 16384 bytes in a window";
  return word_groups(s, 32);
}

const char* bf_needs_pairs(const bf_conv_shape* s) {
  const int channels = s->in_c / s->groups;
  if (channels > kMaxGroupChannels) return "more than 16384 input channels per group";
  if (s->groups == 1) return channels % 2 != 0 && s->in_stride % 2 != 0 ? "input stride is odd" : nullptr;
  if (channels % 2 != 0) return "input channels per group are odd";
  return s->out_c / s->groups % 16 != 0 ? "output channels per group are not a multiple of 16" : nullptr;
}

const char* bf_needs_fours(const bf_conv_shape* s) {
  const int channels = s->in_c / s->groups;
  if (s->groups == 1) return s->in_stride < (channels + 3) / 4 * 4 ? "input stride has no room for whole fours of channels" : nullptr;
  if (channels % 4 != 0) return "input channels per group are not a multiple of 4";
  return s->out_c / s->groups % 16 != 0 ? "output channels per group are not a multiple of 16" : nullptr;
}

const char* bf_needs_octets(const bf_conv_shape* s) {
  if (s->groups == 1) return s->in_stride < (s->in_c + 7) / 8 * 8 ? "input stride has no room for whole groups of 8 channels" : nullptr;
  if (s->in_c / s->groups % 8 != 0) return "input channels per group are not a multiple of 8";
  return s->out_c / s->groups % 16 != 0 ? "output channels per group are not a multiple of 16" : nullptr;
}

const char* bf_needs_window(const bf_conv_shape* s) {
  if (s->groups != 1) return "groups";
  if (s->dilation_w != 1) return "dilated columns";
  return static_cast<int64_t>(s->kernel_h) * s->kernel_w * s->in_c > BF_U8_WINDOW ? "more than 8192 codes in a window" : nullptr;
}

const char* bf_needs_blocks(const bf_conv_shape* s) {
  return s->groups != 1 && s->out_c / s->groups % 16 != 0 ? "output channels per group are not a multiple of 16" : nullptr;
}

const char* bf_needs_depthwise(const bf_conv_shape* s) {
  if (s->groups == 1 || s->groups != s->in_c || s->groups != s->out_c) return "not depthwise";
  return s->in_stride < (s->in_c + 15) / 16 * 16 ? "input stride has no room for whole blocks of 16 channels" : nullptr;
}

const char* bf_needs_plain_rows(const bf_conv_shape* s) {
  if (s->kernel_h != 1 || s->kernel_w != 1 || s->groups != 1) return "not a matrix product";
  if (s->stride_h != 1 || s->stride_w != 1 || s->pad_h != 0 || s->pad_w != 0) return "the product has a stride or padding";
  return s->in_stride < (s->in_c + 3) / 4 * 4 ? "input stride has no room for whole fours of channels" : nullptr;
}
