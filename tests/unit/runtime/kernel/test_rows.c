/* The kernels that work row by row, against loops in double precision. */
#include "kernel_call.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SHAPES = 7 };
static const uint64_t shapes[N_SHAPES][2] = {/* rows, width */
                                             {0, 5},  {3, 0},    {1, 1},   {1, 577},
                                             {7, 33}, {5, 1024}, {301, 17}};

static void expect_near(const float *y, const double *expected, uint64_t n, double relative,
                        const char *what)
{
    for (uint64_t i = 0; i < n; i++) {
        cr_assert_leq(fabs((double)y[i] - expected[i]), relative * (1 + fabs(expected[i])),
                      "%s: y[%llu] is %g, not %g", what, (unsigned long long)i, (double)y[i],
                      expected[i]);
    }
}

/* EMBED */

typedef struct embed_case {
    ag_embed_t embed;
} embed_case_t;

static void run_embed(const ag_kernel_context_t *context, const void *arg, float *y)
{
    ag_kernel_embed(context, &((const embed_case_t *)arg)->embed, y);
}

static void check_embed(ag_dtype_t dtype, uint64_t width, float scale)
{
    const uint64_t begin = 100, end = 140;
    const int32_t tokens[] = {100, 139, 99, 140, 0, 117, 117, -1, 120};
    const uint64_t n_rows = sizeof(tokens) / sizeof(tokens[0]);
    void *table = random_weights(dtype, 11, (end - begin) * width);
    float *rows = decode(dtype, table, (end - begin) * width);
    ag_step_t step = {.counts = {1, n_rows, 0, 1}, .tokens = tokens};
    embed_case_t c = {{.dtype = dtype,
                       .packing = AG_PACKING_ROWS,
                       .vocab_begin = begin,
                       .vocab_end = end,
                       .width = width,
                       .scale = scale,
                       .table = table}};
    const char *name = ag_dtype_info(dtype)->name;
    float *y = kernel_call(&(kernel_call_t){.fn = run_embed, .arg = &c, .step = &step},
                           n_rows * width, name);

    for (uint64_t i = 0; i < n_rows * width; i++) {
        int64_t id = tokens[i / width];
        bool held = id >= (int64_t)begin && id < (int64_t)end;
        float expected = held ? rows[((uint64_t)id - begin) * width + i % width] * scale : 0.0f;

        cr_assert_eq(y[i], expected, "%s: y[%llu] is %g, not %g", name, (unsigned long long)i,
                     (double)y[i], (double)expected);
    }
    free(table);
    free(rows);
    free(y);
}

Test(embed, rows_of_every_type_are_decoded_and_scaled_and_those_of_other_ranks_zero)
{
    for (int dtype = 0; dtype < AG_N_DTYPES; dtype++) {
        uint64_t block = ag_dtype_info((ag_dtype_t)dtype)->block_elements;

        check_embed((ag_dtype_t)dtype, block, 1.0f);
        check_embed((ag_dtype_t)dtype, 3 * block, 25.3f);
    }
}

Test(embed, a_rank_that_holds_no_ids_gives_zeros)
{
    const int32_t tokens[] = {3, 0};
    ag_step_t step = {.counts = {1, 2, 0, 1}, .tokens = tokens};
    embed_case_t c = {{.dtype = AG_Q8_0,
                       .packing = AG_PACKING_ROWS,
                       .vocab_begin = 3,
                       .vocab_end = 3,
                       .width = 32,
                       .scale = 1.0f}};
    float *y = kernel_call(&(kernel_call_t){.fn = run_embed, .arg = &c, .step = &step}, 64, "none");

    for (int i = 0; i < 64; i++) {
        cr_expect_eq(y[i], 0.0f);
    }
    free(y);
}

/* NORM */

typedef struct norm_case {
    ag_norm_t norm;
    const float *x;  /* NULL: in place */
    uint64_t n_rows; /* with those of groups */
} norm_case_t;

static void run_norm(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const norm_case_t *c = arg;

    ag_kernel_norm(context, &c->norm, ag_floats(c->x != NULL ? c->x : y),
                   c->n_rows / (c->norm.n_groups > 0 ? c->norm.n_groups : 1), ag_floats(y));
}

static void naive_norm(const ag_norm_t *norm, const float *x, double *y)
{
    double mean = 0, square = 0;

    for (uint64_t i = 0; norm->kind == AG_NORM_LAYER && i < norm->width; i++) {
        mean += (double)x[i] / (double)norm->width;
    }
    for (uint64_t i = 0; i < norm->width; i++) {
        square += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)norm->width;
    }
    for (uint64_t i = 0; i < norm->width; i++) {
        y[i] = ((double)x[i] - mean) / sqrt(square + (double)norm->eps) * (double)norm->weight[i];
        y[i] += norm->bias != NULL ? (double)norm->bias[i] : 0;
    }
}

static void check_norm(const ag_isa_t *isa, ag_norm_kind_t kind, uint64_t n_rows, uint64_t width,
                       uint64_t seed)
{
    float *x = random_floats(seed, n_rows * width, 3), *weight = random_floats(seed + 1, width, 1);
    float *bias = random_floats(seed + 2, width, 1), *y, *in_place;
    double *expected = take(n_rows * width * sizeof(double));
    norm_case_t c = {{.kind = kind,
                      .width = width,
                      .n_groups = n_rows % 7 == 0 ? 7 : 0,
                      .eps = 1e-5f,
                      .weight = weight,
                      .bias = seed % 2 == 0 ? bias : NULL},
                     x,
                     n_rows};
    kernel_call_t call = {.fn = run_norm, .arg = &c, .isa = isa};
    char what[80];

    snprintf(what, sizeof(what), "norm %d of (%u, %u)", (int)kind, (unsigned)n_rows,
             (unsigned)width);
    for (uint64_t i = 0; i < n_rows * width; i++) {
        x[i] += 2; /* a mean that matters */
    }
    for (uint64_t i = 0; i < n_rows; i++) {
        naive_norm(&c.norm, x + i * width, expected + i * width);
    }
    y = kernel_call(&call, n_rows * width, what);
    /* a single column less its mean is 0, whatever divides it */
    expect_near(y, expected, n_rows * width, 4e-6, what);
    c.x = NULL;
    call.y_at_first = x;
    in_place = kernel_call(&call, n_rows * width, what);
    cr_expect_arr_eq(in_place, y, n_rows * width * sizeof(float), "%s: in place", what);
    free(x);
    free(weight);
    free(bias);
    free(expected);
    free(y);
    free(in_place);
}

Test(norm, both_kinds_equal_a_naive_loop_also_in_place_and_of_groups)
{
    for (uint64_t i = 0; i < N_SHAPES; i++) {
        for (uint64_t seed = 20; seed < 22 + N_ISAS; seed++) {
            const ag_isa_t *isa;

            if (isa_at((int)(seed % N_ISAS), &isa)) {
                check_norm(isa, AG_NORM_RMS, shapes[i][0], shapes[i][1], seed);
                check_norm(isa, AG_NORM_LAYER, shapes[i][0], shapes[i][1], seed);
            }
        }
    }
}

Test(norm, a_row_of_zeros_gives_zeros)
{
    float x[3] = {0}, weight[3] = {1, 2, 3};
    norm_case_t c = {{.kind = AG_NORM_RMS, .width = 3, .eps = 1e-6f, .weight = weight}, x, 1};
    float *y = kernel_call(&(kernel_call_t){.fn = run_norm, .arg = &c}, 3, "zeros");

    cr_expect_arr_eq(y, x, sizeof(x));
    free(y);
}

/* ROPE */

typedef struct rope_case {
    ag_rope_t rope;
    ag_angles_t angles;
    uint64_t stride;
    float *table; /* (tokens, rotary), filled in by run_angles() */
} rope_case_t;

static void run_angles(const ag_kernel_context_t *context, const void *arg, float *y)
{
    ag_kernel_angles(context, &((const rope_case_t *)arg)->angles, y);
}

static void run_rope(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const rope_case_t *c = arg;

    ag_kernel_rope(context, &c->rope, c->table, ag_floats(y), c->stride);
}

static void naive_rope(const rope_case_t *c, const int32_t *positions, uint64_t n_rows, double *y)
{
    uint32_t half = c->rope.rotary / 2;

    for (uint64_t r = 0; r < n_rows; r++) {
        for (uint32_t h = 0; h < c->rope.n_heads; h++) {
            double *head = y + r * c->stride + h * c->rope.head_dim;

            for (uint32_t i = 0; i < half; i++) {
                /* the angle is rounded to float32, as transformers does */
                double angle = (double)((float)positions[r] * c->angles.inverse_freq[i]);
                double cosine = cos(angle) * (double)c->angles.magnitude;
                double sine = sin(angle) * (double)c->angles.magnitude;
                double *low = head + c->rope.begin + (c->rope.by_turns ? 2 * i : i);
                double *high = low + (c->rope.by_turns ? 1 : half), was_low = *low;

                *low = was_low * cosine - *high * sine;
                *high = *high * cosine + was_low * sine;
            }
        }
    }
}

static void check_rope_of(ag_rope_t rope, uint64_t n_rows, float magnitude)
{
    uint32_t rotary = rope.rotary;
    uint64_t stride =
        (uint64_t)rope.n_heads * rope.head_dim + 3; /* columns behind the heads stay */
    float *x = random_floats(31, n_rows * stride, 1), *freq = take(rotary / 2 * sizeof(float));
    double *expected = take(n_rows * stride * sizeof(double));
    int32_t *positions = take(n_rows * sizeof(int32_t));
    ag_step_t step = {.counts = {1, n_rows, 0, 1}, .positions = positions};
    rope_case_t c = {rope, {rotary, magnitude, freq}, stride, NULL};
    float *y;

    for (uint32_t i = 0; i < rotary / 2; i++) {
        freq[i] = powf(10000.0f, -2.0f * (float)i / (float)rotary);
    }
    for (uint64_t i = 0; i < n_rows; i++) {
        positions[i] = (int32_t)random_below(32, i, 8192);
    }
    for (uint64_t i = 0; i < n_rows * stride; i++) {
        expected[i] = (double)x[i];
    }
    naive_rope(&c, positions, n_rows, expected);
    c.table = kernel_call(&(kernel_call_t){.fn = run_angles, .arg = &c, .step = &step},
                          n_rows * rotary, "angles");
    y = kernel_call(&(kernel_call_t){.fn = run_rope, .arg = &c, .step = &step, .y_at_first = x},
                    n_rows * stride, "rope");
    expect_near(y, expected, n_rows * stride, 1e-6, "rope");
    free(c.table);
    free(x);
    free(freq);
    free(expected);
    free(positions);
    free(y);
}

static void check_rope(uint32_t n_heads, uint32_t head_dim, uint32_t rotary, uint64_t n_rows,
                       float magnitude)
{
    const ag_rope_t leading = {.n_heads = n_heads, .head_dim = head_dim, .rotary = rotary};
    ag_rope_t last = leading;

    check_rope_of(leading, n_rows, magnitude);
    last.begin = head_dim - rotary;
    last.by_turns = true;
    check_rope_of(last, n_rows, magnitude);
}

Test(rope, equals_a_naive_loop)
{
    check_rope(7, 64, 64, 5, 1.0f);
    check_rope(3, 20, 12, 33, 1.25f); /* part of a head, and yarn's magnitude */
    check_rope(1, 2, 2, 1, 1.0f);
    check_rope(0, 64, 64, 4, 1.0f);
    check_rope(2, 8, 8, 0, 1.0f);
}

/* GLU, ADD */

typedef struct pair_case {
    const float *a, *b; /* NULL: y itself */
    uint64_t n_rows, width;
    ag_glu_t glu;
} pair_case_t;

/* By columns or by rows. */
static uint64_t grain_of(const pair_case_t *c)
{
    return c->n_rows % 2 == 0 ? 0 : 16;
}

static void run_glu(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const pair_case_t *c = arg;

    ag_kernel_glu(context, &c->glu, ag_floats(c->a != NULL ? c->a : y),
                  ag_floats(c->b != NULL ? c->b : y), c->n_rows, c->width, grain_of(c),
                  ag_floats(y));
}

static void run_add(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const pair_case_t *c = arg;

    ag_kernel_add(context, c->a != NULL ? c->a : y, c->b != NULL ? c->b : y, c->n_rows, c->width,
                  grain_of(c), y);
}

/* The kernel apart, over a, and over b. */
static void check_pair(kernel_call_t call, pair_case_t *c, const double *expected, double relative,
                       const char *what)
{
    uint64_t n = c->n_rows * c->width;
    const float *a = c->a, *b = c->b;
    float *y;

    call.arg = c;
    y = kernel_call(&call, n, what);
    expect_near(y, expected, n, relative, what);
    for (int i = 0; i < 2; i++) {
        float *in_place;

        call.y_at_first = i == 0 ? a : b;
        c->a = i == 0 ? NULL : a;
        c->b = i == 0 ? b : NULL;
        in_place = kernel_call(&call, n, what);
        cr_expect_arr_eq(in_place, y, n * sizeof(float), "%s: in place of input %d", what, i);
        free(in_place);
    }
    c->a = a;
    c->b = b;
    free(y);
}

Test(glu, every_activation_equals_a_naive_loop_also_in_place)
{
    for (uint64_t i = 0; i < N_SHAPES; i++) {
        uint64_t n = shapes[i][0] * shapes[i][1];
        float *gate = random_floats(41, n, 12), *up = random_floats(42, n, 1);
        double *expected = take(n * sizeof(double));

        for (int act = AG_ACT_SILU; act < AG_N_ACTS; act++) {
            pair_case_t c = {gate, up, shapes[i][0], shapes[i][1], {(ag_act_t)act, 0, 0}};

            c.glu.limit = i % 2 == 0 ? 0 : 0.75f;
            c.glu.up_offset = i % 4 < 2 ? 0 : 1;
            for (uint64_t j = 0; j < n; j++) {
                expected[j] = glu_of(&c.glu, (double)gate[j], (double)up[j]);
            }
            for (int isa = 0; isa < N_ISAS; isa++) {
                kernel_call_t call = {.fn = run_glu};

                if (isa_at(isa, &call.isa)) {
                    check_pair(call, &c, expected, 2e-6, "glu");
                }
            }
        }
        free(gate);
        free(up);
        free(expected);
    }
}

/* SOFTCAP: the cap stands in b[0] */

static void run_softcap(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const pair_case_t *c = arg;

    ag_kernel_softcap(context, c->b[0], c->a != NULL ? c->a : y, c->n_rows, c->width, grain_of(c),
                      y);
}

Test(softcap, equals_a_naive_loop_also_in_place_and_keeps_what_is_no_number)
{
    static const float caps[] = {0.3f, 30, 8};

    for (uint64_t i = 0; i < 3 * N_SHAPES; i++) {
        pair_case_t c = {.b = &caps[i % 3], .n_rows = shapes[i / 3][0], .width = shapes[i / 3][1]};
        uint64_t n = c.n_rows * c.width;
        float *x = random_floats(43, n, 20);
        double *expected = take(n * sizeof(double)), cap = (double)caps[i % 3];

        for (uint64_t j = 0; j < n; j++) {
            x[j] = j % 97 == 7 ? NAN : j % 97 == 9 ? 1e30f : j % 5 == 0 ? x[j] * 1e-3f : x[j];
            expected[j] = cap * tanh((double)x[j] / cap);
        }
        for (int j = 0; j < 2 * N_ISAS; j++) {
            kernel_call_t call = {.fn = run_softcap, .arg = &c};
            float *y;

            if (!isa_at(j / 2, &call.isa)) {
                continue;
            }
            call.y_at_first = j % 2 == 0 ? NULL : x;
            c.a = j % 2 == 0 ? x : NULL;
            y = kernel_call(&call, n, "softcap");
            for (uint64_t k = 0; k < n; k++) {
                cr_assert(isnan(expected[k])
                              ? isnan(y[k])
                              : fabs((double)y[k] - expected[k]) <= 4e-7 * fabs(expected[k]),
                          "cap %g of %g: %g, not %g", cap, (double)x[k], (double)y[k], expected[k]);
            }
            free(y);
        }
        free(x);
        free(expected);
    }
}

Test(glu, what_is_no_number_stays_so)
{
    float gate[33], up[33];

    for (int act = AG_ACT_SILU; act < AG_N_ACTS; act++) {
        for (int at = 0; at < 33; at += 4) {
            pair_case_t c = {gate, up, 1, 33, {(ag_act_t)act, at % 8 == 0 ? 0 : 7, 0}};
            kernel_call_t call = {.fn = run_glu, .arg = &c};

            for (int i = 0; i < 33; i++) {
                gate[i] = i == at ? NAN : 1;
                up[i] = i == at + 1 ? NAN : 1;
            }
            for (int isa = 0; isa < N_ISAS; isa++) {
                if (isa_at(isa, &call.isa)) {
                    float *y = kernel_call(&call, 33, "no number");

                    for (int i = 0; i < 33; i++) {
                        cr_expect_eq(isnan(y[i]) != 0, i == at || i == at + 1,
                                     "activation %d, %d: %g", act, i, (double)y[i]);
                    }
                    free(y);
                }
            }
        }
    }
}

Test(glu, activations_of_large_values_stay_finite)
{
    const float gate[2] = {-200, 200}, up[2] = {1, 1};

    for (int act = AG_ACT_SILU; act < AG_N_ACTS; act++) {
        pair_case_t c = {gate, up, 1, 2, {(ag_act_t)act, 0, 0}};
        kernel_call_t call = {.fn = run_glu, .arg = &c};

        for (int isa = 0; isa < N_ISAS; isa++) {
            if (isa_at(isa, &call.isa)) {
                float *y = kernel_call(&call, 2, "large");

                cr_expect_float_eq(y[0], 0.0f, 1e-30f, "activation %d", act);
                cr_expect_eq(y[1], 200.0f, "activation %d", act);
                free(y);
            }
        }
    }
}

static void run_gate_rows(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const pair_case_t *c = arg;

    ag_kernel_gate_rows(context, c->a != NULL ? c->a : y, c->b, c->n_rows, c->width, y);
}

Test(gate_rows, each_row_has_its_part_also_in_place)
{
    for (uint64_t i = 0; i < N_SHAPES; i++) {
        uint64_t n = shapes[i][0] * shapes[i][1];
        float *x = random_floats(45, n, 1), *gates = random_floats(46, shapes[i][0], 5);
        double *expected = take(n * sizeof(double));
        pair_case_t c = {x, gates, shapes[i][0], shapes[i][1], {AG_ACT_RELU, 0, 0}};
        kernel_call_t call = {.fn = run_gate_rows, .arg = &c, .y_at_first = x};

        for (uint64_t j = 0; j < n; j++) {
            expected[j] = (double)x[j] / (1 + exp(-(double)gates[j / shapes[i][1]]));
        }
        for (int k = 0; k < 2; k++) {
            float *y;

            c.a = k == 0 ? x : NULL;
            y = kernel_call(&call, n, "gated rows");
            expect_near(y, expected, n, 2e-6, "gated rows");
            free(y);
        }
        free(x);
        free(gates);
        free(expected);
    }
}

Test(add, equals_a_naive_loop_also_in_place)
{
    for (uint64_t i = 0; i < N_SHAPES; i++) {
        uint64_t n = shapes[i][0] * shapes[i][1];
        float *a = random_floats(51, n, 1), *b = random_floats(52, n, 1);
        double *expected = take(n * sizeof(double));
        pair_case_t c = {a, b, shapes[i][0], shapes[i][1], {AG_ACT_RELU, 0, 0}};

        for (uint64_t j = 0; j < n; j++) {
            expected[j] = (double)a[j] + (double)b[j];
        }
        check_pair((kernel_call_t){.fn = run_add}, &c, expected, 0x1p-23, "add");
        free(a);
        free(b);
        free(expected);
    }
}

/* SELECT, COLUMNS */

typedef struct copy_case {
    const float *x;
    uint64_t n_rows, width, y_width, column;
} copy_case_t;

static void run_select(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const copy_case_t *c = arg;

    ag_kernel_select_rows(context, c->x, c->width, y);
}

static void run_columns(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const copy_case_t *c = arg;

    ag_kernel_copy_columns(context, c->x, c->n_rows, c->width, y, c->y_width, c->column);
}

Test(select_rows, gives_the_rows_that_the_step_asks_for)
{
    const int32_t outputs[] = {0, 3, 4, 8};

    for (uint64_t n = 0; n <= 4; n++) {
        float *x = random_floats(61, 9 * 37, 1);
        ag_step_t step = {.counts = {1, 9, n, 1}, .outputs = outputs};
        copy_case_t c = {.x = x, .width = 37};
        float *y = kernel_call(&(kernel_call_t){.fn = run_select, .arg = &c, .step = &step}, n * 37,
                               "select");

        for (uint64_t i = 0; i < n; i++) {
            cr_expect_arr_eq(y + i * 37, x + outputs[i] * 37, 37 * sizeof(float), "row %u",
                             (unsigned)i);
        }
        free(x);
        free(y);
    }
}

Test(copy_columns, writes_its_columns_and_no_others)
{
    const copy_case_t cases[] = {/* rows, width, width of y, first column */
                                 {NULL, 5, 7, 20, 0},  {NULL, 5, 7, 20, 13}, {NULL, 1, 3, 3, 0},
                                 {NULL, 33, 1, 50, 9}, {NULL, 4, 0, 6, 6},   {NULL, 0, 2, 6, 1}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        copy_case_t c = cases[i];
        uint64_t n = c.n_rows * c.y_width;
        float *x = random_floats(71, c.n_rows * c.width, 1), *before = random_floats(72, n, 1), *y;

        c.x = x;
        y = kernel_call(&(kernel_call_t){.fn = run_columns, .arg = &c, .y_at_first = before}, n,
                        "columns");
        for (uint64_t j = 0; j < n; j++) {
            uint64_t row = j / c.y_width, column = j % c.y_width;
            bool copied = column >= c.column && column < c.column + c.width;

            cr_expect_eq(y[j], copied ? x[row * c.width + column - c.column] : before[j],
                         "case %zu, row %u, column %u", i, (unsigned)row, (unsigned)column);
        }
        free(x);
        free(before);
        free(y);
    }
}
