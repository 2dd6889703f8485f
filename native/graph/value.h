/* A value of a plan: where it lies in the arena and what its elements are. Made and checked by Plan::add_value only. */
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/ops.h"

namespace bitfold {

enum class Kind { kF32, kI32, kI16, kU8, kBits };

inline const char* kind_name(Kind kind) {
  switch (kind) {
    case Kind::kF32: return "f32";
    case Kind::kI32: return "i32";
    case Kind::kI16: return "i16";
    case Kind::kU8: return "u8";
    case Kind::kBits: return "bits";
  }
  return "?";
}

inline int element_bytes(Kind kind) { return kind == Kind::kU8 ? 1 : kind == Kind::kI16 ? 2 : 4; }

/* One image is h * w pixels of `stride` elements; images of a chunk follow each other without gaps. Vectors have h = w = 1. Other values may lie
 * in the channels between c and the stride. */
struct Value {
  Kind kind = Kind::kF32;
  int h = 1, w = 1, c = 1;
  int stride = 1;           /* elements, or words of all planes, from one pixel to the next */
  int planes = 1;           /* kBits */
  bf_plane_kind plane_kind = BF_PLANES_BINARY; /* kBits */
  int min_code = 0;         /* kBits, BF_PLANES_UNIFORM; kU8: code = byte + min_code */
  size_t offset = 0;        /* of image 0 in the arena, in bytes */

  int pixels() const { return h * w; }
  int words() const { return (c + 31) / 32; }
  size_t image_bytes() const { return static_cast<size_t>(h) * w * stride * element_bytes(kind); }
  /* Of a pixel that any kernel reads or writes: whole blocks of 16 channels where the stride has room for them; `exact`: its channels alone. */
  size_t pixel_bytes(bool exact = false) const {
    const int lanes = exact ? c : (c + 15) / 16 * 16;
    return static_cast<size_t>(kind == Kind::kBits || lanes > stride ? stride : lanes) * element_bytes(kind);
  }
  /* Behind the last byte that any kernel reads or writes, of `images`. */
  size_t end(int images, bool exact = false) const {
    return offset + (static_cast<size_t>(pixels()) * images - 1) * stride * element_bytes(kind) + pixel_bytes(exact);
  }
  /* Whether it is the channels of `whole` from `start` on, in their place. */
  bool is_part(const Value& whole, int start) const {
    return kind == whole.kind && kind != Kind::kBits && stride == whole.stride && h == whole.h && w == whole.w &&
           offset == whole.offset + static_cast<size_t>(start) * element_bytes(kind);
  }
  bool same_shape(const Value& o) const { return h == o.h && w == o.w && c == o.c; }
};

}  // namespace bitfold
