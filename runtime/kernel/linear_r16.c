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
#include <stdatomic.h>

#include "runtime/kernel/isa_priv.h"
#include "runtime/kernel/kernel_priv.h"

enum { X_BYTES = 640 * 1024, ROWS_GRAIN = 8, YIELD_OPS = 1 << 24, NEAR_BYTES = 8192 };

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

/* A layer's work: pieces of (rows that stay in L2, some groups of columns). */
typedef struct work {
    const ag_kernel_context_t *context;
    const ag_linear_t *linear;
    const float *x;
    uint64_t n_rows;
    float *y;
    uint64_t most_rows, groups; /* of a piece */
    uint64_t n_row_pieces;
} work_t;

/* A thread's share of it. */
typedef struct share {
    uint64_t group_begin, group_end;
    uint64_t n_column_pieces;
} share_t;

static share_t share_of(const work_t *work, unsigned thread)
{
    ag_worker_t worker = *work->context->worker;
    uint64_t begin, end;
    share_t share;

    worker.thread = thread;
    ag_worker_share(&worker, work->linear->n, AG_R16_ROWS, &begin, &end);
    share.group_begin = begin / AG_R16_ROWS;
    share.group_end = begin == end ? share.group_begin : (end + AG_R16_ROWS - 1) / AG_R16_ROWS;
    share.n_column_pieces = (share.group_end - share.group_begin + work->groups - 1) / work->groups;
    return share;
}

static void run_piece(const work_t *work, const share_t *share, uint64_t number)
{
    const ag_linear_t *linear = work->linear;
    const ag_r16_kernel_t *kernel = work->context->isa->r16[linear->dtype];
    uint64_t row = number / share->n_column_pieces * work->most_rows;
    uint64_t n_rows = work->n_rows - row < work->most_rows ? work->n_rows - row : work->most_rows;
    ag_r16_run_t args = {
        .weight = linear->weight,
        .k = linear->k,
        .n = linear->n,
        .group_begin = share->group_begin + number % share->n_column_pieces * work->groups,
        .x = linear->prepared != NULL ? (const unsigned char *)linear->prepared +
                                            row * ag_r16_x_bytes(linear->dtype, linear->k)
                                      : work->context->scratch,
        .n_rows = n_rows,
        .bias = linear->bias,
        .y = work->y + row * linear->n};

    args.group_end = args.group_begin + work->groups;
    if (args.group_end > share->group_end) {
        args.group_end = share->group_end;
    }
    if (linear->prepared == NULL && number % share->n_column_pieces == 0) {
        prepare(work->context, kernel, linear->k, work->x + row * linear->k, n_rows);
    }
    kernel->run(&args);
    ag_kernel_yield(work->context);
}

/*
 * One's own share, then what others have left of theirs: a thread that something else holds up is
 * not waited for. Which thread computes a piece makes no difference to it. Rows that each thread
 * prepares for itself are few: there is nothing to be helped with.
 */
static void run_shares(const work_t *work)
{
    const ag_kernel_context_t *context = work->context;
    const ag_worker_t *worker = context->worker;
    bool helps = work->linear->prepared != NULL && context->claims != NULL;
    ag_claim_t alone = {0};

    for (unsigned i = 0; i < (helps ? worker->n_threads : 1); i++) {
        unsigned thread = (worker->thread + i) % worker->n_threads;
        share_t share = share_of(work, thread);
        uint64_t n = work->n_row_pieces * share.n_column_pieces, number;
        ag_claim_t *claim =
            helps ? (ag_claim_t *)(void *)(context->claims + thread * context->claim_stride)
                  : &alone;

        while ((number = atomic_fetch_add_explicit(&claim->n_taken, 1, memory_order_relaxed)) < n) {
            run_piece(work, &share, number);
        }
    }
}

static void run(const ag_kernel_context_t *context, const ag_linear_t *linear, const float *x,
                uint64_t n_rows, float *y)
{
    uint64_t most = rows_at_once(ag_r16_x_bytes(linear->dtype, linear->k));
    work_t work = {.context = context,
                   .linear = linear,
                   .x = x,
                   .n_rows = n_rows,
                   .y = y,
                   .most_rows = most < n_rows ? most : n_rows};
    share_t own;

    work.groups = YIELD_OPS / (2 * AG_R16_ROWS * work.most_rows * linear->k) + 1;
    work.n_row_pieces = (n_rows + work.most_rows - 1) / work.most_rows;
    own = share_of(&work, context->worker->thread);
    if (own.group_begin == own.group_end && context->prepared != NULL) {
        context->prepared->x = NULL; /* what it was may not be what is there now */
    }
    run_shares(&work);
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
