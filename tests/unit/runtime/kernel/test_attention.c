/* The KV cache's blocks and attention over them, against a softmax in double precision. */
#include "kernel_call.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SEQUENCES = 4, MOST_HEADS = 16 };

/* What a case is made of: sequences with a past already in the cache, and rows of this step. */
typedef struct shape {
    ag_dtype_t dtype;
    uint32_t n_heads, n_kv_heads, head_dim, block_tokens;
    uint32_t n_sequences, n_past[MOST_SEQUENCES], n_new[MOST_SEQUENCES];
    uint64_t seed;
    uint32_t value_dim; /* leading elements of a key that are its value; 0: values are apart */
} shape_t;

/* What scores are subject to, as kernel.h says. */
typedef struct terms {
    uint32_t window;
    float score_cap;
    bool has_sinks;
} terms_t;

typedef struct attention_case {
    shape_t shape;
    ag_step_t step;
    ag_attention_t attention;
    ag_kv_t kv;
    uint32_t kv_head[MOST_HEADS];
    float sinks[MOST_HEADS];
    int32_t *positions, *tables;
    int32_t row_begin[MOST_SEQUENCES + 1];
    size_t cache_bytes;
    float *keys[MOST_SEQUENCES], *values[MOST_SEQUENCES]; /* (positions, kv heads, head_dim) */
    float *k, *v, *q; /* of this step's rows, as kernels take them */
} attention_case_t;

static uint32_t n_positions(const shape_t *shape, uint32_t s)
{
    return shape->n_past[s] + shape->n_new[s];
}

/* Block numbers in no order, none twice. */
static void shuffle_tables(attention_case_t *c, uint32_t n_blocks)
{
    for (uint32_t i = 0; i < n_blocks; i++) {
        c->tables[i] = (int32_t)i;
    }
    for (uint32_t i = n_blocks; i > 1; i--) {
        uint32_t j = (uint32_t)random_below(c->shape.seed + 7, i, i);
        int32_t other = c->tables[j];

        c->tables[j] = c->tables[i - 1];
        c->tables[i - 1] = other;
    }
}

static void make_step(attention_case_t *c)
{
    const shape_t *shape = &c->shape;
    uint32_t stride = 1, n_rows = 0, row = 0;

    for (uint32_t s = 0; s < shape->n_sequences; s++) {
        uint32_t n = (n_positions(shape, s) + shape->block_tokens - 1) / shape->block_tokens;

        stride = n > stride ? n : stride;
        n_rows += shape->n_new[s];
    }
    c->positions = take(n_rows * sizeof(int32_t));
    c->tables = take((size_t)shape->n_sequences * stride * sizeof(int32_t));
    shuffle_tables(c, shape->n_sequences * stride);
    for (uint32_t s = 0; s < shape->n_sequences; s++) {
        c->row_begin[s] = (int32_t)row;
        for (uint32_t i = 0; i < shape->n_new[s]; i++) {
            c->positions[row++] = (int32_t)(shape->n_past[s] + i);
        }
    }
    c->row_begin[shape->n_sequences] = (int32_t)row;
    c->step = (ag_step_t){.counts = {1, n_rows, 0, shape->n_sequences},
                          .positions = c->positions,
                          .row_begin = c->row_begin,
                          .block_tables = c->tables,
                          .table_stride = stride};
}

/* This step's rows as kernels take them: keys and values, or keys cut where values end. */
static void fill_rows(attention_case_t *c)
{
    uint32_t dim = c->shape.head_dim, cut = c->shape.value_dim, n_heads = c->shape.n_kv_heads;
    uint32_t k_dim = cut > 0 ? cut : dim, v_dim = cut > 0 ? dim - cut : dim;

    for (uint32_t s = 0; s < c->shape.n_sequences; s++) {
        for (uint64_t i = 0; i < (uint64_t)c->shape.n_new[s] * n_heads; i++) {
            uint64_t to = (uint64_t)c->row_begin[s] * n_heads + i;
            uint64_t from = ((uint64_t)c->shape.n_past[s] * n_heads + i) * dim;
            const float *key = c->keys[s] + from, *v = cut > 0 ? key + cut : c->values[s] + from;

            memcpy(c->k + to * k_dim, key, k_dim * sizeof(float));
            memcpy(c->v + to * v_dim, v, v_dim * sizeof(float));
        }
    }
}

static void make_case(attention_case_t *c, const shape_t *shape, const terms_t *with)
{
    size_t row = (size_t)shape->n_kv_heads * shape->head_dim;
    uint64_t n_rows;

    *c = (attention_case_t){.shape = *shape};
    make_step(c);
    n_rows = c->step.counts[AG_COUNT_TOKENS];
    for (uint32_t h = 0; h < shape->n_heads; h++) { /* 7 and 3 give 0 0 0 1 1 2 2 */
        c->kv_head[h] = h * shape->n_kv_heads / shape->n_heads;
        c->sinks[h] = (float)h - 3; /* of no weight, or of most */
    }
    c->attention = (ag_attention_t){.n_heads = shape->n_heads,
                                    .kv_head = shape->n_kv_heads == 1 ? NULL : c->kv_head,
                                    .scale = 1.0f / sqrtf(shape->head_dim),
                                    .window_tokens = with->window,
                                    .score_cap = with->score_cap,
                                    .sinks = with->has_sinks ? c->sinks : NULL};
    c->kv = (ag_kv_t){shape->dtype, shape->n_kv_heads, shape->head_dim, shape->block_tokens,
                      NULL,         shape->value_dim};
    c->cache_bytes = ag_kv_blocks_bytes(&c->kv, shape->n_sequences * c->step.table_stride);
    c->k = take(n_rows * row * sizeof(float));
    c->v = take(n_rows * row * sizeof(float));
    c->q = random_floats(shape->seed, n_rows * shape->n_heads * shape->head_dim, 4);
    for (uint32_t s = 0; s < shape->n_sequences; s++) {
        size_t n = n_positions(shape, s);

        c->keys[s] = random_floats(shape->seed + 10 + s, n * row, 3);
        c->values[s] = random_floats(shape->seed + 20 + s, n * row, 1);
    }
    fill_rows(c);
}

static void free_case(attention_case_t *c)
{
    for (uint32_t s = 0; s < c->shape.n_sequences; s++) {
        free(c->keys[s]);
        free(c->values[s]);
    }
    free(c->kv.blocks);
    free(c->positions);
    free(c->tables);
    free(c->k);
    free(c->v);
    free(c->q);
}

/* Where a key's (0) or value's (1) element is, by the layout that kernel.h gives. */
static size_t place(const attention_case_t *c, uint32_t s, uint32_t position, uint32_t which,
                    uint32_t head, uint32_t d)
{
    size_t block = (size_t)c->tables[s * c->step.table_stride + position / c->kv.block_tokens];

    size_t n_parts = c->kv.value_dim > 0 ? 1 : 2;
    size_t first =
        ((block * n_parts + which) * c->kv.n_kv_heads + head) * c->kv.block_tokens * c->kv.head_dim;

    return first + (which + 1 < n_parts ? d * c->kv.block_tokens + position % c->kv.block_tokens
                                        : position % c->kv.block_tokens * c->kv.head_dim + d);
}

static float rounded(const attention_case_t *c, float value)
{
    return c->kv.dtype == AG_F32 ? value : ag_f16_to_f32(ag_f32_to_f16(value));
}

static void put(const attention_case_t *c, void *cache, size_t at, float value)
{
    if (c->kv.dtype == AG_F32) {
        ((float *)cache)[at] = value;
    } else {
        ((uint16_t *)cache)[at] = ag_f32_to_f16(value);
    }
}

/* Put positions [begin, end) of a sequence in their places. */
static void put_positions(const attention_case_t *c, void *cache, uint32_t s, uint32_t begin,
                          uint32_t end)
{
    for (size_t i = (size_t)begin * c->kv.n_kv_heads; i < (size_t)end * c->kv.n_kv_heads; i++) {
        uint32_t p = (uint32_t)(i / c->kv.n_kv_heads), h = (uint32_t)(i % c->kv.n_kv_heads);

        for (uint32_t d = 0; d < c->kv.head_dim; d++) {
            put(c, cache, place(c, s, p, 0, h, d), c->keys[s][i * c->kv.head_dim + d]);
            if (c->kv.value_dim == 0) {
                put(c, cache, place(c, s, p, 1, h, d), c->values[s][i * c->kv.head_dim + d]);
            }
        }
    }
}

/* The first position that a row sees. */
static uint32_t first_seen(const attention_case_t *c, uint64_t row)
{
    uint32_t window = c->attention.window_tokens, n = (uint32_t)c->positions[row] + 1;

    return window == 0 || n < window ? 0 : n - window;
}

/* Blocks that no row sees are nowhere: who reads them meets what is not the cache's. */
static void lose_unseen_blocks(attention_case_t *c)
{
    for (uint32_t s = 0; s < c->shape.n_sequences; s++) {
        uint32_t row = (uint32_t)c->row_begin[s], n = 0;

        if (c->shape.n_new[s] > 0) {
            n = first_seen(c, row) / c->kv.block_tokens;
        }
        for (uint32_t i = 0; i < n; i++) {
            c->tables[s * c->step.table_stride + i] = -1000;
        }
    }
}

static void run_append(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const attention_case_t *c = arg;
    ag_kv_t kv = c->kv;

    kv.blocks = y;
    ag_kernel_kv_append(context, &kv, c->k, c->v);
}

static void run_attention(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const attention_case_t *c = arg;

    ag_kernel_attention(context, &c->attention, &c->kv, c->q, y);
}

static float *attend(const attention_case_t *c, const ag_isa_t *isa, uint64_t n, const char *what)
{
    return kernel_call(
        &(kernel_call_t){.fn = run_attention,
                         .arg = c,
                         .step = &c->step,
                         .isa = isa,
                         .scratch_bytes = ag_attention_scratch_bytes(&c->attention, &c->kv)},
        n, what);
}

/* In two steps, with a barrier between them. */
typedef struct parts_case {
    const attention_case_t *of;
    float *parts;
} parts_case_t;

static void run_parts(const ag_kernel_context_t *context, const void *arg, float *y)
{
    const parts_case_t *c = arg;

    ag_kernel_attention_parts(context, &c->of->attention, &c->of->kv, c->of->q, c->parts);
    ag_team_barrier(context->worker);
    ag_kernel_attention_merge(context, &c->of->attention, &c->of->kv, c->parts, y);
    ag_team_barrier(context->worker);
}

/* Append this step's rows to a cache that holds the past; what no row owns stays NaN. */
static void check_append(attention_case_t *c, const char *what)
{
    uint64_t n_floats = (c->cache_bytes + sizeof(float) - 1) / sizeof(float);
    float *past = take(n_floats * sizeof(float)), *expected = take(n_floats * sizeof(float));

    memset(past, 0xff, n_floats * sizeof(float));
    for (uint32_t s = 0; s < c->shape.n_sequences; s++) {
        put_positions(c, past, s, 0, c->shape.n_past[s]);
    }
    memcpy(expected, past, n_floats * sizeof(float));
    for (uint32_t s = 0; s < c->shape.n_sequences; s++) {
        put_positions(c, expected, s, c->shape.n_past[s], n_positions(&c->shape, s));
    }
    c->kv.blocks = kernel_call(
        &(kernel_call_t){.fn = run_append, .arg = c, .step = &c->step, .y_at_first = past},
        n_floats, what);
    cr_expect_arr_eq((unsigned char *)c->kv.blocks, (unsigned char *)expected,
                     n_floats * sizeof(float), "%s", what);
    free(past);
    free(expected);
}

/* One row and head of y, in double precision. */
static void expect_head(const attention_case_t *c, const float *y, uint32_t s, uint64_t row,
                        uint32_t h, const char *what)
{
    uint32_t dim = c->kv.head_dim, n = (uint32_t)c->positions[row] + 1, kv_head = c->kv_head[h];
    const float *q = c->q + (row * c->attention.n_heads + h) * dim;
    uint32_t value_dim = ag_kv_value_dim(&c->kv);
    const float *out = y + (row * c->attention.n_heads + h) * value_dim;
    const float *values = c->kv.value_dim > 0 ? c->keys[s] : c->values[s];
    double *weights = take(n * sizeof(double)), largest = -INFINITY, sum = 0;
    double cap = (double)c->attention.score_cap;
    uint32_t first = first_seen(c, row);

    if (c->attention.sinks != NULL) {
        largest = (double)c->sinks[h];
    }
    for (uint32_t p = first; p < n; p++) {
        const float *key = c->keys[s] + ((size_t)p * c->kv.n_kv_heads + kv_head) * dim;

        weights[p] = 0;
        for (uint32_t d = 0; d < dim; d++) {
            weights[p] += (double)q[d] * (double)rounded(c, key[d]);
        }
        weights[p] *= (double)c->attention.scale;
        weights[p] = cap > 0 ? cap * tanh(weights[p] / cap) : weights[p];
        largest = fmax(largest, weights[p]);
    }
    sum = c->attention.sinks != NULL ? exp((double)c->sinks[h] - largest) : 0;
    for (uint32_t p = first; p < n; p++) {
        weights[p] = exp(weights[p] - largest);
        sum += weights[p];
    }
    for (uint32_t d = 0; d < value_dim; d++) {
        double expected = 0;

        for (uint32_t p = first; p < n; p++) {
            const float *value = values + ((size_t)p * c->kv.n_kv_heads + kv_head) * dim;

            expected += weights[p] / sum * (double)rounded(c, value[d]);
        }
        cr_assert_float_eq((double)out[d], expected, 2e-5, "%s: row %llu, head %u, %u: %g, not %g",
                           what, (unsigned long long)row, h, d, (double)out[d], expected);
    }
    free(weights);
}

static void expect_rows(const attention_case_t *c, const float *y, const char *what)
{
    for (uint32_t s = 0; s < c->shape.n_sequences; s++) {
        for (int32_t row = c->row_begin[s]; row < c->row_begin[s + 1]; row++) {
            for (uint32_t h = 0; h < c->shape.n_heads; h++) {
                expect_head(c, y, s, (uint64_t)row, h, what);
            }
        }
    }
}

/* A row has the same bits whatever rows stand beside it. */
static void expect_alone(const attention_case_t *c, const ag_isa_t *isa, const float *y,
                         const char *what)
{
    uint64_t n_rows = c->step.counts[AG_COUNT_TOKENS];
    uint64_t width = (uint64_t)c->shape.n_heads * ag_kv_value_dim(&c->kv);

    for (uint64_t row = 0, s = 0; row < n_rows; row += 1 + n_rows / 4) {
        attention_case_t alone = *c;
        int32_t row_begin[2] = {0, 1};
        float *one;

        while (row >= (uint64_t)c->row_begin[s + 1]) {
            s++;
        }
        alone.step = (ag_step_t){.counts = {1, 1, 0, 1},
                                 .positions = c->positions + row,
                                 .row_begin = row_begin,
                                 .block_tables = c->tables + s * c->step.table_stride,
                                 .table_stride = c->step.table_stride};
        alone.q = c->q + row * c->shape.n_heads * c->shape.head_dim;
        one = attend(&alone, isa, width, what);
        cr_expect_eq(memcmp(one, y + row * width, width * sizeof(float)), 0,
                     "%s: row %llu alone has other bits", what, (unsigned long long)row);
        free(one);
    }
}

static void check_attention(const attention_case_t *c, const ag_isa_t *isa, const char *what)
{
    uint64_t n_rows = c->step.counts[AG_COUNT_TOKENS];
    uint64_t n = n_rows * c->shape.n_heads * ag_kv_value_dim(&c->kv);
    parts_case_t parts = {.of = c};
    kernel_call_t call = {.fn = run_attention,
                          .arg = c,
                          .step = &c->step,
                          .isa = isa,
                          .scratch_bytes = ag_attention_scratch_bytes(&c->attention, &c->kv),
                          .yields = n_rows > 0};
    float *y = kernel_call(&call, n, what);

    expect_rows(c, y, what);
    expect_alone(c, isa, y, what);
    free(y);
    parts.parts = take(n_rows * ag_attention_parts_width(&c->attention, ag_kv_value_dim(&c->kv)) *
                       sizeof(*parts.parts));
    call.fn = run_parts;
    call.arg = &parts;
    y = kernel_call(&call, n, what);
    expect_rows(c, y, what);
    free(y);
    free(parts.parts);
}

static void check_shape(const shape_t *shape, const terms_t *with)
{
    attention_case_t c;
    char what[200];
    int n_chars;

    make_case(&c, shape, with);
    n_chars = snprintf(
        what, sizeof(what) - 16,
        "%s, %u:%u heads of %u (%u), blocks of %u, %u sequences, seed %u, window %u, cap %g%s, ",
        ag_dtype_info(shape->dtype)->name, shape->n_heads, shape->n_kv_heads, shape->head_dim,
        shape->value_dim, shape->block_tokens, shape->n_sequences, (unsigned)shape->seed,
        with->window, (double)with->score_cap, with->has_sinks ? ", sinks" : "");
    check_append(&c, what);
    lose_unseen_blocks(&c);
    for (int i = 0; i < N_ISAS; i++) {
        const ag_isa_t *isa;

        if (isa_at(i, &isa)) {
            strcpy(what + n_chars, isa == NULL ? "plain C" : ag_isa_name(isa));
            check_attention(&c, isa, what);
        }
    }
    free_case(&c);
}

/* Windows within a block, over several, over several spans. */
static const terms_t terms[] = {{1, 0, false},   {5, 0, true},  {33, 2, false}, {0, 0.7f, true},
                                {200, 0, false}, {40, 1, true}, {600, 3, false}};
enum { N_TERMS = sizeof(terms) / sizeof(terms[0]) };

static void check_type(ag_dtype_t dtype)
{
    const shape_t shapes[] = {
        /* heads, kv heads, head size, block; sequences, past, new */
        {dtype, 7, 3, 20, 4, 1, {0}, {1}, 1, 0},
        {dtype, 7, 3, 20, 4, 3, {5, 0, 12}, {1, 9, 4}, 2, 0},
        {dtype, 9, 3, 64, 32, 2, {31, 33}, {2, 1}, 3, 0},
        {dtype, 4, 4, 16, 32, 4, {0, 64, 3, 0}, {17, 1, 40, 32}, 4, 0},
        {dtype, 5, 1, 33, 7, 2, {6, 7}, {16, 15}, 5, 0},
        {dtype, 1, 1, 1, 1, 1, {3}, {2}, 6, 0},
        {dtype, 16, 2, 8, 16, 3, {15, 16, 100}, {0, 1, 0}, 7, 0}, /* sequences without rows */
        {dtype, 12, 3, 40, 32, 2, {0, 90}, {70, 20}, 8, 0},
        {dtype, 7, 1, 100, 32, 1, {131}, {3}, 9, 0},
        /* long pasts: parts of several spans, rows that end in different ones */
        {dtype, 3, 3, 16, 32, 2, {1100, 126}, {1, 5}, 10, 0},
        {dtype, 5, 2, 24, 32, 2, {255, 640}, {20, 1}, 11, 0},
        {dtype, 13, 1, 26, 32, 2, {255, 640}, {20, 1}, 12, 20}, /* values are parts of keys */
    };

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        check_shape(&shapes[i], &(terms_t){0});
        check_shape(&shapes[i], &terms[i % N_TERMS]);
    }
    for (uint64_t seed = 50; seed < 68; seed++) { /* of the last ones values are parts of keys */
        shape_t shape = {.dtype = dtype, .seed = seed};

        shape.n_kv_heads = 1 + (uint32_t)random_below(seed, 0, 4);
        shape.n_heads = shape.n_kv_heads + (uint32_t)random_below(seed, 1, 9);
        shape.head_dim = 1 + (uint32_t)random_below(seed, 2, 80);
        shape.block_tokens = 1 + (uint32_t)random_below(seed, 3, 33);
        shape.value_dim = seed < 60 ? 0 : 1 + (uint32_t)random_below(seed, 5, shape.head_dim);
        shape.n_sequences = 1 + (uint32_t)random_below(seed, 4, MOST_SEQUENCES);
        for (uint32_t s = 0; s < shape.n_sequences; s++) {
            shape.n_past[s] = (uint32_t)random_below(seed, 10 + s, 70);
            shape.n_new[s] = (uint32_t)random_below(seed, 20 + s, 40);
        }
        check_shape(&shape, &terms[seed % N_TERMS]);
    }
}

/* A number that is not finite in some position's value, or key: rows that do not see it have the
 * bits of before; those that do have none that is finite where it counts. */
typedef struct damage {
    float value;
    uint32_t position, which; /* key (0) or value (1) */
    bool in_parts;
} damage_t;

static void check_damage(attention_case_t *c, const damage_t *damage, const ag_isa_t *isa)
{
    uint64_t n_rows = c->step.counts[AG_COUNT_TOKENS], width = c->kv.head_dim;
    uint64_t n = n_rows * c->shape.n_heads * width;
    size_t at = place(c, 0, damage->position, damage->which, 0, (uint32_t)width - 1);
    uint16_t held = ((uint16_t *)c->kv.blocks)[at];
    parts_case_t parts = {.of = c};
    kernel_call_t call = {.fn = damage->in_parts ? run_parts : run_attention,
                          .arg = damage->in_parts ? (const void *)&parts : c,
                          .step = &c->step,
                          .isa = isa,
                          .scratch_bytes = ag_attention_scratch_bytes(&c->attention, &c->kv)};
    float *wanted, *y;

    parts.parts = take(n_rows * ag_attention_parts_width(&c->attention, c->kv.head_dim) *
                       sizeof(*parts.parts));
    wanted = kernel_call(&call, n, "finite numbers");
    put(c, c->kv.blocks, at, damage->value);
    y = kernel_call(&call, n, "a number that is not finite");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t row = i / width / c->shape.n_heads, head = i / width % c->shape.n_heads;
        bool meets = (damage->which == 0 || i % width == width - 1) && c->kv_head[head] == 0 &&
                     (uint32_t)c->positions[row] >= damage->position &&
                     first_seen(c, row) <= damage->position;

        cr_assert(meets ? !isfinite(y[i]) : memcmp(&y[i], &wanted[i], sizeof(float)) == 0,
                  "%s, %g in %s of position %u: row %llu, head %llu is %g",
                  isa == NULL ? "plain C" : ag_isa_name(isa), (double)damage->value,
                  damage->which == 0 ? "the key" : "the value", damage->position,
                  (unsigned long long)row, (unsigned long long)head, (double)y[i]);
    }
    ((uint16_t *)c->kv.blocks)[at] = held;
    free(parts.parts);
    free(wanted);
    free(y);
}

static void check_damages(const damage_t *damages, size_t n, uint32_t window)
{
    const terms_t with = {.window = window};

    for (uint64_t i = 0; i < 3 * N_ISAS; i++) {
        shape_t shape = {AG_F16, 7,      3, (uint32_t[]){20, 32, 72}[i % 3], 32, 1, {120},
                         {20},   70 + i, 0};
        const ag_isa_t *isa;
        attention_case_t c;

        if (!isa_at((int)i / 3, &isa)) {
            continue;
        }
        make_case(&c, &shape, &with);
        check_append(&c, "finite numbers");
        for (size_t j = 0; j < n; j++) {
            check_damage(&c, &damages[j], isa);
        }
        free_case(&c);
    }
}

Test(attention, a_value_that_is_not_finite_reaches_those_rows_alone_that_see_it)
{
    static const damage_t damages[] = {
        {70000, 122, 1, false}, /* beyond what float16 holds */
        {70000, 137, 1, true},     {-INFINITY, 127, 1, false}, {-INFINITY, 128, 1, true},
        {INFINITY, 132, 1, false}, {NAN, 127, 1, false},       {NAN, 137, 1, true},
    };

    check_damages(damages, sizeof(damages) / sizeof(damages[0]), 0);
    check_damages(damages, sizeof(damages) / sizeof(damages[0]), 9);
}

/* A key of infinity may weigh nothing at all. */
Test(attention, a_key_that_is_no_number_is_not_left_out)
{
    static const damage_t damages[] = {
        {NAN, 3, 0, false}, {NAN, 127, 0, false}, {NAN, 130, 0, true}, {NAN, 5, 0, true}};

    check_damages(damages, sizeof(damages) / sizeof(damages[0]), 0);
    check_damages(damages, sizeof(damages) / sizeof(damages[0]), 9);
}

Test(attention, over_a_cache_of_f32)
{
    check_type(AG_F32);
}

Test(attention, over_a_cache_of_f16)
{
    check_type(AG_F16);
}

Test(attention, a_rank_without_query_heads_computes_nothing)
{
    float block[4] = {0}, nothing;
    int32_t zero = 0, row_begin[2] = {0, 1};
    attention_case_t c = {.kv = {AG_F32, 1, 2, 1, block, 0}, .q = &nothing};

    c.step = (ag_step_t){.counts = {1, 1, 1, 1},
                         .positions = &zero,
                         .row_begin = row_begin,
                         .block_tables = &zero,
                         .table_stride = 1};
    free(attend(&c, NULL, 0, "no heads"));
}

Test(attention, scores_of_any_size_stay_finite)
{
    attention_case_t c;
    shape_t shape = {AG_F32, 2, 1, 8, 4, 1, {9}, {3}, 30, 0};
    float *y;

    make_case(&c, &shape, &(terms_t){0});
    for (uint64_t i = 0; i < 3 * 2 * 8; i++) {
        c.q[i] *= 1e4f; /* exp() of such scores would overflow */
    }
    check_append(&c, "large scores");
    y = attend(&c, NULL, 3 * 2 * 8, "large scores");
    for (int i = 0; i < 3 * 2 * 8; i++) {
        cr_expect(fabsf(y[i]) <= 1, "%g", (double)y[i]); /* a mean of values, all below 1 */
    }
    free(y);
    free_case(&c);
}
