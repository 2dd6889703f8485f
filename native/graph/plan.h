/* A plan: values in one arena and the steps that compute them, checked piece by piece while it is built, then run any number of times.
 *
 * Whoever builds it may be hostile: every shape, offset, kind and array size is checked here, once, and a wrong one throws
 * std::invalid_argument before any kernel sees it. Nothing is allocated during run(). */
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "graph/step.h"
#include "kernels/conv.h"
#include "kernels/registry.h"

namespace bitfold {

/* A constant array given to a step: `size` elements at `data`, copied by the step. */
template <typename T>
struct Array {
  const T* data = nullptr;
  size_t size = 0;
};

/* A per-channel array with room for whole blocks of 16 channels; one element stands for all, none for `missing`. */
template <typename T>
std::shared_ptr<AlignedBuffer> lanes(Array<T> a, int c, T missing, const char* what) {
  require(a.size == 0 || a.size == 1 || a.size == static_cast<size_t>(c),
          std::string(what) + ": a per-channel array has " + std::to_string(a.size) + " elements; allowed: 1 or " + std::to_string(c));
  auto buffer = std::make_shared<AlignedBuffer>(round_up(static_cast<size_t>(c), 16) * sizeof(T));
  for (int i = 0; i < c; ++i) buffer->template as<T>()[i] = a.size == 0 ? missing : a.data[a.size == 1 ? 0 : i];
  return buffer;
}

/* What a user's array holds at the doors; bytes per element. */
enum class Outside { kF32, kI32, kI16, kU8 };
int outside_bytes(Outside outside);

struct Window {
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
  int pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0, dilation_h = 1, dilation_w = 1;
};

struct ConvSpec {
  Family family = Family::kConvF32;
  int x = -1, residual = -1;                        /* values; -1 where absent */
  int out_i32 = -1, out_f32 = -1, out_bits = -1, out_u8 = -1, patch_sums = -1;
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, dilation_h = 1, dilation_w = 1, groups = 1;
  StoredWeights weights;
  size_t weight_count = 0;                          /* elements (bytes or floats) behind `weights` */
  CodeFormat x_format;                              /* conv_planes, conv_i8, adder_u8, patch sums */
  int copies = 1;                                   /* times that the channels stand in the outputs, each with its own epilogue */
  int x_zero = 0;                                   /* adder_u8: the code of the value 0, read outside the image */
  Array<float> mul, table, patch_mul;               /* (out_c), (row classes, col classes, out_c), (out_c) */
  Array<int32_t> row_class, col_class;
  int activation = BF_ACT_NONE;
  Array<float> neg, pos, shift_in, shift_out;       /* (out_c) */
  float low = 0, high = 0;
  Array<float> threshold_f32;                       /* (out_c) */
  Array<int32_t> threshold_i32;
  Array<float> levels_f32;                          /* (1 or out_c, level count), of out_u8 */
  Array<int32_t> levels_i32;
  bool levels_per_channel = false;
  Array<uint8_t> descending;                        /* (out_c) or empty */
};

struct ConvStep;

struct KernelName {
  std::string name, isa, reason;
};

class Plan {
 public:
  /* chunk: images computed together; arena_bytes: for a whole chunk. */
  Plan(int threads, int chunk, size_t arena_bytes);

  int add_value(Kind kind, int h, int w, int c, int stride, int planes, bf_plane_kind plane_kind, int min_code, size_t offset);
  void add_input(int value, Outside outside);
  void add_output(int value, Outside outside);

  KernelName quantize(int x, int out, int levels, bool per_channel, Array<float> f32, Array<int32_t> i32, Array<uint8_t> descending,
                      Array<int16_t> alphabet);
  KernelName convert(int x, int out); /* codes: i16, u8, bits */
  KernelName dequantize(int x, int out, float scale, float offset);
  KernelName affine(int x, int out, Array<float> mul, Array<float> bias);
  KernelName arithmetic(const std::string& op, int a, int b, int out); /* add, mul */
  KernelName clamp(int x, int out, float low, float high);
  KernelName two_slope(int x, int out, Array<float> neg, Array<float> pos, Array<float> shift_in, Array<float> shift_out);
  KernelName unary(const std::string& op, int x, int out); /* abs, softmax, the kinds of Unary */
  KernelName pool(const std::string& op, int x, int out, const Window& window, bool count_padding); /* max, avg */
  KernelName mean(const std::string& over, int x, int out); /* space, channels */
  KernelName flatten(int x, int out);
  KernelName concat(const std::vector<int>& xs, int out);
  KernelName pad_channels(int x, int out, int before);
  KernelName slice(int x, int out, int start); /* channels [start, start + those of out) */
  /* rows, columns: the input's row and column that each output position reads; weights: of the next row and column, or none. */
  KernelName upsample(int x, int out, Array<int32_t> rows, Array<int32_t> columns, Array<float> row_weights, Array<float> column_weights);
  KernelName depth_to_space(int x, int out, std::pair<int, int> factor, int groups, const std::array<int, 4>& crop);
  /* table: the positions in x, pixel * channels + channel, of the runs that make up the output: `run` neighbouring channels of a pixel of x
   * each, for as many channels of one pixel or, across, one channel of as many pixels. */
  KernelName rearrange(int x, int out, Array<int32_t> table, int run, bool across);
  KernelName matmul(int a, int b, int out); /* (g, m, k) and (g, k, n) to (g, m, n) */
  KernelName conv(const ConvSpec& spec);

  /* After this the plan can run and cannot grow. Allocates the arena. */
  void finish();

  bool finished() const { return finished_; }
  size_t arena_bytes() const { return arena_bytes_; }
  int threads() const { return pool_.threads(); }
  size_t steps() const { return steps_.size(); }
  size_t allocations() const { return allocations_; } /* of arenas, ever: 1 after finish() */

  struct Port {
    int value;
    Outside outside;
    size_t image_elements; /* of the user's dense array */
  };
  const std::vector<Port>& inputs() const { return inputs_; }
  const std::vector<Port>& outputs() const { return outputs_; }

  /* Computes `batch` images, chunk by chunk. Arrays are dense (batch, C, H, W), sizes checked by the caller against Port. One call at a
   * time: others wait for the mutex. step_ns, if given, has room for doors and steps (steps() + 2: input door, steps, output door) and is
   * added to. */
  void run(const void* const* inputs, void* const* outputs, size_t batch, double* step_ns = nullptr);

 private:
  const Value& value(int id, const char* what) const;
  const Value& defined(int id, const char* what) const; /* also: an earlier step or input wrote it */
  const Value& output(int id, const char* what);        /* marks it as written */
  void conv_values(const ConvSpec& spec, ConvStep& step); /* attaches outputs, residual and patch sums */
  /* No byte in common, nor channel of any pixel; `copied`: nothing but copy_channels reads and writes. */
  bool clear(const Value& out, const Value& in, bool copied) const;
  void disjoint(const Value& out, const Value& in, bool in_place, const char* what) const;
  KernelName push(const char* name, std::unique_ptr<Step> step);
  void door_in(const Frame& frame, const void* const* inputs, size_t first) const;
  void door_out(const Frame& frame, void* const* outputs, size_t first) const;

  Isa isa_;
  const bf_ops* ops_;
  ThreadPool pool_;
  int chunk_;
  size_t arena_bytes_;
  AlignedBuffer arena_;
  std::vector<Value> values_;
  std::vector<bool> written_;
  std::vector<Port> inputs_, outputs_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::mutex mutex_;
  bool finished_ = false;
  size_t allocations_ = 0;
};

}  // namespace bitfold
