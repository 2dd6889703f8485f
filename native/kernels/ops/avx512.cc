#define BF_TABLE bf_ops_avx512
#define BF_ISA_NAME "avx512"
#include "kernels/ops/ops_body.h"
