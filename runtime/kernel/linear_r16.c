/*
 * LINEAR over weights packed as r16, with the instruction set's kernels:
 *
 *     for as many rows of x as stay in L2, prepared (int8 with scales, or bf16)
 *         for each of my groups of 16 columns: read once
 *             for each tile of up to 8 rows: runtime/kernel/isa
 *
 * It moves the weight once for each such number of rows; 2 * rows * n * k operations. A column is
 * summed in one order whatever the tile, so bits depend on the instruction set alone.
 */
#include "runtime/kernel/isa_priv.h"
#include "runtime/kernel/kernel_priv.h"

enum { X_BYTES = 384 * 1024, ROWS_GRAIN = 8, YIELD_OPS = 1 << 24, NEAR_BYTES = 8192 };

static bool can(const ag_gemm_cache_t *gemm, const ag_isa_t *isa, const ag_linear_t *linear,
                bool exact)
{
    (void)gemm;
    return isa != NULL && !exact && linear->packing == AG_PACKING_R16 && linear->k > 0;
}

/* Rows of x whose prepared form is to stay in L2. */
static uint64_t rows_at_once(uint64_t x_bytes)
{
    uint64_t n = X_BYTES / x_bytes / ROWS_GRAIN * ROWS_GRAIN;

    return n > 0 ? n : ROWS_GRAIN;
}

uint64_t ag_linear_prepared_bytes(const ag_linear_t *linear, bool exact)
{
    return exact || linear->packing != AG_PACKING_R16 ? 0
                                                      : ag_r16_x_bytes(linear->dtype, linear->k);
}

void ag_kernel_prepare(const ag_kernel_context_t *context, const ag_linear_t *linear,
                       const float *x, uint64_t n_rows, void *dst)
{
    uint64_t x_bytes = ag_r16_x_bytes(linear->dtype, linear->k), begin, end;

    ag_worker_share(context->worker, n_rows, ROWS_GRAIN, &begin, &end);
    context->isa->r16[linear->dtype]->prepare(x + begin * linear->k, end - begin, linear->k,
                                              (unsigned char *)dst + begin * x_bytes);
}

/* Call what this thread reads first of a layer near, while it waits for others and for rows. */
static void call_near(const ag_worker_t *worker, const ag_linear_t *linear)
{
    uint64_t group_bytes, begin, end;
    const unsigned char *weight;

    if (linear == NULL || linear->packing != AG_PACKING_R16) {
        return;
    }
    group_bytes = ag_r16_group_bytes(linear->dtype, linear->k);
    ag_worker_share(worker, linear->n, AG_R16_ROWS, &begin, &end);
    weight = (const unsigned char *)linear->weight + begin / AG_R16_ROWS * group_bytes;
    end = (end - begin + AG_R16_ROWS - 1) / AG_R16_ROWS * group_bytes;
    for (uint64_t i = 0; i < NEAR_BYTES && i < end; i += AG_R16_VECTOR) {
        __builtin_prefetch(weight + i, 0, 2);
    }
}

/* Rows of x into scratch, unless the layer before has left them there. */
static void prepare(const ag_kernel_context_t *context, const ag_r16_kernel_t *kernel, uint64_t k,
                    const float *x, uint64_t n_rows)
{
    ag_prepared_t *held = context->prepared;

    if (held != NULL && held->x == x && held->n_rows == n_rows && held->k == k &&
        held->form == kernel) {
        return;
    }
    kernel->prepare(x, n_rows, k, context->scratch);
    if (held != NULL) {
        *held = (ag_prepared_t){.x = x, .n_rows = n_rows, .k = k, .form = kernel};
    }
}

static void run(const ag_kernel_context_t *context, const ag_linear_t *linear, const float *x,
                uint64_t n_rows, float *y)
{
    const ag_r16_kernel_t *kernel = context->isa->r16[linear->dtype];
    uint64_t x_bytes = ag_r16_x_bytes(linear->dtype, linear->k), begin, end;
    uint64_t most = rows_at_once(x_bytes);

    ag_worker_share(context->worker, linear->n, AG_R16_ROWS, &begin, &end);
    if (begin == end) {
        if (context->prepared != NULL) {
            context->prepared->x = NULL; /* what it was may not be what is there now */
        }
        return;
    }
    for (uint64_t row = 0; row < n_rows; row += most) {
        uint64_t m = n_rows - row < most ? n_rows - row : most;
        uint64_t groups = YIELD_OPS / (2 * AG_R16_ROWS * m * linear->k) + 1;
        ag_r16_run_t args = {.weight = linear->weight,
                             .k = linear->k,
                             .n = linear->n,
                             .group_end = begin / AG_R16_ROWS,
                             .x = linear->prepared != NULL
                                      ? (const unsigned char *)linear->prepared + row * x_bytes
                                      : context->scratch,
                             .n_rows = m,
                             .bias = linear->bias,
                             .y = y + row * linear->n};

        if (linear->prepared == NULL) {
            prepare(context, kernel, linear->k, x + row * linear->k, m);
        }
        while (args.group_end * AG_R16_ROWS < end) {
            args.group_begin = args.group_end;
            args.group_end += groups;
            if (args.group_end * AG_R16_ROWS > end) {
                args.group_end = (end + AG_R16_ROWS - 1) / AG_R16_ROWS;
            }
            kernel->run(&args);
            ag_kernel_yield(context);
        }
    }
    call_near(context->worker, linear->next);
}

/* No type's row of x takes more than 4 bytes a column, rounded up to pairs. */
static size_t scratch_bytes(const ag_linear_t *linear)
{
    uint64_t most = ROWS_GRAIN * (linear->k + 1) * sizeof(float);

    return linear->packing != AG_PACKING_R16 ? 0 : ag_align_up(most > X_BYTES ? most : X_BYTES);
}

const ag_linear_impl_t ag_linear_r16 = {
    .name = "r16", .can = can, .run = run, .scratch_bytes = scratch_bytes};
