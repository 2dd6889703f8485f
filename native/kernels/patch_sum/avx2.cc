/* The scalar body, compiled for a CPU that has a popcount instruction. */
#include <stdint.h>

#define BF_NAME(name) name##_avx2
#define bf_popcount(v) __builtin_popcount(v)
#include "kernels/patch_sum/body.h"
