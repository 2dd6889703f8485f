#define BF_TABLE bf_ops_scalar
#define BF_ISA_NAME "scalar"
#include "kernels/ops/ops_body.h"
