/* AVX-512 intrinsics by SIMDe, put in front of the AVX-512 sources of an emulated build. */
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#undef _mm512_madd_epi16 /* SIMDe 0.7.4 gives this alias two parameters too many */
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)

/* SIMDe 0.7.4 lacks this one. */
static inline simde__m512 bf_emulated_cvtepi32_ps(simde__m512i a) {
  const simde__m512i_private from = simde__m512i_to_private(a);
  simde__m512_private to;
  for (int i = 0; i < 16; ++i) to.f32[i] = (float)from.i32[i];
  return simde__m512_from_private(to);
}
#define _mm512_cvtepi32_ps(a) bf_emulated_cvtepi32_ps(a)

/* Nor this one. */
static inline simde__m128i bf_emulated_cvtepi32_epi8(simde__m512i a) {
  const simde__m512i_private from = simde__m512i_to_private(a);
  simde__m128i_private to;
  for (int i = 0; i < 16; ++i) to.i8[i] = (int8_t)from.i32[i];
  return simde__m128i_from_private(to);
}
#define _mm512_cvtepi32_epi8(a) bf_emulated_cvtepi32_epi8(a)
