/* Dense products of training: plain matrices in memory, in blocks at fixed places. */
#pragma once

#include "runtime/kernel/kernel_priv.h"

/* c (m, n) = a (m, k) * b (k, n) + bias, or added to c; any of m, n, k may be 0. */
typedef struct ag_product {
    uint64_t m, n, k;
    ag_elements_t a, b;
    ag_elements_t c;                 /* (m, n); m and k of one that is rounded do not vary */
    const float *bias;               /* (n) or NULL */
    bool a_by_columns, b_by_columns; /* in memory a is (k, m), b is (n, k) */
    bool add, exact;
    bool m_varies, k_varies; /* from step to step: it is cut into blocks of few sizes */
    unsigned turn;           /* added to the numbers of threads, so that small products are not all
                                the first one's */
} ag_product_t;

/** Blocks of rows that a product whose m varies is shared out by. */
uint64_t ag_product_row_blocks(uint64_t m);

/** Every thread computes its blocks of c. Scratch: ag_product_scratch_bytes(). */
void ag_product_run(const ag_kernel_context_t *context, const ag_product_t *product);
size_t ag_product_scratch_bytes(void);

/* For kernels that cut their blocks themselves. */

/** What a product's factors are rounded to on this machine. */
ag_gemm_kind_t ag_product_kind(const ag_kernel_context_t *context, bool exact);
static inline size_t ag_product_element_bytes(ag_gemm_kind_t kind)
{
    return kind == AG_GEMM_BF16 ? sizeof(uint16_t) : sizeof(float);
}
/** Round n elements, or copy them. */
void ag_product_convert(const ag_kernel_context_t *context, ag_gemm_kind_t kind, ag_elements_t src,
                        uint64_t n, void *dst);
/** One dense block, on the calling thread: by oneDNN, or else in plain C. */
void ag_product_multiply(const ag_kernel_context_t *context, const ag_gemm_form_t *form,
                         const void *a, const void *b, void *c);
