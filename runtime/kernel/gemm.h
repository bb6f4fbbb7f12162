/* Dense products by oneDNN, which is seen in gemm.c alone. Single-threaded: a thread calls for its
 * slice. */
#pragma once

#include "runtime/tensor/dtype.h"

typedef enum ag_gemm_kind {
    AG_GEMM_F32,  /* float a, float b, float c */
    AG_GEMM_BF16, /* bf16 a, bf16 b, float c */
    AG_GEMM_INT8, /* uint8 a, int8 b, int32 c */
    AG_N_GEMM_KINDS,
} ag_gemm_kind_t;

/* Primitives by shape, for each thread its own; the oldest is dropped when a thread has too many.
 */
typedef struct ag_gemm_cache ag_gemm_cache_t;

ag_status_t ag_gemm_cache_create(unsigned n_threads, ag_gemm_cache_t **cache_p);
void ag_gemm_cache_destroy(ag_gemm_cache_t *cache); /* NULL is allowed */

/** True when the kind runs on a jit or brgemm implementation on this machine. */
bool ag_gemm_is_fast(const ag_gemm_cache_t *cache, ag_gemm_kind_t kind);

/* One product c (m, n) = a (m, k) * b (k, n), or added to c. */
typedef struct ag_gemm_form {
    ag_gemm_kind_t kind;
    bool a_by_columns; /* in memory a is (k, m) */
    bool b_by_columns; /* in memory b is (n, k): rows of a weight */
    bool add;
    bool c_rounded;   /* c is bf16, not float, of AG_GEMM_BF16 */
    uint64_t m, n, k; /* none may be 0 */
} ag_gemm_form_t;

/**
 * A product on the calling thread alone; all dense and row-major. The first call of a form builds
 * its primitive (0.3 ms).
 * @param thread  the caller's number in the cache; one caller per number at a time.
 * @return AG_OK; AG_ERR_UNSUPPORTED: oneDNN cannot; AG_ERR_NOMEM.
 */
ag_status_t ag_gemm_run(ag_gemm_cache_t *cache, unsigned thread, const ag_gemm_form_t *form,
                        const void *a, const void *b, void *c);

/** c (m, n) = a (m, k) * b (n, k)^T. */
ag_status_t ag_gemm(ag_gemm_cache_t *cache, unsigned thread, ag_gemm_kind_t kind, uint64_t m,
                    uint64_t n, uint64_t k, const void *a, const void *b, void *c);
