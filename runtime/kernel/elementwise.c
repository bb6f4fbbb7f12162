/* Kernels that touch each element once: bound by memory, cut by rows or by columns. */
#include <math.h>
#include <string.h>

#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/spans_priv.h"
#include "runtime/kernel/train.h"

static uint64_t id_of(const ag_kernel_context_t *context, const ag_embed_t *embed, uint64_t row)
{
    const ag_step_t *step = context->step;

    return (uint64_t)(embed->by_position ? step->positions[row] : step->tokens[row]);
}

void ag_kernel_embed(const ag_kernel_context_t *context, const ag_embed_t *embed, float *y)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, context->step->counts[AG_COUNT_TOKENS], 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        uint64_t id = id_of(context, embed, i);
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

void ag_kernel_embed_grad(const ag_kernel_context_t *context, const ag_embed_t *embed,
                          const float *dy, float *dtable)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, embed->width, AG_LANES, &begin, &end);
    for (uint64_t i = 0; i < context->step->counts[AG_COUNT_TOKENS]; i++) {
        uint64_t id = id_of(context, embed, i);

        if (id >= embed->vocab_begin && id < embed->vocab_end) {
            float *row = dtable + (id - embed->vocab_begin) * embed->width;

            for (uint64_t j = begin; j < end; j++) {
                row[j] += embed->scale * dy[i * embed->width + j];
            }
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
    case AG_ACT_GELU_QUICK:
        return x / (1.0f + expf(-1.702f * x));
    case AG_N_ACTS:
        break;
    }
    return x;
}

/* Its derivative. */
static float act_slope(ag_act_t kind, float x)
{
    float part, inner;

    switch (kind) {
    case AG_ACT_SILU:
        part = 1.0f / (1.0f + expf(-x));
        return part + x * part * (1.0f - part);
    case AG_ACT_GELU_TANH:
        part = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
        inner = 0.7978845608f * (1.0f + 0.134145f * x * x);
        return 0.5f * (1.0f + part) + 0.5f * x * (1.0f - part * part) * inner;
    case AG_ACT_GELU:
        return 0.5f * (1.0f + erff(x * 0.7071067812f)) + x * 0.3989422804f * expf(-0.5f * x * x);
    case AG_ACT_RELU:
        return isnan(x) ? x : x > 0 ? 1 : 0;
    case AG_ACT_GELU_QUICK:
        part = 1.0f / (1.0f + expf(-1.702f * x));
        return part + 1.702f * x * part * (1.0f - part);
    case AG_N_ACTS:
        break;
    }
    return 1;
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

/* Of spans: an activation alone is a GLU whose other side is 1, and what has limits is brought
 * within them first. */
enum { SPAN = 64 };

static void glu(const ag_kernel_context_t *context, ag_act_t kind, const float *gate,
                const float *up, uint64_t n, float *y)
{
    if (context->isa != NULL && context->isa->glu[kind] != NULL) {
        context->isa->glu[kind](gate, up, n, y);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        y[i] = act(kind, gate[i]) * up[i];
    }
}

static bool is_plain(const ag_glu_t *of)
{
    return of->limit == 0 && of->up_offset == 0;
}

/* Both sides as the activation and the product take them; NaN is kept. */
static void limit_sides(const ag_glu_t *of, const float *gate, const float *up, uint64_t n,
                        float *gate_within, float *up_within)
{
    float most = of->limit > 0 ? of->limit : INFINITY;

    for (uint64_t i = 0; i < n; i++) {
        float u = up[i] > most ? most : up[i] < -most ? -most : up[i];

        gate_within[i] = gate[i] > most ? most : gate[i];
        up_within[i] = u + of->up_offset;
    }
}

static void limited_glu(const ag_kernel_context_t *context, const ag_glu_t *of, const float *gate,
                        const float *up, uint64_t n, float *y)
{
    float gates[SPAN], ups[SPAN];

    for (uint64_t i = 0; i < n; i += SPAN) {
        uint64_t n_here = n - i < SPAN ? n - i : SPAN;

        limit_sides(of, gate + i, up + i, n_here, gates, ups);
        glu(context, of->act, gates, ups, n_here, y + i);
    }
}

static void glu_span(const ag_kernel_context_t *context, const ag_glu_t *of, const float *gate,
                     const float *up, uint64_t n, float *y)
{
    if (is_plain(of)) {
        glu(context, of->act, gate, up, n, y);
    } else {
        limited_glu(context, of, gate, up, n, y);
    }
}

void ag_kernel_glu(const ag_kernel_context_t *context, const ag_glu_t *of, ag_elements_t gate,
                   ag_elements_t up, uint64_t n_rows, uint64_t width, uint64_t grain,
                   ag_elements_t y)
{
    share_t mine = share_of(context, n_rows, width, grain);
    float of_gate[AG_SPAN], of_up[AG_SPAN], made[AG_SPAN];

    for (uint64_t row = mine.row_begin; row < mine.row_end; row++) {
        uint64_t end = row * width + mine.end, n;

        for (uint64_t at = row * width + mine.begin; at < end; at += n) {
            float *to = ag_span_room(y, at, made);

            n = end - at < AG_SPAN ? end - at : AG_SPAN;
            glu_span(context, of, ag_span_floats(context->isa, gate, at, n, of_gate),
                     ag_span_floats(context->isa, up, at, n, of_up), n, to);
            ag_span_put(context->isa, y, at, n, to);
        }
    }
}

void ag_kernel_softcap(const ag_kernel_context_t *context, float cap, const float *x,
                       uint64_t n_rows, uint64_t width, uint64_t grain, float *y)
{
    share_t mine = share_of(context, n_rows, width, grain);

    for (uint64_t row = mine.row_begin; row < mine.row_end; row++) {
        uint64_t begin = row * width + mine.begin;

        ag_span_caps(context->isa, &(ag_caps_t){1, cap}, x + begin, mine.end - mine.begin,
                     y + begin);
    }
}

static void glu_grad(const ag_kernel_context_t *context, ag_act_t kind, const float *dy,
                     const float *gate, const float *up, uint64_t n, float *dgate, float *dup)
{
    if (context->isa != NULL && context->isa->glu_grad[kind] != NULL) {
        context->isa->glu_grad[kind](dy, gate, up, n, dgate, dup);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        float by_gate = dy[i] * up[i] * act_slope(kind, gate[i]),
              by_up = dy[i] * act(kind, gate[i]);

        dgate[i] = by_gate;
        dup[i] = by_up;
    }
}

/* What is beyond a limit has no gradient. */
static void limited_glu_grad(const ag_kernel_context_t *context, const ag_glu_t *of,
                             const float *dy, const float *gate, const float *up, uint64_t n,
                             float *dgate, float *dup)
{
    float gates[SPAN], ups[SPAN], dgates[SPAN], dups[SPAN];
    float most = of->limit > 0 ? of->limit : INFINITY;

    for (uint64_t i = 0; i < n; i += SPAN) {
        uint64_t n_here = n - i < SPAN ? n - i : SPAN;

        limit_sides(of, gate + i, up + i, n_here, gates, ups);
        glu_grad(context, of->act, dy + i, gates, ups, n_here, dgates, dups);
        for (uint64_t j = 0; j < n_here; j++) {
            bool gate_is_beyond = gate[i + j] > most,
                 up_is_beyond = up[i + j] > most || up[i + j] < -most;

            dgate[i + j] = gate_is_beyond ? 0 : dgates[j];
            dup[i + j] = up_is_beyond ? 0 : dups[j];
        }
    }
}

static void glu_grad_span(const ag_kernel_context_t *context, const ag_glu_t *of, const float *dy,
                          const float *gate, const float *up, uint64_t n, float *dgate, float *dup)
{
    if (is_plain(of)) {
        glu_grad(context, of->act, dy, gate, up, n, dgate, dup);
    } else {
        limited_glu_grad(context, of, dy, gate, up, n, dgate, dup);
    }
}

void ag_kernel_glu_grad(const ag_kernel_context_t *context, const ag_glu_t *of, ag_elements_t dy,
                        ag_elements_t gate, ag_elements_t up, uint64_t n_rows, uint64_t width,
                        uint64_t grain, ag_elements_t dgate, ag_elements_t dup)
{
    const ag_isa_t *isa = context->isa;
    share_t mine = share_of(context, n_rows, width, grain);
    float of_dy[AG_SPAN], of_gate[AG_SPAN], of_up[AG_SPAN], for_gate[AG_SPAN], for_up[AG_SPAN];

    for (uint64_t row = mine.row_begin; row < mine.row_end; row++) {
        uint64_t end = row * width + mine.end, n;

        for (uint64_t at = row * width + mine.begin; at < end; at += n) {
            float *to_gate = ag_span_room(dgate, at, for_gate);
            float *to_up = ag_span_room(dup, at, for_up);

            n = end - at < AG_SPAN ? end - at : AG_SPAN;
            glu_grad_span(context, of, ag_span_floats(isa, dy, at, n, of_dy),
                          ag_span_floats(isa, gate, at, n, of_gate),
                          ag_span_floats(isa, up, at, n, of_up), n, to_gate, to_up);
            ag_span_put(isa, dgate, at, n, to_gate);
            ag_span_put(isa, dup, at, n, to_up);
        }
    }
}

void ag_kernel_gate_rows(const ag_kernel_context_t *context, const float *x, const float *gates,
                         uint64_t n_rows, uint64_t width, float *y)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t row = begin; row < end; row++) {
        float part = 1.0f / (1.0f + expf(-gates[row]));

        for (uint64_t i = row * width; i < (row + 1) * width; i++) {
            y[i] = part * x[i];
        }
    }
}

void ag_kernel_gate_rows_grad(const ag_kernel_context_t *context, const float *dy, const float *x,
                              const float *gates, uint64_t n_rows, uint64_t width, float *dx,
                              float *dgates)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t row = begin; row < end; row++) {
        float part = 1.0f / (1.0f + expf(-gates[row]));
        double sum = 0;

        for (uint64_t i = row * width; i < (row + 1) * width; i++) {
            sum += (double)dy[i] * (double)x[i];
            dx[i] = part * dy[i];
        }
        dgates[row] = (float)(sum * (double)(part * (1.0f - part)));
    }
}

#define FOUR_ONES 1, 1, 1, 1
#define SIXTEEN_ONES FOUR_ONES, FOUR_ONES, FOUR_ONES, FOUR_ONES
static const float ones[SPAN] = {SIXTEEN_ONES, SIXTEEN_ONES, SIXTEEN_ONES, SIXTEEN_ONES};

void ag_kernel_act(const ag_kernel_context_t *context, ag_act_t kind, const float *x,
                   uint64_t n_rows, uint64_t width, uint64_t grain, float *y)
{
    share_t mine = share_of(context, n_rows, width, grain);

    for (uint64_t row = mine.row_begin; row < mine.row_end; row++) {
        uint64_t i = row * width + mine.begin, end = row * width + mine.end;

        for (; i < end; i += SPAN) {
            glu(context, kind, x + i, ones, end - i < SPAN ? end - i : SPAN, y + i);
        }
    }
}

void ag_kernel_act_grad(const ag_kernel_context_t *context, ag_act_t kind, const float *dy,
                        const float *x, uint64_t n_rows, uint64_t width, uint64_t grain, float *dx)
{
    share_t mine = share_of(context, n_rows, width, grain);
    float unused[SPAN];

    for (uint64_t row = mine.row_begin; row < mine.row_end; row++) {
        uint64_t i = row * width + mine.begin, end = row * width + mine.end;

        for (; i < end; i += SPAN) {
            glu_grad(context, kind, dy + i, x + i, ones, end - i < SPAN ? end - i : SPAN, dx + i,
                     unused);
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

void ag_kernel_round(const ag_kernel_context_t *context, const float *x, uint64_t n,
                     ag_elements_t y)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n, AG_SPAN, &begin, &end);
    for (; begin < end; begin += AG_SPAN) {
        ag_span_put(context->isa, y, begin, end - begin < AG_SPAN ? end - begin : AG_SPAN,
                    x + begin);
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

void ag_kernel_select_rows_grad(const ag_kernel_context_t *context, const float *dy, uint64_t width,
                                float *dx)
{
    const ag_step_t *step = context->step;
    uint64_t n = step->counts[AG_COUNT_OUTPUTS], begin, end, i = 0;

    ag_worker_share(context->worker, step->counts[AG_COUNT_TOKENS], 1, &begin, &end);
    while (i < n && (uint64_t)step->outputs[i] < begin) {
        i++;
    }
    for (uint64_t row = begin; row < end; row++) {
        if (i < n && (uint64_t)step->outputs[i] == row) {
            memcpy(dx + row * width, dy + i++ * width, width * sizeof(float));
        } else {
            memset(dx + row * width, 0, width * sizeof(float));
        }
    }
}

/* Where a row's part of a head begins, in columns of a head. */
static uint64_t row_of_head(uint64_t row, uint32_t head, uint64_t n_rows, uint32_t n_heads,
                            bool is_shared, bool by_head)
{
    return is_shared ? row : by_head ? head * n_rows + row : row * n_heads + head;
}

/* One row. */
static void move_columns(const ag_head_columns_t *columns, const float *x, uint64_t row,
                         uint64_t n_rows, float *y)
{
    for (uint32_t h = 0; h < columns->n_heads; h++) {
        uint64_t from =
            row_of_head(row, h, n_rows, columns->n_heads, columns->x_is_shared, columns->x_by_head);
        uint64_t to =
            row_of_head(row, h, n_rows, columns->n_heads, columns->y_is_shared, columns->y_by_head);
        const float *src = x + from * columns->x_dim;
        float *dst = y + to * columns->y_dim;

        if (columns->y_is_shared && h > 0) {
            for (uint32_t i = 0; i < columns->n; i++) {
                dst[columns->y_begin + i] += src[columns->x_begin + i];
            }
            continue;
        }
        if (!columns->keeps) {
            memset(dst, 0, columns->y_dim * sizeof(float));
        }
        memcpy(dst + columns->y_begin, src + columns->x_begin, columns->n * sizeof(float));
    }
}

void ag_kernel_head_columns(const ag_kernel_context_t *context, const ag_head_columns_t *columns,
                            const float *x, uint64_t n_rows, float *y)
{
    uint64_t begin, end;

    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t row = begin; row < end; row++) {
        move_columns(columns, x, row, n_rows, y);
    }
}

void ag_kernel_copy_columns(const ag_kernel_context_t *context, const float *x, uint64_t n_rows,
                            uint64_t width, float *y, uint64_t y_width, uint64_t column_begin)
{
    uint64_t n_columns = width < y_width ? width : y_width, begin, end;

    x += width > y_width ? column_begin : 0;
    y += width > y_width ? 0 : column_begin;
    ag_worker_share(context->worker, n_rows, 1, &begin, &end);
    for (uint64_t i = begin; i < end; i++) {
        memcpy(y + i * y_width, x + i * width, n_columns * sizeof(float));
    }
}
