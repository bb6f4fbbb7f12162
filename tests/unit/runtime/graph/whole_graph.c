#include "whole_graph.h"

#include "runtime/base/philox.h"
#include "runtime/kernel/gemm.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADS = 7,
    KV_HEADS = 3,
    VOCAB = 70,
    LOGITS = 90,      /* of all ranks */
    FIRST_LOGIT = 11, /* of ours */
    TABLE_BLOCKS = 11,
    N_BLOCKS = 3 * TABLE_BLOCKS, /* of the cache */
    N_LAYERS = 2,
    MOST_ROWS = 41,
    MOST_VALUES = 64,
};

static const uint32_t kv_head[HEADS] = {0, 0, 0, 1, 1, 2, 2};

const uint32_t whole_speeds[MOST_THREADS] = {700, 1000, 90, 1000, 410};

const whole_step_t whole_steps[N_STEPS] = {
    {"1 row of 8", 8, 1, {300}, {1}},
    {"3 rows of 8", 8, 1, {126}, {3}},
    {"8 rows of 8", 8, 3, {40, 0, 130}, {4, 1, 3}},
    {"1 row of 41", 41, 1, {129}, {1}},
    {"41 rows of 41", 41, 3, {0}, {33, 1, 7}},
};

static void *take(size_t n_bytes)
{
    void *bytes = aligned_alloc(64, (n_bytes + 64) / 64 * 64);

    cr_assert_not_null(bytes);
    memset(bytes, 0xff, n_bytes);
    return bytes;
}

/* Where blocks have their halves, of which no random byte may make a NaN. */
static const struct {
    int n_halves;
    uint32_t at[2];
    float largest;
} halves[AG_N_DTYPES] = {
    [AG_Q8_0] = {1, {0}, 1.0f / 512},     [AG_Q4_0] = {1, {0}, 1.0f / 32},
    [AG_Q4_1] = {2, {0, 2}, 1.0f / 32},   [AG_Q5_0] = {1, {0}, 1.0f / 64},
    [AG_Q5_1] = {2, {0, 2}, 1.0f / 64},   [AG_Q4_K] = {2, {0, 2}, 1.0f / 8192},
    [AG_Q6_K] = {1, {208}, 1.0f / 32768}, [AG_F16] = {1, {0}, 0.25f},
    [AG_BF16] = {1, {0}, 0.25f},          [AG_F32] = {0, {0}, 0.25f},
};

/* Weights below 1 / 4 in the file's encoding. */
static unsigned char *random_rows(ag_dtype_t dtype, uint64_t n, uint64_t seed)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);
    unsigned char *bytes = take(ag_dtype_bytes(dtype, n));

    cr_assert_gt(halves[dtype].largest, 0, "say where %s has its scales", info->name);
    for (uint64_t i = 0; i < ag_dtype_bytes(dtype, n); i++) {
        bytes[i] = (unsigned char)(256 * ag_philox_uniform(seed, 1, i));
    }
    for (uint64_t i = 0; i < n / info->block_elements; i++) {
        unsigned char *block = bytes + i * info->block_bytes;
        float value = (float)(2 * ag_philox_uniform(seed, 0, i) - 1) * halves[dtype].largest;
        uint16_t half = dtype == AG_BF16 ? ag_f32_to_bf16(value) : ag_f32_to_f16(value);

        for (int j = 0; j < halves[dtype].n_halves; j++) {
            memcpy(block + halves[dtype].at[j], &half, sizeof(half));
        }
        if (dtype == AG_F32) {
            memcpy(block, &value, sizeof(value));
        }
    }
    return bytes;
}

static void make_param(ag_graph_param_t *param, ag_dtype_t dtype, ag_packing_t packing,
                       uint64_t rows, uint64_t cols, uint64_t seed)
{
    const ag_packing_info_t *info = ag_packing_info(packing);
    uint64_t group_bytes, row_bytes = ag_dtype_bytes(dtype, cols);
    unsigned char *bytes = random_rows(dtype, rows * cols, seed);

    *param = (ag_graph_param_t){
        .dtype = dtype, .packing = packing, .rows = rows, .cols = cols, .data = bytes};
    if (packing == AG_PACKING_ROWS) {
        return;
    }
    cr_assert(info->can(dtype, cols));
    group_bytes = info->group_bytes(dtype, cols);
    param->data = take(ag_packing_bytes(packing, dtype, rows, cols));
    for (uint64_t i = 0; i < rows; i += info->group_rows) {
        const unsigned char *group[AG_PACKING_MAX_ROWS] = {NULL};

        for (uint64_t r = 0; r < info->group_rows && i + r < rows; r++) {
            group[r] = bytes + (i + r) * row_bytes;
        }
        info->pack(dtype, group, cols,
                   (unsigned char *)param->data + i / info->group_rows * group_bytes);
    }
    free(bytes);
}

static size_t cache_elements(const whole_kind_t *kind)
{
    return (size_t)N_BLOCKS * 2 * KV_HEADS * AG_KV_BLOCK_TOKENS * kind->head;
}

void whole_init(whole_t *whole, const whole_kind_t *kind, bool with_gemm)
{
    ag_graph_param_t *p = whole->params;
    uint32_t hidden = kind->hidden, all = HEADS * kind->head, kv = KV_HEADS * kind->head;
    float *cache;

    *whole = (whole_t){.kind = kind};
    make_param(&p[EMBED], kind->most, kind->packing, VOCAB, hidden, 1);
    make_param(&p[NORM], AG_F32, AG_PACKING_ROWS, 1, hidden, 2);
    make_param(&p[NORM_BIAS], AG_F32, AG_PACKING_ROWS, 1, hidden, 3);
    make_param(&p[Q], kind->most, kind->packing, all, hidden, 4);
    make_param(&p[Q_BIAS], AG_F32, AG_PACKING_ROWS, 1, all, 5);
    make_param(&p[K], kind->others, kind->packing, kv, hidden, 6);
    make_param(&p[V], kind->most, kind->packing, kv, hidden, 7);
    make_param(&p[O], kind->of_o, kind->packing, hidden, all, 8);
    make_param(&p[GATE], kind->most, kind->packing, kind->ffn, hidden, 9);
    make_param(&p[UP], kind->others, kind->packing, kind->ffn, hidden, 10);
    make_param(&p[DOWN], kind->most, kind->packing, hidden, kind->ffn, 11);
    make_param(&p[ROUTER], kind->most, kind->packing, N_EXPERTS, hidden, 12);
    make_param(&p[SINKS], AG_F32, AG_PACKING_ROWS, 1, HEADS, 13);
    for (uint32_t e = 0; e < N_EXPERTS; e++) { /* gates, ups, downs */
        make_param(&p[EXPERTS + e], kind->most, kind->packing, kind->ffn, hidden, 20 + e);
        make_param(&p[EXPERTS + N_EXPERTS + e], kind->others, kind->packing, kind->ffn, hidden,
                   30 + e);
        make_param(&p[EXPERTS + 2 * N_EXPERTS + e], kind->most, kind->packing, hidden, kind->ffn,
                   40 + e);
    }
    whole->inverse_freq = take(kind->head / 2 * sizeof(float));
    for (uint32_t i = 0; i < kind->head / 2; i++) {
        whole->inverse_freq[i] = 1 / (1 + 9 * (float)i);
    }
    whole->cache = cache = take(cache_elements(kind) * sizeof(float));
    for (size_t i = 0; i < cache_elements(kind); i++) {
        cache[i] = (float)(2 * ag_philox_uniform(12, 0, i % 4099) - 1);
    }
    if (with_gemm) {
        cr_assert_eq(ag_gemm_cache_create(MOST_THREADS, &whole->gemm), AG_OK);
    }
}

void whole_fini(whole_t *whole)
{
    for (int i = 0; i < N_PARAMS; i++) {
        free((void *)whole->params[i].data);
    }
    free(whole->inverse_freq);
    free(whole->cache);
    ag_gemm_cache_destroy(whole->gemm);
}

/* Values get a buffer each, or are internal but for the hidden state and the logits. */
typedef struct builder {
    const whole_t *whole;
    ag_graph_t *graph;
    bool buffers;
    int32_t n_buffers;
} builder_t;

static int32_t value(builder_t *b, ag_counter_t counter, uint32_t width, bool is_seen)
{
    int32_t number = ag_graph_value(b->graph, counter, width,
                                    is_seen || b->buffers ? b->n_buffers++ : AG_INTERNAL);

    cr_assert_geq(number, 0);
    return number;
}

static void add(builder_t *b, ag_node_t node)
{
    cr_assert_eq(ag_graph_add(b->graph, &node, b->whole->params), AG_OK, "%s", ag_error());
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
                       .attr.norm = {.kind = kind, .eps = 1e-5f}});
}

static void rope(builder_t *b, int32_t x, int32_t angles, uint32_t n_heads)
{
    uint32_t head = b->whole->kind->head;

    add(b, (ag_node_t){.kind = AG_NODE_ROPE,
                       .in = {x, angles},
                       .out = x,
                       .attr.rope = {.n_heads = n_heads, .head_dim = head, .rotary = head}});
}

static void build_attention(builder_t *b, int32_t x, uint32_t layer)
{
    uint32_t head = b->whole->kind->head;
    int32_t a = value(b, AG_COUNT_TOKENS, b->whole->kind->hidden, false);
    int32_t q = value(b, AG_COUNT_TOKENS, HEADS * head, false);
    int32_t k = value(b, AG_COUNT_TOKENS, KV_HEADS * head, false);
    int32_t v = value(b, AG_COUNT_TOKENS, KV_HEADS * head, false);
    int32_t y = value(b, AG_COUNT_TOKENS, HEADS * head, false);
    int32_t angles = value(b, AG_COUNT_TOKENS, head, false);

    norm(b, AG_NORM_RMS, x, a);
    linear(b, a, q, Q, Q_BIAS);
    linear(b, a, k, K, AG_NO_PARAM);
    linear(b, a, v, V, AG_NO_PARAM);
    add(b, (ag_node_t){.kind = AG_NODE_ANGLES,
                       .in = {AG_NO_VALUE, AG_NO_VALUE},
                       .out = angles,
                       .attr.angles = {head, 1, b->whole->inverse_freq}});
    rope(b, q, angles, HEADS);
    rope(b, k, angles, KV_HEADS);
    add(b, (ag_node_t){.kind = AG_NODE_KV_APPEND,
                       .layer = layer,
                       .in = {k, v},
                       .out = AG_NO_VALUE,
                       .attr.kv = {KV_HEADS, head, 0}});
    add(b, (ag_node_t){.kind = AG_NODE_ATTENTION,
                       .layer = layer,
                       .in = {q, AG_NO_VALUE},
                       .out = y,
                       .weight = layer == 1 ? SINKS : AG_NO_PARAM,
                       .attr.attention = {{.n_heads = HEADS,
                                           .kv_head = kv_head,
                                           .scale = 0.25f,
                                           .window_tokens = layer == 1 ? 5 : 0,
                                           .score_cap = layer == 1 ? 0.8f : 0},
                                          .n_kv_heads = KV_HEADS,
                                          .head_dim = head}});
    linear(b, y, a, O, AG_NO_PARAM);
    add(b, (ag_node_t){.kind = AG_NODE_ADD, .in = {x, a}, .out = x});
}

static void build_ffn(builder_t *b, int32_t x)
{
    const whole_kind_t *kind = b->whole->kind;
    int32_t a = value(b, AG_COUNT_TOKENS, kind->hidden, false);
    int32_t gate = value(b, AG_COUNT_TOKENS, kind->ffn, false);
    int32_t up = value(b, AG_COUNT_TOKENS, kind->ffn, false);

    norm(b, AG_NORM_LAYER, x, a);
    linear(b, a, gate, GATE, AG_NO_PARAM);
    linear(b, a, up, UP, AG_NO_PARAM);
    add(b, (ag_node_t){
               .kind = AG_NODE_GLU, .in = {gate, up}, .out = gate, .attr.glu.act = AG_ACT_SILU});
    linear(b, gate, a, DOWN, AG_NO_PARAM);
    add(b, (ag_node_t){.kind = AG_NODE_ADD, .in = {x, a}, .out = x});
}

static int32_t grouped(builder_t *b, int32_t x, int32_t counts, int32_t y, int32_t weight)
{
    add(b, (ag_node_t){.kind = AG_NODE_GROUPED_LINEAR,
                       .in = {x, counts},
                       .out = y,
                       .weight = weight,
                       .bias = AG_NO_PARAM,
                       .attr.groups = {.n_groups = N_EXPERTS, .n_sources = 1}});
    return y;
}

/* Two of three experts for each row. */
static void build_experts(builder_t *b, int32_t x)
{
    static const uint32_t begin[N_EXPERTS + 1] = {0, 1, 2, 3}, where[N_EXPERTS] = {2, 0, 1};
    const whole_kind_t *kind = b->whole->kind;
    ag_places_t places = {.n_experts = 3,
                          .n_used = 2,
                          .n_places = 3,
                          .begin = begin,
                          .places = where,
                          .part_end = 1,
                          .n_parts = 1};
    int32_t a = value(b, AG_COUNT_TOKENS, kind->hidden, false);
    int32_t scores = value(b, AG_COUNT_TOKENS, N_EXPERTS, false);
    int32_t routes = value(b, AG_COUNT_TOKENS, ag_route_width(2), false);
    int32_t counts = value(b, AG_COUNT_ONE, N_EXPERTS, false);
    int32_t copies = value(b, AG_COUNT_SENT, kind->hidden, false);
    int32_t rows = value(b, AG_COUNT_SENT, kind->hidden, false);
    int32_t gate = value(b, AG_COUNT_SENT, kind->ffn, false);
    int32_t up = value(b, AG_COUNT_SENT, kind->ffn, false);

    norm(b, AG_NORM_RMS, x, a);
    linear(b, a, scores, ROUTER, AG_NO_PARAM);
    add(b, (ag_node_t){
               .kind = AG_NODE_ROUTE,
               .in = {scores},
               .out = routes,
               .bias = AG_NO_PARAM,
               .attr.route = {
                   {.n_experts = N_EXPERTS, .n_used = 2, .sums_to_1 = true, .scale = 1}, 0, 1, 1}});
    add(b, (ag_node_t){
               .kind = AG_NODE_COUNT_ROWS, .in = {routes}, .out = counts, .attr.places = places});
    add(b, (ag_node_t){
               .kind = AG_NODE_PERMUTE, .in = {a, routes}, .out = copies, .attr.places = places});
    add(b, (ag_node_t){.kind = AG_NODE_REGROUP,
                       .in = {copies, counts},
                       .out = rows,
                       .attr.groups = {.n_groups = N_EXPERTS, .n_sources = 1}});
    grouped(b, rows, counts, gate, EXPERTS);
    grouped(b, rows, counts, up, EXPERTS + N_EXPERTS);
    add(b, (ag_node_t){
               .kind = AG_NODE_GLU, .in = {gate, up}, .out = gate, .attr.glu.act = AG_ACT_SILU});
    grouped(b, gate, counts, copies, EXPERTS + 2 * N_EXPERTS);
    add(b, (ag_node_t){
               .kind = AG_NODE_COMBINE, .in = {copies, routes}, .out = a, .attr.places = places});
    add(b, (ag_node_t){.kind = AG_NODE_ADD, .in = {x, a}, .out = x});
}

static void build(builder_t *b)
{
    uint32_t hidden = b->whole->kind->hidden;
    int32_t x, all, last, mine;

    ag_graph_init(b->graph);
    x = value(b, AG_COUNT_TOKENS, hidden, true);
    all = value(b, AG_COUNT_OUTPUTS, LOGITS, true);
    add(b, (ag_node_t){.kind = AG_NODE_EMBED,
                       .in = {AG_NO_VALUE, AG_NO_VALUE},
                       .out = x,
                       .weight = EMBED,
                       .attr.embed = {.vocab_begin = 5, .scale = 1.5f}});
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        build_attention(b, x, layer);
        build_ffn(b, x);
        build_experts(b, x);
    }
    last = value(b, AG_COUNT_OUTPUTS, hidden, false);
    mine = value(b, AG_COUNT_OUTPUTS, VOCAB, false);
    add(b, (ag_node_t){.kind = AG_NODE_SELECT, .in = {x, AG_NO_VALUE}, .out = last});
    norm(b, AG_NORM_RMS, last, last);
    linear(b, last, mine, EMBED, AG_NO_PARAM);
    add(b, (ag_node_t){
               .kind = AG_NODE_SOFTCAP, .in = {mine, AG_NO_VALUE}, .out = mine, .attr.cap = 3});
    add(b, (ag_node_t){.kind = AG_NODE_COLUMNS,
                       .in = {mine, AG_NO_VALUE},
                       .out = all,
                       .attr.column_begin = FIRST_LOGIT});
}

static void find_bounds(const whole_step_t *step, uint64_t bounds[AG_N_COUNTERS])
{
    bounds[AG_COUNT_ONE] = 1;
    bounds[AG_COUNT_TOKENS] = step->bound;
    bounds[AG_COUNT_SENT] = 2 * step->bound;
    bounds[AG_COUNT_RECEIVED] = 0;
    bounds[AG_COUNT_OUTPUTS] = bounds[AG_COUNT_SEQUENCES] = 3;
}

void whole_compile(const whole_t *whole, const whole_run_t *run, ag_graph_t *graph)
{
    builder_t b = {.whole = whole, .graph = graph, .buffers = run->buffers};
    uint64_t bounds[AG_N_COUNTERS];

    find_bounds(run->step, bounds);
    build(&b);
    cr_assert_eq(ag_graph_compile(graph, bounds, whole->params, run->exact), AG_OK, "%s",
                 ag_error());
    if (run->without_barrier > 0) {
        AG_ITEMS(&graph->nodes, ag_node_t)[run->without_barrier].barrier_before = false;
    }
}

typedef struct step_data {
    ag_step_t step;
    int32_t tokens[MOST_ROWS], positions[MOST_ROWS], row_begin[4], outputs[3], tables[N_BLOCKS];
} step_data_t;

static void make_step(const whole_step_t *shape, step_data_t *data)
{
    int32_t row = 0;

    for (uint32_t s = 0; s < shape->n_sequences; s++) {
        data->row_begin[s] = row;
        for (uint32_t i = 0; i < shape->n_new[s]; i++, row++) {
            data->tokens[row] = row * 7 % 80 + 3; /* some that another rank holds */
            data->positions[row] = (int32_t)(shape->n_past[s] + i);
        }
        data->outputs[s] = row - 1;
    }
    data->row_begin[shape->n_sequences] = row;
    for (int32_t i = 0; i < N_BLOCKS; i++) {
        data->tables[i] = (7 * i + 5) % N_BLOCKS;
    }
    data->step = (ag_step_t){.counts = {1, (uint64_t)row, shape->n_sequences, shape->n_sequences},
                             .tokens = data->tokens,
                             .positions = data->positions,
                             .row_begin = data->row_begin,
                             .outputs = data->outputs,
                             .block_tables = data->tables,
                             .table_stride = TABLE_BLOCKS};
}

static uint64_t place_buffers(const ag_graph_t *graph, const whole_step_t *step,
                              uint64_t offsets[MOST_VALUES])
{
    uint64_t end = 0, bounds[AG_N_COUNTERS];

    find_bounds(step, bounds);
    for (size_t i = 0; i < graph->values.n_items; i++) {
        const ag_value_t *v = &AG_ITEMS(&graph->values, ag_value_t)[i];

        if (v->buffer != AG_INTERNAL) {
            cr_assert_lt(v->buffer, MOST_VALUES);
            offsets[v->buffer] = end;
            end += (bounds[v->counter] * v->width * sizeof(float) + 63) / 64 * 64;
        }
    }
    return end;
}

static ag_kv_t make_kv(const whole_t *whole, bool exact)
{
    ag_dtype_t dtype = exact ? AG_F32 : AG_F16;
    size_t n = cache_elements(whole->kind);
    ag_kv_t kv = {.dtype = dtype,
                  .n_kv_heads = KV_HEADS,
                  .head_dim = whole->kind->head,
                  .block_tokens = AG_KV_BLOCK_TOKENS};

    kv.blocks = take(ag_dtype_bytes(dtype, n));
    for (size_t i = 0; i < n && !exact; i++) {
        ((uint16_t *)kv.blocks)[i] = ag_f32_to_f16(((const float *)whole->cache)[i]);
    }
    if (exact) {
        memcpy(kv.blocks, whole->cache, n * sizeof(float));
    }
    return kv;
}

static void run_team(const whole_run_t *run, ag_graph_run_t *graph_run)
{
    ag_team_t *team = NULL;

    cr_assert_eq(
        ag_team_create(
            &(ag_team_opts_t){.n_threads = run->n_threads, .spin_us = 1, .speeds = run->speeds},
            &team),
        AG_OK);
    if (run->region == NULL) { /* else nobody takes another's work, or turns would show nothing */
        ag_graph_begin(graph_run, run->n_threads);
    }
    ag_team_run(team, run->region != NULL ? run->region : ag_graph_region, graph_run);
    ag_team_destroy(team);
}

float *whole_results(const whole_t *whole, const whole_run_t *run, size_t *n_p)
{
    uint64_t offsets[MOST_VALUES] = {0}, end;
    size_t n_hidden, n_logits;
    ag_kv_t kv[N_LAYERS];
    ag_graph_t graph;
    ag_graph_run_t graph_run;
    step_data_t data;
    float *both;

    make_step(run->step, &data);
    whole_compile(whole, run, &graph);
    end = place_buffers(&graph, run->step, offsets);
    for (int i = 0; i < N_LAYERS; i++) {
        kv[i] = make_kv(whole, run->exact);
    }
    graph_run =
        (ag_graph_run_t){.graph = &graph,
                         .step = &data.step,
                         .params = whole->params,
                         .kv = kv,
                         .memory = take(end + graph.scratch_bytes),
                         .offsets = offsets,
                         .scratch_offset = end,
                         .thread_scratch = take(run->n_threads * graph.thread_scratch_bytes),
                         .thread_scratch_stride = graph.thread_scratch_bytes,
                         .n_sent = 2 * data.step.counts[AG_COUNT_TOKENS],
                         .gemm = whole->gemm,
                         .isa = run->isa};
    n_hidden = data.step.counts[AG_COUNT_TOKENS] * whole->kind->hidden;
    n_logits = data.step.counts[AG_COUNT_OUTPUTS] * LOGITS;
    memset(graph_run.memory + offsets[1], 0, n_logits * sizeof(float)); /* columns of others */
    run_team(run, &graph_run);
    both = take((n_hidden + n_logits) * sizeof(float));
    memcpy(both, graph_run.memory + offsets[0], n_hidden * sizeof(float));
    memcpy(both + n_hidden, graph_run.memory + offsets[1], n_logits * sizeof(float));
    *n_p = n_hidden + n_logits;
    free(graph_run.memory);
    free(graph_run.thread_scratch);
    for (int i = 0; i < N_LAYERS; i++) {
        free(kv[i].blocks);
    }
    ag_graph_fini(&graph);
    return both;
}

bool whole_is_ours(const whole_t *whole, const whole_step_t *step, size_t at)
{
    size_t n_hidden = 0;

    for (uint32_t s = 0; s < step->n_sequences; s++) {
        n_hidden += (size_t)step->n_new[s] * whole->kind->hidden;
    }
    return at < n_hidden || ((at - n_hidden) % LOGITS >= FIRST_LOGIT &&
                             (at - n_hidden) % LOGITS < FIRST_LOGIT + VOCAB);
}
