/*
 * A graph of all kinds of nodes: places and barriers are right if its results have the bits that
 * it gives on one thread with a buffer of its own for every value.
 */
#include "runtime/graph/graph.h"
#include "runtime/kernel/gemm.h"

#include "runtime/base/philox.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum {
    HIDDEN = 32,
    HEADS = 7,
    KV_HEADS = 3,
    HEAD = 4,
    FFN = 45,
    VOCAB = 70,
    LOGITS = 90,      /* of all ranks */
    FIRST_LOGIT = 11, /* of ours */
    N_ROWS = 41,
    N_OUTPUTS = 3,
    N_SEQUENCES = 3,
    N_BLOCKS = 6, /* of the cache, two for each sequence */
    MOST_VALUES = 24,
    MOST_THREADS = 3,
};

enum { EMBED, NORM, NORM_BIAS, Q, Q_BIAS, K, V, O, GATE, UP, DOWN, N_PARAMS };

static const ag_graph_param_t shapes[N_PARAMS] = {
    [EMBED] = {AG_Q8_0, AG_PACKING_ROWS, VOCAB, HIDDEN, 0, NULL},
    [NORM] = {AG_F32, AG_PACKING_ROWS, 1, HIDDEN, 0, NULL},
    [NORM_BIAS] = {AG_F32, AG_PACKING_ROWS, 1, HIDDEN, 0, NULL},
    [Q] = {AG_Q4_1, AG_PACKING_ROWS, HEADS *HEAD, HIDDEN, 0, NULL},
    [Q_BIAS] = {AG_F32, AG_PACKING_ROWS, 1, HEADS *HEAD, 0, NULL},
    [K] = {AG_F16, AG_PACKING_ROWS, KV_HEADS *HEAD, HIDDEN, 0, NULL},
    [V] = {AG_F32, AG_PACKING_ROWS, KV_HEADS *HEAD, HIDDEN, 0, NULL},
    [O] = {AG_F32, AG_PACKING_ROWS, HIDDEN, HEADS *HEAD, 0, NULL},
    [GATE] = {AG_Q8_0, AG_PACKING_ROWS, FFN, HIDDEN, 0, NULL},
    [UP] = {AG_BF16, AG_PACKING_ROWS, FFN, HIDDEN, 0, NULL},
    [DOWN] = {AG_F32, AG_PACKING_ROWS, HIDDEN, FFN, 0, NULL},
};

static const uint64_t bounds[AG_N_COUNTERS] = {1, N_ROWS, N_OUTPUTS, N_SEQUENCES};
static const float inverse_freq[HEAD / 2] = {1, 0.1f};
static const uint32_t kv_head[HEADS] = {0, 0, 0, 1, 1, 2, 2};

/* Floats in [-1, 1) whatever the type: random bytes would be NaN now and then. */
static void *random_param(const ag_graph_param_t *param, uint64_t seed)
{
    const ag_dtype_info_t *info = ag_dtype_info(param->dtype);
    uint64_t n = param->rows * param->cols;
    unsigned char *bytes = malloc(ag_dtype_bytes(param->dtype, n));

    cr_assert_not_null(bytes);
    for (uint64_t i = 0; i < n / info->block_elements; i++) {
        unsigned char *block = bytes + i * info->block_bytes;
        float value = (float)(2 * ag_philox_uniform(seed, 0, i) - 1) / (float)info->block_elements;
        uint16_t half = param->dtype == AG_BF16 ? ag_f32_to_bf16(value) : ag_f32_to_f16(value);

        for (uint32_t j = 0; j < info->block_bytes; j++) {
            block[j] = (unsigned char)(256 * ag_philox_uniform(seed, 1 + i, j));
        }
        memcpy(block, &half, sizeof(half)); /* the scale comes first in what is used here */
        if (param->dtype == AG_F32) {
            memcpy(block, &value, sizeof(value));
        } else if (param->dtype == AG_Q4_1) {
            memcpy(block + 2, &half, sizeof(half));
        }
    }
    return bytes;
}

/* Values get a buffer each, or are internal but for the hidden state and the logits. */
typedef struct builder {
    ag_graph_t graph;
    const ag_graph_param_t *params;
    bool buffers;
    int32_t n_buffers;
} builder_t;

static int32_t value(builder_t *b, ag_counter_t counter, uint32_t width, bool is_seen)
{
    int32_t number = ag_graph_value(&b->graph, counter, width,
                                    is_seen || b->buffers ? b->n_buffers++ : AG_INTERNAL);

    cr_assert_geq(number, 0);
    return number;
}

static void add(builder_t *b, ag_node_t node)
{
    cr_assert_eq(ag_graph_add(&b->graph, &node, b->params), AG_OK, "%s", ag_error());
}

static void linear(builder_t *b, int32_t in, int32_t out, int32_t weight, int32_t bias)
{
    add(b, (ag_node_t){.kind = AG_NODE_LINEAR,
                       .in = {in, AG_NO_VALUE},
                       .out = out,
                       .weight = weight,
                       .bias = bias});
}

static void norm(builder_t *b, ag_norm_kind_t kind, int32_t in, int32_t out)
{
    add(b, (ag_node_t){.kind = AG_NODE_NORM,
                       .in = {in, AG_NO_VALUE},
                       .out = out,
                       .weight = NORM,
                       .bias = kind == AG_NORM_LAYER ? NORM_BIAS : AG_NO_PARAM,
                       .attr.norm = {kind, 1e-5f}});
}

static void rope(builder_t *b, int32_t x, int32_t angles, uint32_t n_heads)
{
    add(b,
        (ag_node_t){
            .kind = AG_NODE_ROPE, .in = {x, angles}, .out = x, .attr.rope = {n_heads, HEAD, HEAD}});
}

static void build_attention(builder_t *b, int32_t x, uint32_t layer)
{
    int32_t a = value(b, AG_COUNT_TOKENS, HIDDEN, false);
    int32_t q = value(b, AG_COUNT_TOKENS, HEADS * HEAD, false);
    int32_t k = value(b, AG_COUNT_TOKENS, KV_HEADS * HEAD, false);
    int32_t v = value(b, AG_COUNT_TOKENS, KV_HEADS * HEAD, false);
    int32_t y = value(b, AG_COUNT_TOKENS, HEADS * HEAD, false);
    int32_t angles = value(b, AG_COUNT_TOKENS, HEAD, false);

    norm(b, AG_NORM_RMS, x, a);
    linear(b, a, q, Q, Q_BIAS);
    linear(b, a, k, K, AG_NO_PARAM);
    linear(b, a, v, V, AG_NO_PARAM);
    add(b, (ag_node_t){.kind = AG_NODE_ANGLES,
                       .in = {AG_NO_VALUE, AG_NO_VALUE},
                       .out = angles,
                       .attr.angles = {HEAD, 1, inverse_freq}});
    rope(b, q, angles, HEADS);
    rope(b, k, angles, KV_HEADS);
    add(b, (ag_node_t){.kind = AG_NODE_KV_APPEND,
                       .layer = layer,
                       .in = {k, v},
                       .out = AG_NO_VALUE,
                       .attr.kv = {KV_HEADS, HEAD}});
    add(b, (ag_node_t){.kind = AG_NODE_ATTENTION,
                       .layer = layer,
                       .in = {q, AG_NO_VALUE},
                       .out = y,
                       .attr.attention = {{HEADS, kv_head, 0.5f}, KV_HEADS, HEAD}});
    linear(b, y, a, O, AG_NO_PARAM);
    add(b, (ag_node_t){.kind = AG_NODE_ADD, .in = {x, a}, .out = x});
}

static void build_ffn(builder_t *b, int32_t x)
{
    int32_t a = value(b, AG_COUNT_TOKENS, HIDDEN, false);
    int32_t gate = value(b, AG_COUNT_TOKENS, FFN, false);
    int32_t up = value(b, AG_COUNT_TOKENS, FFN, false);

    norm(b, AG_NORM_LAYER, x, a);
    linear(b, a, gate, GATE, AG_NO_PARAM);
    linear(b, a, up, UP, AG_NO_PARAM);
    add(b,
        (ag_node_t){.kind = AG_NODE_GLU, .in = {gate, up}, .out = gate, .attr.act = AG_ACT_SILU});
    linear(b, gate, a, DOWN, AG_NO_PARAM);
    add(b, (ag_node_t){.kind = AG_NODE_ADD, .in = {x, a}, .out = x});
}

static void build(builder_t *b)
{
    int32_t x, all, last, mine;

    ag_graph_init(&b->graph);
    x = value(b, AG_COUNT_TOKENS, HIDDEN, true);
    all = value(b, AG_COUNT_OUTPUTS, LOGITS, true);
    add(b, (ag_node_t){.kind = AG_NODE_EMBED,
                       .in = {AG_NO_VALUE, AG_NO_VALUE},
                       .out = x,
                       .weight = EMBED,
                       .attr.embed = {.vocab_begin = 5, .scale = 1.5f}});
    for (uint32_t layer = 0; layer < 2; layer++) {
        build_attention(b, x, layer);
        build_ffn(b, x);
    }
    last = value(b, AG_COUNT_OUTPUTS, HIDDEN, false);
    mine = value(b, AG_COUNT_OUTPUTS, VOCAB, false);
    add(b, (ag_node_t){.kind = AG_NODE_SELECT, .in = {x, AG_NO_VALUE}, .out = last});
    norm(b, AG_NORM_RMS, last, last);
    linear(b, last, mine, EMBED, AG_NO_PARAM);
    add(b, (ag_node_t){.kind = AG_NODE_COLUMNS,
                       .in = {mine, AG_NO_VALUE},
                       .out = all,
                       .attr.column_begin = FIRST_LOGIT});
}

static void *aligned(size_t n_bytes, int filled_with)
{
    void *bytes = aligned_alloc(64, (n_bytes + 63) / 64 * 64);

    cr_assert_not_null(bytes);
    memset(bytes, filled_with, n_bytes);
    return bytes;
}

/* Three sequences of 33, 1 and 7 rows. */
static void make_step(ag_step_t *step, int32_t *tokens, int32_t *positions)
{
    static const int32_t row_begin[N_SEQUENCES + 1] = {0, 33, 34, N_ROWS};
    static const int32_t outputs[N_OUTPUTS] = {32, 33, 40};
    static const int32_t tables[N_BLOCKS] = {4, 0, 2, 5, 1, 3};

    for (int32_t s = 0; s < N_SEQUENCES; s++) {
        for (int32_t row = row_begin[s]; row < row_begin[s + 1]; row++) {
            tokens[row] = row * 7 % 80; /* some that another rank holds */
            positions[row] = row - row_begin[s];
        }
    }
    *step = (ag_step_t){.counts = {1, N_ROWS, N_OUTPUTS, N_SEQUENCES},
                        .tokens = tokens,
                        .positions = positions,
                        .row_begin = row_begin,
                        .outputs = outputs,
                        .block_tables = tables,
                        .table_stride = 2};
}

typedef struct setup {
    ag_graph_param_t params[N_PARAMS];
    ag_gemm_cache_t *gemm;
    bool exact;
} setup_t;

static uint64_t place_buffers(const ag_graph_t *graph, uint64_t offsets[MOST_VALUES])
{
    uint64_t end = 0;

    for (size_t i = 0; i < graph->values.n_items; i++) {
        const ag_value_t *v = &AG_ITEMS(&graph->values, ag_value_t)[i];

        if (v->buffer != AG_INTERNAL) {
            offsets[v->buffer] = end;
            end += (bounds[v->counter] * v->width * sizeof(float) + 63) / 64 * 64;
        }
    }
    return end;
}

/* The hidden state and the logits that n_threads threads give; free() them. */
static float *results(const setup_t *setup, unsigned n_threads, bool buffers, bool *reuses_p)
{
    builder_t b = {.params = setup->params, .buffers = buffers};
    int32_t tokens[N_ROWS], positions[N_ROWS];
    uint64_t offsets[MOST_VALUES], end;
    size_t n_hidden = (size_t)N_ROWS * HIDDEN, n_logits = (size_t)N_OUTPUTS * LOGITS;
    ag_dtype_t kv_type = setup->exact ? AG_F32 : AG_F16;
    size_t kv_bytes =
        ag_dtype_bytes(kv_type, (size_t)N_BLOCKS * 2 * KV_HEADS * AG_KV_BLOCK_TOKENS * HEAD);
    ag_kv_t kv[2];
    ag_step_t step;
    ag_graph_run_t run;
    ag_team_t *team = NULL;
    float *both = malloc((n_hidden + n_logits) * sizeof(float));

    cr_assert_not_null(both);
    build(&b);
    cr_assert_eq(ag_graph_compile(&b.graph, bounds, setup->params, setup->exact), AG_OK);
    make_step(&step, tokens, positions);
    end = place_buffers(&b.graph, offsets);
    for (int i = 0; i < 2; i++) {
        kv[i] = (ag_kv_t){kv_type, KV_HEADS, HEAD, AG_KV_BLOCK_TOKENS, aligned(kv_bytes, 0xff)};
    }
    run =
        (ag_graph_run_t){.graph = &b.graph,
                         .step = &step,
                         .params = setup->params,
                         .kv = kv,
                         .memory = aligned(end + b.graph.scratch_bytes, 0xff),
                         .offsets = offsets,
                         .scratch_offset = end,
                         .thread_scratch = aligned(n_threads * b.graph.thread_scratch_bytes, 0xff),
                         .thread_scratch_stride = b.graph.thread_scratch_bytes,
                         .gemm = setup->gemm};
    memset(run.memory + offsets[1], 0, n_logits * sizeof(float)); /* columns of other ranks */
    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = n_threads, .spin_us = 1}, &team),
                 AG_OK);
    ag_team_run(team, ag_graph_region, &run);
    ag_team_destroy(team);

    memcpy(both, run.memory + offsets[0], n_hidden * sizeof(float));
    memcpy(both + n_hidden, run.memory + offsets[1], n_logits * sizeof(float));
    *reuses_p = b.graph.scratch_bytes > 0 && b.graph.scratch_bytes < 7 * n_hidden * sizeof(float);
    free(run.memory);
    free(run.thread_scratch);
    free(kv[0].blocks);
    free(kv[1].blocks);
    ag_graph_fini(&b.graph);
    return both;
}

static void check(bool exact, bool with_gemm)
{
    setup_t setup = {.exact = exact};
    size_t n_bytes = ((size_t)N_ROWS * HIDDEN + (size_t)N_OUTPUTS * LOGITS) * sizeof(float);
    bool reuses;
    float *expected;

    if (with_gemm) {
        cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &setup.gemm), AG_OK);
    }
    for (uint64_t i = 0; i < N_PARAMS; i++) {
        setup.params[i] = shapes[i];
        setup.params[i].data = random_param(&shapes[i], 100 * i);
    }
    expected = results(&setup, 1, true, &reuses);
    cr_expect_not(reuses);
    for (size_t i = 0; i < n_bytes / sizeof(float); i++) {
        cr_assert(expected[i] > -1e6f && expected[i] < 1e6f, "%zu: %g", i, (double)expected[i]);
    }
    for (size_t i = 0; i < (size_t)N_OUTPUTS * LOGITS; i++) {
        size_t column = i % LOGITS;

        cr_assert_eq(expected[(size_t)N_ROWS * HIDDEN + i] != 0,
                     column >= FIRST_LOGIT && column < FIRST_LOGIT + VOCAB, "column %zu", column);
    }
    for (unsigned round = 0; round < 20; round++) { /* a missing barrier shows now and then */
        float *y = results(&setup, 1 + round % MOST_THREADS, false, &reuses);

        cr_expect(reuses);
        cr_assert_eq(memcmp(y, expected, n_bytes), 0, "%u threads", 1 + round % MOST_THREADS);
        free(y);
    }
    for (int i = 0; i < N_PARAMS; i++) {
        free((void *)setup.params[i].data);
    }
    ag_gemm_cache_destroy(setup.gemm);
    free(expected);
}

Test(run, places_and_threads_leave_no_trace_in_the_bits)
{
    check(true, false);
}

Test(run, places_and_threads_leave_no_trace_in_the_bits_of_fast_kernels)
{
    check(false, true);
}

static void count_yield(void *arg)
{
    (*(unsigned *)arg)++;
}

Test(run, communication_is_looked_at_after_every_node)
{
    float data[4] = {1, 2, 3, 4};
    uint64_t offsets[1] = {0};
    unsigned n_yields = 0;
    ag_yield_t yield = {count_yield, &n_yields};
    ag_step_t step = {.counts = {1, 2, 0, 1}};
    ag_graph_run_t run = {
        .step = &step, .memory = (unsigned char *)data, .offsets = offsets, .yield = &yield};
    ag_team_t *team = NULL;
    ag_graph_t graph;
    int32_t x;

    ag_graph_init(&graph);
    x = ag_graph_value(&graph, AG_COUNT_TOKENS, 2, 0);
    for (int i = 0; i < 3; i++) {
        ag_node_t sum = {.kind = AG_NODE_ADD, .in = {x, x}, .out = x};

        cr_assert_eq(ag_graph_add(&graph, &sum, NULL), AG_OK);
    }
    run.graph = &graph;
    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = 1}, &team), AG_OK);
    cr_assert_eq(ag_graph_compile(&graph, (uint64_t[AG_N_COUNTERS]){1, 2, 0, 1}, NULL, true),
                 AG_OK);
    ag_team_run(team, ag_graph_region, &run);
    ag_team_destroy(team);
    cr_expect_geq(n_yields, 3);
    cr_expect_eq(data[3], 32.0f);
    ag_graph_fini(&graph);
}
