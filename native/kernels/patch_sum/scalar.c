#include <stdint.h>

#define BF_NAME(name) name##_scalar
#define bf_popcount(v) bf_popcount32(v)
#include "kernels/patch_sum/body.h"
