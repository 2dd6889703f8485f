#define BF_TABLE bf_ops_avx2
#define BF_ISA_NAME "avx2"
#include "kernels/ops/ops_body.h"
