/* Which instruction sets this process may use: what the CPU has, capped by the environment variable BITFOLD_ISA. */
#pragma once

namespace bitfold {

/* Rising: each level includes the ones before it on its own architecture. */
enum class Isa { kScalar = 0, kNeon = 1, kAvx2 = 2, kAvx512 = 3 };

/* The best level of this CPU: kAvx2 needs AVX2, FMA and POPCNT; kAvx512 needs F, BW, VL, DQ, VPOPCNTDQ
 * and VNNI (every CPU with the fifth has the sixth, but for Knights Mill, which also lacks BW). */
Isa detected_isa();

/* detected_isa() capped by BITFOLD_ISA = scalar | neon | avx2 | avx512; throws std::invalid_argument on another word. */
Isa active_isa();

const char* isa_name(Isa isa);

}  // namespace bitfold
