/* From the stored constants of a file to the kernels' blocked layouts (done once, at load).
 *
 * Blocks are 16 output channels; tap = i * kernel_w + j; lanes past out_c are 0. With Cg = in_c / groups, words = ceil(Cg / 32), every output
 * channel holds the weights of its own group's channels 0 .. Cg - 1:
 *
 *   WORDS          uint32 [block][plane][tap][word][16]
 *   BYTES          uint8  [pair of blocks][plane][tap column][tap row][ceil(Cg / 8)][32]: one byte (8 input channels) of 32 output channels
 *   NIBBLES        uint8 [pair of blocks][digit][tap column][tap row][...][32]: half a byte is 4 channels of a digit of one plane, or 2 channels of a digit
 *                  of two (bits: channel 0 low, channel 0 high, channel 1 low, channel 1 high); with digits as bf_digit_planes cuts them
 *   I8             int8   [block][tap][ceil(Cg / 4)][16][4]
 *   I16            int16  [block][tap][ceil(Cg / 2)][16][2]
 *   RUNS           int16  [block][tap row][ceil(kernel_w * Cg / 2)][16][2]: the taps of a row as one run, channel fastest
 *   F32            float  [block][tap][Cg][16]
 *   OCTETS         uint8  [block][half][tap][ceil(Cg / 8)][8 output channels][8 input channels]: codes clamped to the range of the
 *                         activations' codes, minus its lowest
 *   FIELDS         uint32 [block][tap][ceil(Cg / per)][16], per = 32 / bits channels a word (bits: CodeFormat::packed_codes): of a word,
 *                  channel c is in byte c % 4, at bit bits * (c / 4 % (8 / bits))
 */
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/conv.h"

namespace bitfold {

enum class Layout { kWords, kBytes, kNibbles, kI8, kI16, kRuns, kF32, kOctets, kFields };

enum class CodeKind { kBinary, kTernary, kPowerOfTwo, kUniform };

/* The encoding of a coded tensor, as far as codes go. */
struct CodeFormat {
  CodeKind kind = CodeKind::kBinary;
  int bits = 1;         /* Uniform: 1 to 16; PowerOfTwo: planes of the exponent field */
  bool is_signed = false; /* Uniform */
  int min_exp = 0;      /* PowerOfTwo */

  int planes() const;
  int min_code() const;
  int max_code() const;
  bool linear() const { return kind != CodeKind::kPowerOfTwo; }
  bf_code_planes code_planes() const; /* only if linear() */
  bool packable() const; /* whether packed_codes() can hold the codes */
  bf_packed_codes packed_codes() const; /* only if packable() */
  void decode_table(int16_t* table) const; /* code of each of the 2^planes() fields; 0 where a field has none */
};

/* Weights as a file stores them: coded ones as uint8 (planes, out_c, kernel_h, kernel_w, ceil(Cg / 8)), least-significant bit first along
 * channels; float32 ones as (out_c, Cg, kernel_h, kernel_w). Exactly one of the two pointers is set. */
struct StoredWeights {
  const uint8_t* planes = nullptr;
  CodeFormat format;
  const float* floats = nullptr;
  int32_t out_c = 0, group_c = 0, kernel_h = 1, kernel_w = 1; /* group_c = Cg */
  CodeFormat x_format;                                        /* kOctets: of the activations, Uniform of up to 8 bits */
};

/* Bytes of the packed weights; a buffer of this size, 64-byte aligned, is filled by pack_weights. */
size_t packed_size(Layout layout, const StoredWeights& weights);

/* kWords and kBytes need coded linear weights, kI8 coded ones within -128 to 127, kI16, kRuns and kOctets coded ones (any), kF32 takes both
 * (codes become floats), kFields packable() ones.
 * Throws std::invalid_argument where the layout cannot hold the weights. */
void pack_weights(Layout layout, const StoredWeights& weights, void* out);

/* bf_byte_codes.short_steps for bytes up to max_byte and `size` weights of the layout I8. */
int32_t short_steps(int max_byte, const int8_t* weights, size_t size);

/* [block][tap][16] sums of the codes of one tap over its input channels: bf_conv_args.tap_sums and S_w of the epilogue's table. */
size_t tap_sums_count(const StoredWeights& weights); /* in int32 */
void tap_sums(const StoredWeights& weights, int32_t* out);

/* (out_c rounded up to 16): what clamping takes off the codes of each output channel, bf_conv_args.excess of adder_u8. */
void excess_sums(const StoredWeights& weights, int32_t* out);

/* Of ternary weights, in the same order and of the same size: how many codes are not 0. */
void tap_nonzero(const StoredWeights& weights, int32_t* out);

}  // namespace bitfold
