#include "base/cpu.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace bitfold {

Isa detected_isa() {
#if defined(BITFOLD_EMULATE_AVX512)
  return Isa::kAvx512;
#elif defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vnni");
  return avx512 ? Isa::kAvx512 : avx2 ? Isa::kAvx2 : Isa::kScalar;
#elif defined(__aarch64__)
  return Isa::kNeon;
#else
  return Isa::kScalar;
#endif
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kScalar: return "scalar";
    case Isa::kNeon: return "neon";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
  }
  return "?";
}

Isa active_isa() {
  const Isa best = detected_isa();
  const char* cap = std::getenv("BITFOLD_ISA");
  if (cap == nullptr || *cap == '\0') return best;
  for (Isa isa : {Isa::kScalar, Isa::kNeon, Isa::kAvx2, Isa::kAvx512}) {
    if (std::string(cap) == isa_name(isa)) return isa < best ? isa : best;
  }
  throw std::invalid_argument(std::string("BITFOLD_ISA=") + cap + "; allowed: scalar, neon, avx2, avx512");
}

}  // namespace bitfold
