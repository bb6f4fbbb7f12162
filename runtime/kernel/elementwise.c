/* Kernels that touch each element once: bound by memory, cut by rows or by columns. */
#include <math.h>
#include <string.h>

#include "runtime/kernel/isa_priv.h"
#include "runtime/kernel/kernel_priv.h"

void ag_kernel_embed(const ag_kernel_context_t *context, const ag_embed_t *embed, float *y)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, context->step->counts[AG_COUNT_TOKENS], 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        uint64_t id = (uint64_t)context->step->tokens[i];
        float *row = y + i * embed->width;

        if (id < embed->vocab_begin || id >= embed->vocab_end) {
            memset(row, 0, embed->width * sizeof(float));
            continue;
        }
        ag_packing_unpack_row(embed->packing, embed->dtype, embed->table, embed->width,
                              id - embed->vocab_begin, row);
        for (uint64_t j = 0; embed->scale != 1.0f && j < embed->width; j++) {
            row[j] *= embed->scale;
        }
    }
}

static float act(ag_act_t kind, float x)
{
    switch (kind) {
    case AG_ACT_SILU:
        return x / (1.0f + expf(-x));
    case AG_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case AG_ACT_GELU:
        return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
    case AG_ACT_RELU:
        return x < 0 ? 0 : x; /* NaN is kept */
    case AG_N_ACTS:
        break;
    }
    return x;
}

/* What of (n_rows, width) a thread works on. */
typedef struct share {
    uint64_t row_begin, row_end, begin, end; /* rows, columns */
} share_t;

static share_t share_of(const ag_kernel_context_t *context, uint64_t n_rows, uint64_t width,
                        uint64_t grain)
{
    share_t share = {.row_end = n_rows, .end = width};

    if (grain > 0) {
        ag_worker_share(context->worker, width, grain, &share.begin, &share.end);
    } else {
        ag_worker_share(context->worker, n_rows, 1, &share.row_begin, &share.row_end);
    }
    return share;
}

void ag_kernel_glu(const ag_kernel_context_t *context, ag_act_t kind, const float *gate,
                   const float *up, uint64_t n_rows, uint64_t width, uint64_t grain, float *y)
{
    share_t mine = share_of(context, n_rows, width, grain);

    for (uint64_t row = mine.row_begin; row < mine.row_end; row++) {
        uint64_t begin = row * width + mine.begin, end = row * width + mine.end;

        if (context->isa != NULL && context->isa->glu[kind] != NULL) {
            context->isa->glu[kind](gate + begin, up + begin, end - begin, y + begin);
            continue;
        }
        for (uint64_t i = begin; i < end; i++) {
            y[i] = act(kind, gate[i]) * up[i];
        }
    }
}

void ag_kernel_add(const ag_kernel_context_t *context, const float *a, const float *b,
                   uint64_t n_rows, uint64_t width, uint64_t grain, float *y)
{
    share_t mine = share_of(context, n_rows, width, grain);

    for (uint64_t row = mine.row_begin; row < mine.row_end; row++) {
        for (uint64_t i = row * width + mine.begin; i < row * width + mine.end; i++) {
            y[i] = a[i] + b[i];
        }
    }
}

void ag_kernel_select_rows(const ag_kernel_context_t *context, const float *x, uint64_t width,
                           float *y)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, context->step->counts[AG_COUNT_OUTPUTS], 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        memcpy(y + i * width, x + (uint64_t)context->step->outputs[i] * width,
               width * sizeof(float));
    }
}

void ag_kernel_copy_columns(const ag_kernel_context_t *context, const float *x, uint64_t n_rows,
                            uint64_t width, float *y, uint64_t y_width, uint64_t column_begin)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        memcpy(y + i * y_width + column_begin, x + i * width, width * sizeof(float));
    }
}
