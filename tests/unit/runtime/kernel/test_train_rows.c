/* Gradients through the kernels that work row by row, against central differences of the forward
 * pass in double precision. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "differences.h"
#include "kernel_call.h"
#include "runtime/kernel/train.h"

enum { N_SHAPES = 6 };
static const uint64_t shapes[N_SHAPES][2] = {{0, 5}, {3, 0}, {1, 1}, {1, 77}, {6, 33}, {21, 17}};

/* NORM: numbers are x, then weight, then bias. */

typedef struct norm_case {
    ag_norm_t norm;
    const float *x, *dy;
    uint64_t n_rows; /* with those of groups */
    bool add;
    float *statistics; /* filled in by run_norm_grad() */
} norm_case_t;

static double norm_loss(const void *arg, const double *numbers)
{
    const norm_case_t *c = arg;
    uint64_t width = c->norm.width;
    const double *weight = numbers + c->n_rows * width, *bias = weight + width;
    double sum = 0;

    for (uint64_t r = 0; r < c->n_rows; r++) {
        const double *x = numbers + r * width;
        double mean = 0, square = 0;

        for (uint64_t i = 0; c->norm.kind == AG_NORM_LAYER && i < width; i++) {
            mean += x[i] / (double)width;
        }
        for (uint64_t i = 0; i < width; i++) {
            square += (x[i] - mean) * (x[i] - mean) / (double)width;
        }
        for (uint64_t i = 0; i < width; i++) {
            double y = (x[i] - mean) / sqrt(square + (double)c->norm.eps) * weight[i] + bias[i];

            sum += (double)c->dy[r * width + i] * y;
        }
    }
    return sum;
}

static uint64_t rows_of(const norm_case_t *c)
{
    return c->n_rows / (c->norm.n_groups > 0 ? c->norm.n_groups : 1);
}

/* y: dx, then statistics. */
static void run_norm_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const norm_case_t *c = arg;

    ag_kernel_norm_grad(context, &c->norm, c->dy, ag_floats(c->x), rows_of(c), c->add, y,
                        y + c->n_rows * c->norm.width);
}

/* y: dweight, then dbias. */
static void run_norm_weight_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const norm_case_t *c = arg;

    ag_kernel_norm_weight_grad(context, &c->norm, c->dy, ag_floats(c->x), c->statistics, rows_of(c),
                               y, c->norm.bias != NULL ? y + c->norm.width : NULL);
}

static void check_norm(ag_norm_kind_t kind, uint64_t n_rows, uint64_t width, bool add,
                       const ag_isa_t *isa)
{
    uint64_t n = n_rows * width, n_all = n + 2 * width;
    float *numbers = random_floats(1, n_all, 1.5), *dy = random_floats(2, n, 1);
    float *before = random_floats(3, n_all + 2 * n_rows, 1), *dx, *dweight;
    double *wide, *expected = take(n_all * sizeof(double));
    norm_case_t c = {
        {kind, width, n_rows % 3 == 0 ? 3 : 0, 1e-3f, numbers + n, numbers + n + width},
        numbers,
        dy,
        n_rows,
        add,
        NULL};
    kernel_call_t call = {.fn = run_norm_grad, .arg = &c, .isa = isa, .y_at_first = before};

    wide = widen(numbers, n_all);
    for (uint64_t i = 0; i < n_all; i++) {
        expected[i] = difference(norm_loss, &c, wide, i);
    }
    dx = kernel_call(&call, n + AG_NORM_STATISTICS * n_rows, "norm grad");
    expect_sums(dx, add ? before : NULL, expected, n, 2e-5, "dx of a norm");
    c.statistics = dx + n;
    call.fn = run_norm_weight_grad;
    dweight = kernel_call(&call, 2 * width, "norm weight grad");
    expect_sums(dweight, before, expected + n, 2 * width, 2e-5, "dweight and dbias of a norm");
    c.norm.bias = NULL;
    free(dweight);
    dweight = kernel_call(&call, width, "norm without bias");
    expect_sums(dweight, before, expected + n, width, 2e-5, "dweight of a norm");
    free(dweight);
    free(dx);
    free(numbers);
    free(dy);
    free(before);
    free(wide);
    free(expected);
}

Test(train_rows, norms_have_the_gradients_of_their_differences)
{
    for (int i = 0; i < N_SHAPES; i++) {
        for (int j = 0; j < N_ISAS; j++) {
            const ag_isa_t *isa;

            if (isa_at(j, &isa)) {
                check_norm(AG_NORM_RMS, shapes[i][0], shapes[i][1], j % 2 == 0, isa);
                check_norm(AG_NORM_LAYER, shapes[i][0], shapes[i][1], j % 2 == 1, isa);
            }
        }
    }
}

/* ROPE: a linear map, whose gradient is its transpose. */

typedef struct rope_case {
    ag_rope_t rope;
    const float *angles;
    uint64_t stride;
    bool back;
} rope_case_t;

static void run_rope(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rope_case_t *c = arg;

    (c->back ? ag_kernel_rope_grad : ag_kernel_rope)(context, &c->rope, c->angles, ag_floats(y),
                                                     c->stride);
}

static void check_rope(uint32_t n_heads, uint32_t head_dim, uint32_t rotary, uint64_t n_rows)
{
    uint64_t stride = (uint64_t)n_heads * head_dim + 3, n = n_rows * stride;
    float *angles = random_floats(5, n_rows * rotary, 1.3); /* any: each pair is a map of its own */
    float *x = random_floats(6, n, 1), *dy = random_floats(7, n, 1), *y, *dx;
    ag_step_t step = {.counts = {1, n_rows, 0, 1}};
    bool by_turns = n_rows % 2 == 0;
    rope_case_t c = {{n_heads, head_dim, rotary, by_turns ? head_dim - rotary : 0, by_turns},
                     angles,
                     stride,
                     false};
    kernel_call_t call = {.fn = run_rope, .arg = &c, .step = &step, .y_at_first = x};
    double there = 0, back = 0;

    y = kernel_call(&call, n, "rope");
    c.back = true;
    call.y_at_first = dy;
    dx = kernel_call(&call, n, "rope grad");
    for (uint64_t i = 0; i < n; i++) {
        there += (double)dy[i] * (double)y[i];
        back += (double)dx[i] * (double)x[i];
        cr_assert(i % stride < stride - 3 || dx[i] == dy[i], "columns behind the heads stay");
    }
    cr_assert(is_near(back, there, 1e-5), "<dx, x> = %g, <dy, y> = %g", back, there);
    free(angles);
    free(x);
    free(dy);
    free(y);
    free(dx);
}

Test(train_rows, rope_is_turned_back)
{
    for (uint32_t i = 0; i < 20; i++) { /* angles differ: one number says little, many much */
        check_rope(1, 2, 2, i);
        check_rope(3, 20, 12, i);
    }
    check_rope(0, 64, 64, 4);
}

/* HEAD_COLUMNS: a linear map, too, whose gradient is the map back. */

typedef struct columns_case {
    ag_head_columns_t of;
    const float *x;
    uint64_t n_rows;
} columns_case_t;

static void run_columns(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const columns_case_t *c = arg;

    ag_kernel_head_columns(context, &c->of, c->x, c->n_rows, y);
}

static float expected_column(const columns_case_t *c, const float *before, uint64_t i)
{
    const ag_head_columns_t *of = &c->of;
    uint32_t heads = of->y_is_shared ? 1 : of->n_heads, column = (uint32_t)(i % of->y_dim);
    uint64_t at = i / of->y_dim;
    uint64_t row = of->y_by_head ? at % c->n_rows : at / heads;
    uint64_t head = of->y_by_head ? at / c->n_rows : at % heads;
    uint64_t x_heads = of->x_is_shared ? 1 : of->n_heads, n_from = of->y_is_shared ? x_heads : 1;
    float sum = 0;

    if (column < of->y_begin || column >= of->y_begin + of->n) {
        return of->keeps ? before[i] : 0;
    }
    for (uint64_t h = 0; h < n_from; h++) {
        uint64_t from = of->x_is_shared ? 0 : of->y_is_shared ? h : head;
        uint64_t x_row = of->x_by_head ? from * c->n_rows + row : row * x_heads + from;

        sum += c->x[x_row * of->x_dim + of->x_begin + column - of->y_begin];
    }
    return sum;
}

Test(train_rows, columns_of_heads_go_to_their_places)
{
    static const ag_head_columns_t cases[] = {
        {.n_heads = 3, .x_dim = 22, .y_dim = 16, .x_begin = 10, .n = 12},
        {.n_heads = 3, .x_dim = 22, .y_dim = 16, .y_begin = 6, .n = 10, .keeps = true},
        {.n_heads = 3,
         .x_dim = 6,
         .y_dim = 16,
         .y_begin = 10,
         .n = 6,
         .x_is_shared = true,
         .keeps = true},
        {.n_heads = 3, .x_dim = 16, .y_dim = 6, .x_begin = 10, .n = 6, .y_is_shared = true},
        {.n_heads = 1, .x_dim = 4, .y_dim = 4, .n = 4},
        {.n_heads = 0, .x_dim = 4, .y_dim = 4, .n = 4},
        {.n_heads = 3, .x_dim = 9, .y_dim = 5, .x_begin = 2, .n = 5, .y_by_head = true},
        {.n_heads = 5, .x_dim = 4, .y_dim = 9, .y_begin = 3, .n = 4, .x_by_head = true},
        {.n_heads = 2,
         .x_dim = 8,
         .y_dim = 8,
         .x_begin = 1,
         .y_begin = 3,
         .n = 5,
         .keeps = true,
         .x_by_head = true,
         .y_by_head = true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        columns_case_t c = {.of = cases[i], .n_rows = 7};
        uint64_t n_x = 7ull * (c.of.x_is_shared ? 1 : c.of.n_heads) * c.of.x_dim;
        uint64_t n = 7ull * (c.of.y_is_shared ? 1 : c.of.n_heads) * c.of.y_dim;
        float *x = random_floats(i, n_x, 1), *before = random_floats(i + 20, n, 1), *y;

        c.x = x;
        y = kernel_call(&(kernel_call_t){.fn = run_columns, .arg = &c, .y_at_first = before}, n,
                        "columns of heads");
        for (uint64_t j = 0; j < n && c.of.n_heads > 0; j++) {
            cr_assert_float_eq(y[j], expected_column(&c, before, j), 1e-6f, "case %zu, %llu", i,
                               (unsigned long long)j);
        }
        free(x);
        free(before);
        free(y);
    }
}

/* GLU and activations: numbers are gates, then ups. */

typedef struct glu_case {
    ag_glu_t glu;
    const float *dy, *gate, *up;
    uint64_t n_rows, width;
    enum { APART, OVER_DY_AND_GATE, OVER_UP_AND_GATE } places;
} glu_case_t;

static uint64_t grain_of(const glu_case_t *c)
{
    return c->n_rows % 2 == 0 ? 0 : 16;
}

/* y: two of (n_rows, width), then whatever an input is copied to. */
static void run_glu_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const glu_case_t *c = arg;
    uint64_t n = c->n_rows * c->width;
    ag_elements_t dy = ag_floats(c->places == OVER_DY_AND_GATE ? y : c->dy);
    ag_elements_t gate = ag_floats(c->places == APART ? c->gate : y + n);
    ag_elements_t up = ag_floats(c->places == OVER_UP_AND_GATE ? y : c->up);

    if (c->places == APART) {
        ag_kernel_glu_grad(context, &c->glu, dy, gate, up, c->n_rows, c->width, grain_of(c),
                           ag_floats(y), ag_floats(y + n));
    } else { /* dgate and dup change places */
        ag_kernel_glu_grad(context, &c->glu, dy, gate, up, c->n_rows, c->width, grain_of(c),
                           ag_floats(y + n), ag_floats(y));
    }
}

static void check_glu(ag_glu_t glu, uint64_t n_rows, uint64_t width, const ag_isa_t *isa)
{
    uint64_t n = n_rows * width;
    float *gate = random_floats(11, n, 6), *up = random_floats(12, n, 1);
    float *dy = random_floats(13, n, 1), *places = take(2 * n * sizeof(float)), *y;
    double *by_gate = take(n * sizeof(double)), *by_up = take(n * sizeof(double));

    for (uint64_t i = 0; i < n; i++) {
        double step = 1e-5, x = (double)gate[i], u = (double)up[i];

        by_gate[i] = glu_of(&glu, x + step, u) - glu_of(&glu, x - step, u);
        by_gate[i] *= (double)dy[i] / (2 * step);
        by_up[i] = glu_of(&glu, x, u + step) - glu_of(&glu, x, u - step);
        by_up[i] *= (double)dy[i] / (2 * step);
    }
    for (int i = APART; i <= OVER_UP_AND_GATE; i++) {
        glu_case_t c = {glu, dy, gate, up, n_rows, width, APART};
        kernel_call_t call = {.fn = run_glu_grad, .arg = &c, .isa = isa, .y_at_first = places};

        c.places = i == 0 ? APART : i == 1 ? OVER_DY_AND_GATE : OVER_UP_AND_GATE;
        memcpy(places, c.places == OVER_UP_AND_GATE ? up : dy, n * sizeof(float));
        memcpy(places + n, gate, n * sizeof(float));
        y = kernel_call(&call, 2 * n, "glu grad");
        expect_sums(c.places == APART ? y : y + n, NULL, by_gate, n, 3e-6, "dgate");
        expect_sums(c.places == APART ? y + n : y, NULL, by_up, n, 3e-6, "dup");
        free(y);
    }
    free(gate);
    free(up);
    free(dy);
    free(places);
    free(by_gate);
    free(by_up);
}

static void run_act(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const glu_case_t *c = arg;
    uint64_t n = c->n_rows * c->width;

    ag_kernel_act(context, c->glu.act, c->gate, c->n_rows, c->width, grain_of(c), y);
    ag_kernel_act_grad(context, c->glu.act, c->dy, c->gate, c->n_rows, c->width, grain_of(c),
                       y + n);
}

static void check_act(ag_act_t act, uint64_t n_rows, uint64_t width, const ag_isa_t *isa)
{
    uint64_t n = n_rows * width;
    float *x = random_floats(14, n, 6), *dy = random_floats(15, n, 1);
    glu_case_t c = {{act, 0, 0}, dy, x, NULL, n_rows, width, APART};
    float *y = kernel_call(&(kernel_call_t){.fn = run_act, .arg = &c, .isa = isa}, 2 * n, "act");

    for (uint64_t i = 0; i < n; i++) {
        double step = 1e-5, at = (double)x[i];
        double slope = (act_of(act, at + step) - act_of(act, at - step)) / (2 * step);

        cr_assert(is_near((double)y[i], act_of(act, at), 3e-6));
        cr_assert(is_near((double)y[n + i], (double)dy[i] * slope, 3e-6));
    }
    free(x);
    free(dy);
    free(y);
}

Test(train_rows, activations_have_the_gradients_of_their_differences)
{
    for (int act = 0; act < AG_N_ACTS; act++) {
        for (int i = 0; i < N_SHAPES; i++) {
            for (int j = 0; j < N_ISAS; j++) {
                const ag_isa_t *isa;

                if (isa_at(j, &isa)) {
                    check_glu((ag_glu_t){(ag_act_t)act, 0, 0}, shapes[i][0], shapes[i][1], isa);
                    check_glu((ag_glu_t){(ag_act_t)act, 0.75f, 1}, shapes[i][0], shapes[i][1], isa);
                    check_act((ag_act_t)act, shapes[i][0], shapes[i][1], isa);
                }
            }
        }
    }
}

/* GATE_ROWS: y is dx, then dgates. */

static void run_gate_rows_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const glu_case_t *c = arg;

    ag_kernel_gate_rows_grad(context, c->places == APART ? c->dy : y, c->up, c->gate, c->n_rows,
                             c->width, y, y + c->n_rows * c->width);
}

Test(train_rows, gated_rows_have_the_gradients_of_their_differences)
{
    for (int i = 0; i < N_SHAPES; i++) {
        uint64_t n_rows = shapes[i][0], width = shapes[i][1], n = n_rows * width;
        float *gates = random_floats(16, n_rows, 4), *x = random_floats(17, n, 1);
        float *dy = random_floats(18, n + n_rows, 1), *y;
        double *expected = take((n + n_rows) * sizeof(double));

        memset(expected, 0, (n + n_rows) * sizeof(double));
        for (uint64_t j = 0; j < n; j++) {
            double gate = (double)gates[j / width], step = 1e-5;
            double slope = 1 / (1 + exp(-gate - step)) - 1 / (1 + exp(-gate + step));

            expected[j] = (double)dy[j] / (1 + exp(-gate));
            expected[n + j / width] += (double)dy[j] * (double)x[j] * slope / (2 * step);
        }
        for (int j = 0; j < 2; j++) {
            glu_case_t c = {{AG_ACT_RELU, 0, 0}, dy, gates, x, n_rows, width, APART};

            c.places = j == 0 ? APART : OVER_DY_AND_GATE;
            y = kernel_call(&(kernel_call_t){.fn = run_gate_rows_grad, .arg = &c, .y_at_first = dy},
                            n + n_rows, "gated rows");
            expect_sums(y, NULL, expected, n + n_rows, 3e-6, "dx and dgates");
            free(y);
        }
        free(gates);
        free(x);
        free(dy);
        free(expected);
    }
}

/* EMBED, SELECT */

typedef struct rows_case {
    ag_embed_t embed;
    const float *dy;
    uint64_t width;
} rows_case_t;

static void run_embed_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rows_case_t *c = arg;

    ag_kernel_embed_grad(context, &c->embed, c->dy, y);
}

Test(train_rows, rows_of_an_embedding_get_the_sum_of_what_their_tokens_get)
{
    enum { N_TOKENS = 9, WIDTH = 37, BEGIN = 100, END = 140 };
    const int32_t tokens[N_TOKENS] = {100, 139, 99, 140, 0, 117, 117, -1, 117};
    float *dy = random_floats(21, N_TOKENS * WIDTH, 1);
    float *before = random_floats(22, (END - BEGIN) * WIDTH, 1), *y;
    ag_step_t step = {.counts = {1, N_TOKENS, 0, 1}, .tokens = tokens};
    rows_case_t c = {.embed = {.dtype = AG_F32,
                               .packing = AG_PACKING_ROWS,
                               .vocab_begin = BEGIN,
                               .vocab_end = END,
                               .width = WIDTH,
                               .scale = 2.5f},
                     .dy = dy};

    y = kernel_call(
        &(kernel_call_t){.fn = run_embed_grad, .arg = &c, .step = &step, .y_at_first = before},
        (END - BEGIN) * WIDTH, "embed grad");
    for (int i = 0; i < (END - BEGIN) * WIDTH; i++) {
        double sum = (double)before[i];

        for (int t = 0; t < N_TOKENS; t++) {
            if (tokens[t] == BEGIN + i / WIDTH) {
                sum += 2.5 * (double)dy[t * WIDTH + i % WIDTH];
            }
        }
        cr_assert(is_near((double)y[i], sum, 1e-6));
    }
    free(dy);
    free(before);
    free(y);
}

static void run_select_grad(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rows_case_t *c = arg;

    ag_kernel_select_rows_grad(context, c->dy, c->width, y);
}

Test(train_rows, rows_that_were_not_selected_get_zeros)
{
    const int32_t outputs[] = {0, 3, 4, 8};

    for (uint64_t n = 0; n <= 4; n++) {
        float *dy = random_floats(23, n * 37, 1), *y;
        ag_step_t step = {.counts = {1, 9, n, 1}, .outputs = outputs};
        rows_case_t c = {.dy = dy, .width = 37};

        y = kernel_call(&(kernel_call_t){.fn = run_select_grad, .arg = &c, .step = &step}, 9 * 37,
                        "select grad");
        for (uint64_t row = 0, i = 0; row < 9; row++) {
            bool selected = i < n && outputs[i] == (int32_t)row;

            for (uint64_t j = 0; j < 37; j++) {
                cr_assert_eq(y[row * 37 + j], selected ? dy[i * 37 + j] : 0.0f);
            }
            i += selected;
        }
        free(dy);
        free(y);
    }
}
