#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <chrono>
#include <string>

#include "base/cpu.h"
#include "kernels/peaks/peaks.h"
#include "python/bind_peaks.h"

namespace nb = nanobind;
using bitfold::Isa;

namespace {

constexpr const char* kKinds[BF_PEAK_KINDS] = {"popcount", "int8", "int8_narrow", "int16", "sad", "fma"};

struct Peaks {
  bf_peak_fn peak;
  bf_read_fn read;
};

Peaks of_active_isa() {
  switch (bitfold::active_isa()) {
#if defined(__x86_64__)
    case Isa::kAvx512: return {bf_peak_avx512, bf_read_avx512};
    case Isa::kAvx2: return {bf_peak_avx2, bf_read_avx2};
#elif defined(__aarch64__)
    case Isa::kNeon: return {bf_peak_neon, bf_read_neon};
#endif
    default: throw nb::value_error("peaks are measured with vector instructions; got the instruction set scalar, allowed: neon, avx2, avx512");
  }
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double peak_rate(const std::string& kind, int64_t rounds) {
  const Peaks run = of_active_isa();
  if (rounds < 1) throw nb::value_error("peak_rate: rounds must be at least 1");
  for (int k = 0; k < BF_PEAK_KINDS; ++k) {
    if (kind != kKinds[k]) continue;
    const auto start = std::chrono::steady_clock::now();
    const int64_t products = run.peak(k, rounds);
    return static_cast<double>(products) / seconds_since(start);
  }
  throw nb::value_error(("peak_rate: kind " + kind + "; allowed: popcount, int8, int8_narrow, int16, sad, fma").c_str());
}

double read_rate(nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> data) {
  const Peaks run = of_active_isa();
  const int64_t bytes = static_cast<int64_t>(data.size()) / 256 * 256;
  if (bytes == 0) throw nb::value_error("read_rate: at least 256 bytes");
  const auto start = std::chrono::steady_clock::now();
  const volatile uint64_t seen = run.read(data.data(), bytes);
  (void)seen;
  return static_cast<double>(bytes) / seconds_since(start);
}

}  // namespace

namespace bitfold {

void bind_peaks(nb::module_& m) {
  m.def("peak_rate", &peak_rate, nb::arg("kind"), nb::arg("rounds"), "Products a second of one instruction mix on registers alone, one core, active instruction set.");
  m.def("read_rate", &read_rate, nb::arg("data"), "Bytes a second at which one core reads the array.");
}

}  // namespace bitfold
