#include "kernels/weights.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/bits.h"

namespace bitfold {

int CodeFormat::planes() const {
  switch (kind) {
    case CodeKind::kBinary: return 1;
    case CodeKind::kTernary: return 2;
    case CodeKind::kPowerOfTwo: return 1 + bits;
    case CodeKind::kUniform: return bits;
  }
  return 0;
}

int CodeFormat::max_code() const {
  switch (kind) {
    case CodeKind::kPowerOfTwo: return 1 << std::min(14, min_exp + (1 << bits) - 2);
    case CodeKind::kUniform: return (1 << (is_signed ? bits - 1 : bits)) - 1;
    default: return 1;
  }
}

int CodeFormat::min_code() const { return kind != CodeKind::kUniform ? -max_code() : is_signed ? -(1 << (bits - 1)) : 0; }

bf_code_planes CodeFormat::code_planes() const {
  bf_code_planes p = {};
  p.planes = planes();
  switch (kind) {
    case CodeKind::kBinary: p.base = 1, p.coefficient[0] = -2; break;
    case CodeKind::kTernary: p.coefficient[0] = -2, p.coefficient[1] = 1; break;
    case CodeKind::kUniform:
      p.base = is_signed ? -(1 << (bits - 1)) : 0;
      for (int i = 0; i < bits; ++i) p.coefficient[i] = 1 << (bits - 1 - i);
      break;
    case CodeKind::kPowerOfTwo: throw std::invalid_argument("power-of-two codes are not a linear function of their bit planes");
  }
  return p;
}

bool CodeFormat::packable() const { return kind == CodeKind::kUniform || kind == CodeKind::kPowerOfTwo ? bits <= (linear() ? 4 : 2) : true; }

bf_packed_codes CodeFormat::packed_codes() const {
  if (!packable()) throw std::invalid_argument("codes do not fit fields of 4 bits");
  switch (kind) {
    case CodeKind::kBinary: return {1, 1, -1, 2};
    case CodeKind::kTernary: return {2, 2, -1, 1};
    case CodeKind::kUniform: return {bits == 3 ? 4 : bits, (1 << bits) - 1, is_signed ? -(1 << (bits - 1)) : 0, 1};
    case CodeKind::kPowerOfTwo: break;
  }
  const int largest = bits == 1 ? 1 : 4;  // 0, +-1 or 0, +-1, +-2, +-4, times 2^min_exp
  return {bits == 1 ? 2 : 4, 2 * largest, -largest * (1 << min_exp), 1 << min_exp};
}

void CodeFormat::decode_table(int16_t* table) const {
  const int fields = 1 << planes(), half = fields / 2;
  for (int field = 0; field < fields; ++field) {
    const int magnitude = field % half;
    const int exponent = magnitude - 1 + (kind == CodeKind::kPowerOfTwo ? min_exp : 0);
    switch (kind) {
      case CodeKind::kBinary: table[field] = field ? -1 : 1; break;
      case CodeKind::kUniform: table[field] = static_cast<int16_t>(field - (is_signed ? half : 0)); break;
      default: {
        const int value = magnitude == 0 || exponent > 14 ? 0 : 1 << exponent;
        table[field] = static_cast<int16_t>(field < half ? value : -value);
      }
    }
  }
}

namespace {

struct Sizes {
  int64_t taps, channels, bytes, words, pairs, fours, run_pairs, blocks;
  explicit Sizes(const StoredWeights& w)
      : taps(static_cast<int64_t>(w.kernel_h) * w.kernel_w),
        channels(w.group_c),
        bytes((w.group_c + 7) / 8),
        words((w.group_c + 31) / 32),
        pairs((w.group_c + 1) / 2),
        fours((w.group_c + 3) / 4),
        run_pairs((static_cast<int64_t>(w.kernel_w) * w.group_c + 1) / 2),
        blocks((w.out_c + 15) / 16) {}
};

/* Up to four bytes from byte `i` on. A copy of known size is one load; of another size a call. */
uint32_t word_at(const uint8_t* row, int64_t i, int64_t bytes) {
  uint32_t word = 0;
  if (i + 4 <= bytes) std::memcpy(&word, row + i, 4);
  else std::memcpy(&word, row + i, static_cast<size_t>(bytes - i));
  return word;
}

/* The bytes of one plane of one output channel, (taps, bytes). Of a ternary code both planes are needed: a zero has no sign. */
class PlaneReader {
 public:
  PlaneReader(const StoredWeights& w) : w_(w), row_(Sizes(w).taps * Sizes(w).bytes), clean_(static_cast<size_t>(row_)) {}

  const uint8_t* row(int plane, int64_t o) {
    const uint8_t* stored = w_.planes + (plane * static_cast<int64_t>(w_.out_c) + o) * row_;
    if (w_.format.kind != CodeKind::kTernary || plane != 0) return stored;
    const uint8_t* non_zero = w_.planes + (w_.out_c + o) * row_;
    for (int64_t i = 0; i < row_; ++i) clean_[static_cast<size_t>(i)] = stored[i] & non_zero[i];
    return clean_.data();
  }

 private:
  const StoredWeights& w_;
  int64_t row_;
  std::vector<uint8_t> clean_;
};

/* Codes of one output channel, (taps, channels rounded up to 8). */
class CodeReader {
 public:
  explicit CodeReader(const StoredWeights& w) : w_(w), row_(Sizes(w).taps * Sizes(w).bytes), table_(size_t{1} << w.format.planes()) {
    w.format.decode_table(table_.data());
    codes_.resize(static_cast<size_t>(row_) * 8);
    for (size_t byte = 0; byte < 256; ++byte)
      for (size_t bit = 0; bit < 8; ++bit) spread_[byte] |= static_cast<uint64_t>(byte >> bit & 1) << (8 * bit);
  }

  const int16_t* row(int64_t o) {
    const int planes = w_.format.planes(), high = std::max(0, planes - 8);
    for (int64_t i = 0; i < row_; ++i) {
      const uint64_t upper = fields(0, high, o, i), lower = fields(high, planes, o, i);
      for (int k = 0; k < 8; ++k) codes_[static_cast<size_t>(8 * i + k)] = table_[(upper >> 8 * k & 255) << 8 | (lower >> 8 * k & 255)];
    }
    return codes_.data();
  }

 private:
  /* Planes [begin, end), at most 8, of eight channels: byte k is the field of channel k. */
  uint64_t fields(int begin, int end, int64_t o, int64_t i) const {
    uint64_t bits = 0;
    for (int plane = begin; plane < end; ++plane) bits = bits << 1 | spread_[w_.planes[(plane * static_cast<int64_t>(w_.out_c) + o) * row_ + i]];
    return bits;
  }

  const StoredWeights& w_;
  int64_t row_;
  std::vector<int16_t> table_, codes_;
  uint64_t spread_[256] = {};  // bit k of a byte -> byte k
};

void pack_words(const StoredWeights& w, uint32_t* out) {
  const Sizes n(w);
  const int planes = w.format.planes();
  PlaneReader reader(w);
  for (int64_t o = 0; o < w.out_c; ++o)
    for (int plane = 0; plane < planes; ++plane) {
      const uint8_t* row = reader.row(plane, o);
      uint32_t* to = out + (o / 16 * planes + plane) * n.taps * n.words * 16 + o % 16;
      for (int64_t tap = 0; tap < n.taps; ++tap, row += n.bytes)
        for (int64_t word = 0; word < n.words; ++word, to += 16) *to = word_at(row, 4 * word, n.bytes);
    }
}

void pack_bytes(const StoredWeights& w, uint8_t* out) {
  const Sizes n(w);
  const int planes = w.format.planes();
  PlaneReader reader(w);
  for (int64_t o = 0; o < w.out_c; ++o)
    for (int plane = 0; plane < planes; ++plane) {
      const uint8_t* row = reader.row(plane, o);
      uint8_t* to = out + (o / 32 * planes + plane) * n.taps * n.bytes * 32 + o % 32;
      for (int64_t j = 0; j < w.kernel_w; ++j)
        for (int64_t i = 0; i < w.kernel_h; ++i)
          for (int64_t k = 0; k < n.bytes; ++k, to += 32) *to = row[(i * w.kernel_w + j) * n.bytes + k];
    }
}

/* Bit i of a byte -> bit 2 i. */
uint32_t spread_bits(uint32_t byte) {
  byte = (byte | byte << 4) & 0x0f0fu;
  byte = (byte | byte << 2) & 0x3333u;
  return (byte | byte << 1) & 0x5555u;
}

void pack_nibbles(const StoredWeights& w, uint8_t* out) {
  const Sizes n(w);
  const int planes = w.format.planes();
  PlaneReader reader(w);
  std::vector<uint8_t> high;
  for (int64_t o = 0; o < w.out_c; ++o)
    for (int plane = 0, digit = 0; plane < planes; plane += digit) {
      digit = bf_digit_planes(planes, plane);
      const uint8_t* row = reader.row(plane, o);
      if (digit == 2) {
        high.assign(row, row + n.taps * n.bytes);
        row = reader.row(plane + 1, o);
      }
      uint8_t* to = out + (o / 32 * planes + plane) * n.taps * n.words * 128 + o % 32;
      for (int64_t place = 0; place < n.taps; ++place, to += digit * n.words * 128) {
        const int64_t tap = place % w.kernel_h * w.kernel_w + place / w.kernel_h;
        for (int64_t i = 0; i < n.bytes; ++i) {
          const int64_t at = tap * n.bytes + i;
          if (digit == 1) {
            to[i * 32] = row[at];
            continue;
          }
          const uint32_t fields = spread_bits(row[at]) | spread_bits(high[static_cast<size_t>(at)]) << 1;
          to[2 * i * 32] = static_cast<uint8_t>(fields);
          to[(2 * i + 1) * 32] = static_cast<uint8_t>(fields >> 8);
        }
      }
    }
}

/* Calls write(block, tap, channel, lanes) for every channel of every tap, lanes being the codes of 16 output channels. In this order the
 * packed weights are written front to back. */
template <typename Write>
void for_each_lanes(const StoredWeights& w, const Write& write) {
  const Sizes n(w);
  const int64_t row = n.taps * n.bytes * 8;
  CodeReader reader(w);
  std::vector<int16_t> rows(static_cast<size_t>(row) * 16);  // (16, row)
  for (int64_t b = 0; b < n.blocks; ++b) {
    std::fill(rows.begin(), rows.end(), int16_t{0});
    for (int64_t o = 16 * b; o < std::min<int64_t>(w.out_c, 16 * b + 16); ++o) std::copy_n(reader.row(o), row, rows.data() + o % 16 * row);
    for (int64_t tap = 0; tap < n.taps; ++tap)
      for (int64_t c = 0; c < n.channels; ++c) {
        int16_t lanes[16];
        for (int64_t lane = 0; lane < 16; ++lane) lanes[lane] = rows[static_cast<size_t>(lane * row + tap * n.bytes * 8 + c)];
        write(b, tap, c, lanes);
      }
  }
}

void pack_i8(const StoredWeights& w, int8_t* out) {
  const Sizes n(w);
  for_each_lanes(w, [&](int64_t b, int64_t tap, int64_t c, const int16_t* lanes) {
    int8_t* to = out + ((b * n.taps + tap) * n.fours + c / 4) * 64 + c % 4;
    for (int lane = 0; lane < 16; ++lane) {
      if (lanes[lane] < -128 || lanes[lane] > 127)
        throw std::invalid_argument("a weight code is " + std::to_string(lanes[lane]) + "; the layout I8 allows -128 to 127");
      to[4 * lane] = static_cast<int8_t>(lanes[lane]);
    }
  });
}

void pack_i16(const StoredWeights& w, int16_t* out) {
  const Sizes n(w);
  for_each_lanes(w, [&](int64_t b, int64_t tap, int64_t c, const int16_t* lanes) {
    int16_t* to = out + ((b * n.taps + tap) * n.pairs + c / 2) * 32 + c % 2;
    for (int lane = 0; lane < 16; ++lane) to[2 * lane] = lanes[lane];
  });
}

void pack_fields(const StoredWeights& w, uint32_t* out) {
  const Sizes n(w);
  const bf_packed_codes codes = w.format.packed_codes();
  const int64_t per_word = 32 / codes.bits, words = (n.channels + per_word - 1) / per_word;
  for_each_lanes(w, [&](int64_t b, int64_t tap, int64_t c, const int16_t* lanes) {
    uint32_t* to = out + ((b * n.taps + tap) * words + c / per_word) * 16;
    const int64_t at = c % per_word, shift = 8 * (at % 4) + codes.bits * (at / 4);
    const int64_t used = std::min<int64_t>(16, w.out_c - 16 * b);
    for (int64_t lane = 0; lane < used; ++lane) to[lane] |= static_cast<uint32_t>((lanes[lane] - codes.base) / codes.factor) << shift;
  });
}

void pack_runs(const StoredWeights& w, int16_t* out) {
  const Sizes n(w);
  for_each_lanes(w, [&](int64_t b, int64_t tap, int64_t c, const int16_t* lanes) {
    const int64_t k = tap % w.kernel_w * n.channels + c;
    int16_t* to = out + ((b * w.kernel_h + tap / w.kernel_w) * n.run_pairs + k / 2) * 32 + k % 2;
    for (int lane = 0; lane < 16; ++lane) to[2 * lane] = lanes[lane];
  });
}

void pack_f32(const StoredWeights& w, float* out) {
  const Sizes n(w);
  for (int64_t o = 0; o < w.out_c; ++o) {
    const float* row = w.floats + o * n.channels * n.taps;
    float* to = out + o / 16 * n.taps * n.channels * 16 + o % 16;
    for (int64_t c = 0; c < n.channels; ++c)
      for (int64_t tap = 0; tap < n.taps; ++tap) to[(tap * n.channels + c) * 16] = row[c * n.taps + tap];
  }
}

void pack_f32_from_codes(const StoredWeights& w, float* out) {
  const Sizes n(w);
  for_each_lanes(w, [&](int64_t b, int64_t tap, int64_t c, const int16_t* lanes) {
    std::copy_n(lanes, 16, out + ((b * n.taps + tap) * n.channels + c) * 16);
  });
}

/* The range of the activations' codes, to which the layout OCTETS clamps. */
struct Range {
  int32_t low, high;
  explicit Range(const CodeFormat& x) : low(x.min_code()), high(x.max_code()) {}
  int32_t clamp(int32_t code) const { return std::min(std::max(code, low), high); }
};

void pack_octets(const StoredWeights& w, uint8_t* out) {
  const Sizes n(w);
  const Range range(w.x_format);
  CodeReader reader(w);
  for (int64_t o = 0; o < w.out_c; ++o) {
    const int16_t* row = reader.row(o);
    uint8_t* to = out + o / 8 * n.taps * n.bytes * 64 + o % 8 * 8;
    for (int64_t tap = 0; tap < n.taps; ++tap)
      for (int64_t c = 0; c < n.channels; ++c)
        to[(tap * n.bytes + c / 8) * 64 + c % 8] = static_cast<uint8_t>(range.clamp(row[tap * n.bytes * 8 + c]) - range.low);
  }
}

}  // namespace

size_t packed_size(Layout layout, const StoredWeights& w) {
  const Sizes n(w);
  const int planes = w.floats ? 0 : w.format.planes();
  switch (layout) {
    case Layout::kWords: return static_cast<size_t>(n.blocks * planes * n.taps * n.words * 64);
    case Layout::kBytes: return static_cast<size_t>((n.blocks + 1) / 2 * planes * n.taps * n.bytes * 32);
    case Layout::kNibbles: return static_cast<size_t>((n.blocks + 1) / 2 * planes * n.taps * n.words * 128);
    case Layout::kI8: return static_cast<size_t>(n.blocks * n.taps * n.fours * 64);
    case Layout::kI16: return static_cast<size_t>(n.blocks * n.taps * n.pairs * 64);
    case Layout::kRuns: return static_cast<size_t>(n.blocks * w.kernel_h * n.run_pairs * 64);
    case Layout::kF32: return static_cast<size_t>(n.blocks * n.taps * n.channels * 64);
    case Layout::kOctets: return static_cast<size_t>(n.blocks * n.taps * n.bytes * 128);
    case Layout::kFields: return static_cast<size_t>(n.blocks * n.taps * ((n.channels * w.format.packed_codes().bits + 31) / 32) * 64);
  }
  return 0;
}

void pack_weights(Layout layout, const StoredWeights& w, void* out) {
  if ((w.planes == nullptr) == (w.floats == nullptr)) throw std::invalid_argument("stored weights: give planes or floats, not both");
  if (layout != Layout::kF32 && w.floats) throw std::invalid_argument("float32 weights need the layout F32");
  if ((layout == Layout::kWords || layout == Layout::kBytes || layout == Layout::kNibbles) && !w.format.linear())
    throw std::invalid_argument("power-of-two weights need the layout I8, I16 or F32");
  const bool is_int16 = layout == Layout::kI16 || layout == Layout::kRuns;
  if (is_int16 && w.format.kind == CodeKind::kUniform && !w.format.is_signed && w.format.bits > 15)
    throw std::invalid_argument("unsigned 16-bit codes do not fit int16");
  if (layout == Layout::kOctets && (w.x_format.kind != CodeKind::kUniform || w.x_format.bits > 8))
    throw std::invalid_argument("the layout OCTETS needs uniform activations of at most 8 bits");
  std::memset(out, 0, packed_size(layout, w));
  switch (layout) {
    case Layout::kWords: return pack_words(w, static_cast<uint32_t*>(out));
    case Layout::kBytes: return pack_bytes(w, static_cast<uint8_t*>(out));
    case Layout::kI8: return pack_i8(w, static_cast<int8_t*>(out));
    case Layout::kNibbles: return pack_nibbles(w, static_cast<uint8_t*>(out));
    case Layout::kI16: return pack_i16(w, static_cast<int16_t*>(out));
    case Layout::kFields: return pack_fields(w, static_cast<uint32_t*>(out));
    case Layout::kRuns: return pack_runs(w, static_cast<int16_t*>(out));
    case Layout::kF32: return w.floats ? pack_f32(w, static_cast<float*>(out)) : pack_f32_from_codes(w, static_cast<float*>(out));
    case Layout::kOctets: return pack_octets(w, static_cast<uint8_t*>(out));
  }
}

int32_t short_steps(int max_byte, const int8_t* weights, size_t size) {
  int most = 1;
  for (size_t i = 0; i < size; ++i) most = std::max(most, std::abs(static_cast<int>(weights[i])));
  return 32767 / (2 * std::max(1, max_byte) * most);
}

namespace {

int32_t count_ones(const uint8_t* row, int64_t bytes) {
  int32_t ones = 0;
  for (int64_t i = 0; i < bytes; i += 4) ones += bf_popcount32(word_at(row, i, bytes));
  return ones;
}

}  // namespace

size_t tap_sums_count(const StoredWeights& w) { return static_cast<size_t>(Sizes(w).blocks * Sizes(w).taps * 16); }

void tap_sums(const StoredWeights& w, int32_t* out) {
  if (w.planes == nullptr) throw std::invalid_argument("tap sums are made of coded weights");
  const Sizes n(w);
  std::memset(out, 0, tap_sums_count(w) * sizeof(int32_t));
  if (!w.format.linear()) {
    CodeReader reader(w);
    for (int64_t o = 0; o < w.out_c; ++o) {
      const int16_t* row = reader.row(o);
      for (int64_t tap = 0; tap < n.taps; ++tap, row += n.bytes * 8)
        for (int64_t c = 0; c < n.channels; ++c) out[(o / 16 * n.taps + tap) * 16 + o % 16] += row[c];
    }
    return;
  }
  const bf_code_planes codes = w.format.code_planes();
  PlaneReader reader(w);
  for (int64_t o = 0; o < w.out_c; ++o)
    for (int plane = 0; plane < codes.planes; ++plane) {
      const uint8_t* row = reader.row(plane, o);
      for (int64_t tap = 0; tap < n.taps; ++tap, row += n.bytes) {
        const int32_t ones = count_ones(row, n.bytes);
        int32_t& sum = out[(o / 16 * n.taps + tap) * 16 + o % 16];
        sum += codes.coefficient[plane] * ones + (plane == 0 ? codes.base * static_cast<int32_t>(n.channels) : 0);
      }
    }
}

void excess_sums(const StoredWeights& w, int32_t* out) {
  const Sizes n(w);
  const Range range(w.x_format);
  CodeReader reader(w);
  std::fill(out, out + n.blocks * 16, 0);
  for (int64_t o = 0; o < w.out_c; ++o) {
    const int16_t* row = reader.row(o);
    for (int64_t tap = 0; tap < n.taps; ++tap)
      for (int64_t c = 0; c < n.channels; ++c) out[o] += std::abs(row[tap * n.bytes * 8 + c] - range.clamp(row[tap * n.bytes * 8 + c]));
  }
}

void tap_nonzero(const StoredWeights& w, int32_t* out) {
  if (w.planes == nullptr || w.format.kind != CodeKind::kTernary) throw std::invalid_argument("only ternary weights have a count of non-zeros");
  const Sizes n(w);
  std::memset(out, 0, tap_sums_count(w) * sizeof(int32_t));
  PlaneReader reader(w);
  for (int64_t o = 0; o < w.out_c; ++o) {
    const uint8_t* row = reader.row(1, o);
    for (int64_t tap = 0; tap < n.taps; ++tap, row += n.bytes) out[(o / 16 * n.taps + tap) * 16 + o % 16] = count_ones(row, n.bytes);
  }
}

}  // namespace bitfold
