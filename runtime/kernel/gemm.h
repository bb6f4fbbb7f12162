/* Dense products by oneDNN, which is seen in gemm.c alone. Single-threaded: a thread calls for its slice. */
#pragma once

#include "runtime/tensor/dtype.h"

typedef enum ag_gemm_kind {
    AG_GEMM_F32,  /* float a, float b, float c */
    AG_GEMM_BF16, /* bf16 a, bf16 b, float c */
    AG_GEMM_INT8, /* uint8 a, int8 b, int32 c */
} ag_gemm_kind_t;

/**
 * c (m, n) = a (m, k) * b (n, k)^T on the calling thread alone; all dense and row-major.
 * The first call of a shape on a thread builds its primitive (0.3 ms), which is kept for the process.
 * @return AG_OK; AG_ERR_UNSUPPORTED: this machine's oneDNN has no fast implementation of the kind.
 */
ag_status_t ag_gemm(ag_gemm_kind_t kind, uint64_t m, uint64_t n, uint64_t k, const void *a,
                    const void *b, void *c);

/** True when the kind runs on a jit or brgemm implementation here (asked once, then remembered). */
bool ag_gemm_is_fast(ag_gemm_kind_t kind);
