/* The optimizer's arithmetic: each element once, bound by memory (28 bytes for AdamW). */
#include "runtime/kernel/isa_priv.h"
#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/train.h"

enum {
    /* Floats between looks at communication; what is told of before they change stays in a core's
     * cache until they do. */
    ADAMW_SPAN = 1 << 14,
    SQUARES_SPAN = 1024, /* summed in float32 by lanes, then in double */
};

void ag_kernel_adamw(const ag_kernel_context_t *context, const ag_adamw_t *adamw, uint64_t n,
                     const float *g, float *w, float *m, float *v)
{
    const ag_isa_t *isa = context->isa != NULL ? context->isa : &ag_isa_base;
    uint64_t begin, end;

    ag_worker_share(context->worker, n, AG_LANES, &begin, &end);
    for (; begin < end; begin += ADAMW_SPAN) {
        uint64_t span = end - begin < ADAMW_SPAN ? end - begin : ADAMW_SPAN;

        ag_tell_before_write(adamw->before_write, w + begin, span);
        ag_tell_before_write(adamw->before_write, m + begin, span);
        ag_tell_before_write(adamw->before_write, v + begin, span);
        isa->adamw(adamw, span, g + begin, w + begin, m + begin, v + begin);
        ag_kernel_yield(context);
    }
}

static double sum_squares(const ag_isa_t *isa, const float *x, uint64_t n)
{
    double sum = 0;

    for (uint64_t i = 0; i < n && isa != NULL; i += SQUARES_SPAN) {
        sum += (double)isa->sum_squares(x + i, n - i < SQUARES_SPAN ? n - i : SQUARES_SPAN);
    }
    for (uint64_t i = 0; i < n && isa == NULL; i++) {
        sum += (double)x[i] * (double)x[i];
    }
    return sum;
}

void ag_kernel_sum_squares(const ag_kernel_context_t *context, const float *x, uint64_t n,
                           double *sums)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, ag_sum_chunks(n), 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        uint64_t at = i * AG_SUM_CHUNK;

        sums[i] = sum_squares(context->isa, x + at,
                              n - at < AG_SUM_CHUNK ? n - at : (uint64_t)AG_SUM_CHUNK);
        ag_kernel_yield(context);
    }
}

double ag_add_sums(const double *sums, uint64_t n)
{
    double sum = 0;

    for (uint64_t i = 0; i < n; i++) {
        sum += sums[i];
    }
    return sum;
}
