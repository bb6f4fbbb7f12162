/* Which implementation computes a linear layer. */
#include <string.h>

#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/r16_priv.h"

/* The first that can take a weight, and has rows enough to be faster than the ones below it: as
 * `bench_linear --all` found on two cores of AVX-512. */
static const struct choice {
    const ag_linear_impl_t *impl;
    uint64_t least_rows;
} choices[] = {
    {&ag_linear_r16, 1},
    {&ag_linear_onednn, 3},
    {&ag_linear_unpack_gemm, 5},
    {&ag_linear_reference, 1},
};

enum { N_CHOICES = sizeof(choices) / sizeof(choices[0]) };

const ag_linear_impl_t *ag_linear_choose(const ag_gemm_cache_t *gemm, const ag_isa_t *isa,
                                         const ag_linear_t *linear, uint64_t n_rows, bool exact)
{
    for (int i = 0; i < N_CHOICES; i++) {
        if (n_rows >= choices[i].least_rows && choices[i].impl->can(gemm, isa, linear, exact)) {
            return choices[i].impl;
        }
    }
    return &ag_linear_reference;
}

uint32_t ag_linear_grain(ag_packing_t packing)
{
    return packing == AG_PACKING_R16 ? AG_R16_ROWS : AG_PANEL_COLUMNS;
}

/* Ways differ in their last bits. Which one is taken depends on the rows that a sequence has, not
 * on how many sequences there are, so that a sequence gets the same bits in any company. */
static uint64_t rows_each(const ag_step_t *step, uint64_t n_rows)
{
    uint64_t n = step != NULL ? step->counts[AG_COUNT_SEQUENCES] : 0;

    return n > 1 ? (n_rows + n - 1) / n : n_rows;
}

void ag_kernel_linear(const ag_kernel_context_t *context, const ag_linear_t *linear, const float *x,
                      uint64_t n_rows, bool exact, float *y)
{
    const ag_linear_impl_t *impl = ag_linear_choose(context->gemm, context->isa, linear,
                                                    rows_each(context->step, n_rows), exact);

    if (context->prepared != NULL && impl != &ag_linear_r16) {
        context->prepared->x = NULL;
    }
    impl->run(context, linear, x, n_rows, y);
}

ag_gemm_kind_t ag_linear_arithmetic(const ag_linear_t *linear, bool exact)
{
    if (exact || linear->dtype == AG_F32 || linear->dtype == AG_F16) {
        return AG_GEMM_F32;
    }
    return linear->packing == AG_PACKING_R16 && ag_r16_is_int8(linear->dtype) ? AG_GEMM_INT8
                                                                              : AG_GEMM_BF16;
}

size_t ag_linear_scratch_bytes(const ag_linear_t *linear)
{
    size_t most = 0;

    for (int i = 0; i < N_CHOICES; i++) {
        size_t bytes = choices[i].impl->scratch_bytes(linear);

        most = bytes > most ? bytes : most;
    }
    return most;
}

void ag_linear_store(const ag_linear_t *linear, const float *tile, uint64_t n_rows, uint64_t column,
                     uint64_t n_columns, float *y)
{
    for (uint64_t i = 0; i < n_rows; i++) {
        float *dst = y + i * linear->n + column;

        if (linear->bias == NULL) {
            memcpy(dst, tile + i * n_columns, n_columns * sizeof(float));
            continue;
        }
        for (uint64_t j = 0; j < n_columns; j++) {
            dst[j] = tile[i * n_columns + j] + linear->bias[column + j];
        }
    }
}
