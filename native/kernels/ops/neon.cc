#define BF_TABLE bf_ops_neon
#define BF_ISA_NAME "neon"
#include "kernels/ops/ops_body.h"
