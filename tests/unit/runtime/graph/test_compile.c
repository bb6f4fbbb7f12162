/* Places in scratch and barriers, on graphs by hand and on random ones. */
#include "runtime/graph/graph_priv.h"

#include "runtime/base/philox.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint64_t bounds[AG_N_COUNTERS] = {1, 40, 8, 4};

static int32_t internal(ag_graph_t *graph, uint32_t width)
{
    int32_t value = ag_graph_value(graph, AG_COUNT_TOKENS, width, AG_INTERNAL);

    cr_assert_geq(value, 0);
    return value;
}

static void add(ag_graph_t *graph, ag_node_t node, const ag_graph_param_t *params)
{
    cr_assert_eq(ag_graph_add(graph, &node, params), AG_OK, "%s", ag_error());
}

static void add_linear(ag_graph_t *graph, int32_t in, int32_t out, int32_t weight,
                       const ag_graph_param_t *params)
{
    add(graph,
        (ag_node_t){.kind = AG_NODE_LINEAR,
                    .in = {in, AG_NO_VALUE},
                    .out = out,
                    .weight = weight,
                    .bias = AG_NO_PARAM},
        params);
}

static void add_sum(ag_graph_t *graph, int32_t a, int32_t b, int32_t out)
{
    add(graph, (ag_node_t){.kind = AG_NODE_ADD, .in = {a, b}, .out = out}, NULL);
}

static const ag_node_t *node_at(const ag_graph_t *graph, size_t i)
{
    return &AG_ITEMS(&graph->nodes, ag_node_t)[i];
}

static const ag_value_t *value_at(const ag_graph_t *graph, int32_t i)
{
    return &AG_ITEMS(&graph->values, ag_value_t)[i];
}

/* The barriers as text: "." for a node without one before it, "|" for one with. */
static const char *barriers(const ag_graph_t *graph, char *text)
{
    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        text[i] = node_at(graph, i)->barrier_before ? '|' : '.';
    }
    text[graph->nodes.n_items] = '\0';
    return text;
}

static void compile(ag_graph_t *graph, const ag_graph_param_t *params)
{
    cr_assert_eq(ag_graph_compile(graph, bounds, params, false), AG_OK, "%s", ag_error());
}

Test(compile, a_block_has_barriers_where_threads_meet_and_nowhere_else)
{
    const ag_graph_param_t params[] = {{.dtype = AG_F32, .rows = 16, .cols = 16},
                                       {.dtype = AG_F32, .rows = 8, .cols = 16}};
    const ag_rope_t q_rope = {.n_heads = 4, .head_dim = 4, .rotary = 4};
    const ag_rope_t k_rope = {.n_heads = 2, .head_dim = 4, .rotary = 4};
    ag_graph_t graph;
    char text[16];
    int32_t x, q, k, v, y, z, angles;

    ag_graph_init(&graph);
    x = ag_graph_value(&graph, AG_COUNT_TOKENS, 16, 3);
    q = internal(&graph, 16);
    k = internal(&graph, 8);
    v = internal(&graph, 8);
    y = internal(&graph, 16);
    z = internal(&graph, 16);
    angles = internal(&graph, 4);
    add(&graph,
        (ag_node_t){
            .kind = AG_NODE_ANGLES, .in = {-1, -1}, .out = angles, .attr.angles = {4, 1, NULL}},
        params);
    add_linear(&graph, x, q, 0, params);
    add_linear(&graph, x, k, 1, params);
    add_linear(&graph, x, v, 1, params);
    add(&graph, (ag_node_t){.kind = AG_NODE_ROPE, .in = {q, angles}, .out = q, .attr.rope = q_rope},
        params);
    add(&graph, (ag_node_t){.kind = AG_NODE_ROPE, .in = {k, angles}, .out = k, .attr.rope = k_rope},
        params);
    add(&graph,
        (ag_node_t){
            .kind = AG_NODE_KV_APPEND, .in = {k, v}, .out = AG_NO_VALUE, .attr.kv = {2, 4, 0}},
        params);
    add(&graph,
        (ag_node_t){.kind = AG_NODE_ATTENTION,
                    .weight = AG_NO_PARAM,
                    .in = {q, -1},
                    .out = y,
                    .attr.attention = {{.n_heads = 4}, 2, 4, 0, 0}},
        params);
    add_linear(&graph, y, z, 0, params);
    add_sum(&graph, x, z, x);
    compile(&graph, params);
    /* angles q k v | rope rope append, each thread its tokens | attention | linear | add
     */
    cr_expect_str_eq(barriers(&graph, text), "....|..|||");
    ag_graph_fini(&graph);
}

/* The kinds of nodes as text. */
static const char *kinds(const ag_graph_t *graph, char *text)
{
    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        text[i] = ag_node_name(node_at(graph, i)->kind)[0];
    }
    text[graph->nodes.n_items] = '\0';
    return text;
}

Test(compile, layers_of_one_input_share_its_prepared_rows_where_they_are_many)
{
    const uint64_t few[AG_N_COUNTERS] = {1, 8, 8, 4};
    const ag_graph_param_t packed = {
        .dtype = AG_Q4_0, .packing = AG_PACKING_R16, .rows = 32, .cols = 32};
    ag_graph_param_t params[] = {packed, packed, packed};
    ag_graph_t graph;
    int32_t x, y, z;
    char text[16];

    params[1].dtype = AG_Q6_K;
    params[2] = (ag_graph_param_t){.dtype = AG_F32, .rows = 32, .cols = 32};
    ag_graph_init(&graph);
    x = internal(&graph, 32);
    y = internal(&graph, 32);
    z = internal(&graph, 32);
    add_linear(&graph, x, y, 0, params);
    add_linear(&graph, x, z, 0, params); /* the same rows */
    add_linear(&graph, x, z, 1, params); /* in another form */
    add_linear(&graph, x, z, 2, params); /* as they are */
    add_sum(&graph, y, z, x);
    add_linear(&graph, x, y, 0, params); /* of another input */
    compile(&graph, params);
    cr_expect_str_eq(kinds(&graph, text), "PLLPLLAPL");
    /* the second form takes the place of the first */
    cr_expect_str_eq(barriers(&graph, text), ".|.||||||");
    cr_expect_eq(node_at(&graph, 1)->in[1], node_at(&graph, 0)->out);
    cr_expect_eq(node_at(&graph, 2)->in[1], node_at(&graph, 0)->out);
    cr_expect_eq(node_at(&graph, 4)->in[1], node_at(&graph, 3)->out);
    cr_expect_eq(node_at(&graph, 5)->in[1], AG_NO_VALUE);
    cr_assert_eq(ag_graph_compile(&graph, few, params, false), AG_OK);
    cr_expect_str_eq(kinds(&graph, text), "LLLLAL", "a few rows each thread prepares itself");
    cr_expect_eq(graph.values.n_items, 3);
    cr_expect_eq(node_at(&graph, 0)->in[1], AG_NO_VALUE);
    cr_assert_eq(ag_graph_compile(&graph, bounds, params, true), AG_OK);
    cr_expect_str_eq(kinds(&graph, text), "LLLLAL", "exact products are of the rows themselves");
    ag_graph_fini(&graph);
}

Test(compile, few_rows_are_normed_by_each_thread_for_itself)
{
    const uint64_t few[AG_N_COUNTERS] = {1, 8, 8, 4};
    const ag_graph_param_t params[] = {
        {.dtype = AG_F32, .rows = 1, .cols = 32},
        {.dtype = AG_Q4_0, .packing = AG_PACKING_R16, .rows = 32, .cols = 32}};
    ag_graph_t graph;
    int32_t x, normed, gate, up;
    char text[16];

    ag_graph_init(&graph);
    x = ag_graph_value(&graph, AG_COUNT_TOKENS, 32, 3);
    normed = internal(&graph, 32);
    gate = internal(&graph, 32);
    up = internal(&graph, 32);
    add_sum(&graph, x, x, x);
    add(&graph, (ag_node_t){.kind = AG_NODE_NORM, .in = {x, -1}, .out = normed, .bias = -1},
        params);
    add_linear(&graph, normed, gate, 1, params);
    add_linear(&graph, normed, up, 1, params);
    add(&graph, (ag_node_t){.kind = AG_NODE_GLU, .in = {gate, up}, .out = gate}, params);
    add_linear(&graph, gate, up, 1, params);
    add_sum(&graph, x, up, x);
    cr_assert_eq(ag_graph_compile(&graph, few, params, false), AG_OK);
    /* add | norm gate up glu | down add; the norm reads all of x */
    cr_expect_str_eq(kinds(&graph, text), "ANLLGLA");
    cr_expect_str_eq(barriers(&graph, text), ".|...|.");
    cr_expect(value_at(&graph, normed)->is_own);
    cr_expect_eq(graph.thread_scratch_bytes, graph.own_offset_bytes + 8 * 32 * sizeof(float));
    compile(&graph, params);
    cr_expect_not(value_at(&graph, normed)->is_own, "of many rows each thread norms some");
    cr_expect_str_eq(kinds(&graph, text), "ANPLLGPLA");
    cr_expect_str_eq(barriers(&graph, text), "..||.||||");
    ag_graph_fini(&graph);
}

Test(compile, what_others_than_layers_read_is_normed_once)
{
    const uint64_t few[AG_N_COUNTERS] = {1, 8, 8, 4};
    const ag_graph_param_t params[] = {{.dtype = AG_F32, .rows = 1, .cols = 32}};
    ag_graph_t graph;
    int32_t x, normed, sum;

    ag_graph_init(&graph);
    x = ag_graph_value(&graph, AG_COUNT_TOKENS, 32, 3);
    normed = internal(&graph, 32);
    sum = internal(&graph, 32);
    add(&graph, (ag_node_t){.kind = AG_NODE_NORM, .in = {x, -1}, .out = normed, .bias = -1},
        params);
    add_sum(&graph, normed, normed, sum);
    cr_assert_eq(ag_graph_compile(&graph, few, params, false), AG_OK);
    cr_expect_not(value_at(&graph, normed)->is_own);
    cr_expect_not(node_at(&graph, 1)->barrier_before, "each thread adds the rows that it normed");
    ag_graph_fini(&graph);
}

Test(compile, a_sum_behind_a_layer_takes_the_columns_that_the_layer_took)
{
    const uint64_t few[AG_N_COUNTERS] = {1, 8, 8, 4};
    /* packed weights go by 16 columns, others by 64 */
    const ag_graph_param_t params[] = {
        {.dtype = AG_Q4_0, .packing = AG_PACKING_R16, .rows = 128, .cols = 128},
        {.dtype = AG_F32, .rows = 128, .cols = 128}};
    ag_graph_t graph;
    int32_t x, y, z, w;
    char text[16];

    ag_graph_init(&graph);
    x = internal(&graph, 128);
    w = internal(&graph, 128);
    y = internal(&graph, 128);
    z = internal(&graph, 128);
    add_linear(&graph, x, y, 1, params);
    add_sum(&graph, z, y, z); /* 64 */
    add_linear(&graph, x, w, 0, params);
    add_sum(&graph, z, z, z); /* as the sum of 64 left it */
    add_sum(&graph, z, w, z); /* 16: other columns of z */
    cr_assert_eq(ag_graph_compile(&graph, few, params, false), AG_OK);
    cr_expect_str_eq(kinds(&graph, text), "LALAA");
    cr_expect_str_eq(barriers(&graph, text), "..|.|");
    cr_expect_eq(node_at(&graph, 1)->grain, 64);
    cr_expect_eq(node_at(&graph, 3)->grain, 64);
    cr_expect_eq(node_at(&graph, 4)->grain, 16);
    compile(&graph, params);
    cr_expect_eq(node_at(&graph, 4)->grain, 0, "of many rows each thread takes some");
    ag_graph_fini(&graph);
}

Test(compile, attention_of_few_rows_is_cut_by_positions_and_put_together_again_for_many)
{
    const uint64_t few[AG_N_COUNTERS] = {1, 8, 8, 4};
    ag_graph_t graph;
    int32_t q, y;

    ag_graph_init(&graph);
    q = internal(&graph, 8);
    y = internal(&graph, 8);
    add(&graph,
        (ag_node_t){.kind = AG_NODE_ATTENTION,
                    .weight = AG_NO_PARAM,
                    .layer = 3,
                    .in = {q, -1},
                    .out = y,
                    .attr.attention = {{.n_heads = 2}, 2, 4, 0, 0}},
        NULL);
    add_sum(&graph, q, y, q);
    for (int i = 0; i < 2; i++) { /* each from what the other has left */
        cr_assert_eq(ag_graph_compile(&graph, few, NULL, false), AG_OK);
        cr_assert_eq(graph.nodes.n_items, 3);
        cr_expect_eq(node_at(&graph, 0)->kind, AG_NODE_ATTENTION_PARTS);
        cr_expect_eq(node_at(&graph, 1)->kind, AG_NODE_ATTENTION_MERGE);
        cr_expect_eq(node_at(&graph, 0)->in[0], q);
        cr_expect_eq(node_at(&graph, 1)->in[0], node_at(&graph, 0)->out);
        cr_expect_eq(node_at(&graph, 1)->out, y);
        cr_expect_eq(value_at(&graph, node_at(&graph, 0)->out)->width,
                     ag_attention_parts_width(&node_at(&graph, 0)->attr.attention.args, 4));
        cr_expect_eq(node_at(&graph, 1)->layer, 3);
        compile(&graph, NULL);
        cr_assert_eq(graph.nodes.n_items, 2);
        cr_expect_eq(graph.values.n_items, 2);
        cr_expect_eq(node_at(&graph, 0)->kind, AG_NODE_ATTENTION);
        cr_expect_eq(node_at(&graph, 0)->in[0], q);
        cr_expect_eq(node_at(&graph, 0)->out, y);
    }
    ag_graph_fini(&graph);
}

Test(compile, caches_of_different_layers_need_no_barrier_between_them)
{
    for (uint32_t layer = 0; layer < 2; layer++) {
        ag_graph_t graph;
        int32_t k, q, y;

        ag_graph_init(&graph);
        k = ag_graph_value(&graph, AG_COUNT_TOKENS, 8, 0);
        q = ag_graph_value(&graph, AG_COUNT_TOKENS, 8, 1);
        y = ag_graph_value(&graph, AG_COUNT_TOKENS, 8, 2);
        add(&graph,
            (ag_node_t){
                .kind = AG_NODE_KV_APPEND, .in = {k, k}, .out = AG_NO_VALUE, .attr.kv = {2, 4, 0}},
            NULL);
        add(&graph,
            (ag_node_t){.kind = AG_NODE_ATTENTION,
                        .weight = AG_NO_PARAM,
                        .layer = layer,
                        .in = {q, -1},
                        .out = y,
                        .attr.attention = {{.n_heads = 2}, 2, 4, 0, 0}},
            NULL);
        compile(&graph, NULL);
        cr_expect_eq(node_at(&graph, 1)->barrier_before, layer == 0, "layer %u", layer);
        ag_graph_fini(&graph);
    }
}

Test(compile, a_chain_uses_two_places_in_turn)
{
    const uint64_t bytes = 40 * 16 * sizeof(float);
    ag_graph_t graph;
    int32_t last;

    ag_graph_init(&graph);
    last = ag_graph_value(&graph, AG_COUNT_TOKENS, 16, 0);
    for (int i = 0; i < 10; i++) {
        int32_t next = internal(&graph, 16);

        add_sum(&graph, last, last, next);
        last = next;
    }
    compile(&graph, NULL);
    cr_expect_eq(graph.scratch_bytes, 2 * bytes);
    ag_graph_fini(&graph);
}

Test(compile, an_empty_graph_needs_nothing)
{
    ag_graph_t graph;

    ag_graph_init(&graph);
    compile(&graph, NULL);
    cr_expect_eq(graph.scratch_bytes, 0);
    cr_expect_eq(graph.thread_scratch_bytes, 0);
    ag_graph_fini(&graph);
}

/* Random graphs of additions over few values. */

enum { N_WIDTHS = 6, N_VALUES = 5 * N_WIDTHS, N_NODES = 40 };
static const uint32_t widths[N_WIDTHS] = {5, 16, 21, 60, 77, 100};

static uint64_t random_below(uint64_t seed, uint64_t index, uint64_t n)
{
    return (uint64_t)(ag_philox_uniform(seed, 0, index) * (double)n);
}

static void make_random(ag_graph_t *graph, uint64_t seed)
{
    int32_t values[N_VALUES];

    ag_graph_init(graph);
    for (int i = 0; i < N_VALUES; i++) { /* one of each width is a buffer */
        values[i] = ag_graph_value(graph, AG_COUNT_TOKENS, widths[i % N_WIDTHS],
                                   i < N_WIDTHS ? i : AG_INTERNAL);
    }
    for (uint64_t i = 0; i < N_NODES; i++) {
        uint64_t width = random_below(seed, 4 * i, N_WIDTHS);
        int32_t of_width[3];

        for (uint64_t j = 0; j < 3; j++) {
            of_width[j] =
                values[width + N_WIDTHS * random_below(seed, 4 * i + 1 + j, N_VALUES / N_WIDTHS)];
        }
        add_sum(graph, of_width[0], of_width[1], of_width[2]);
    }
}

/* The bytes of scratch that a value occupies; none for a buffer. */
static void span_of(const ag_graph_t *graph, int32_t value, uint64_t *begin_p, uint64_t *end_p)
{
    const ag_value_t *v = value_at(graph, value);

    *begin_p = v->offset_bytes;
    *end_p = v->offset_bytes +
             (v->buffer == AG_INTERNAL ? bounds[v->counter] * v->width * sizeof(float) : 0);
}

static bool overlap(const ag_graph_t *graph, int32_t a, int32_t b)
{
    uint64_t a_begin, a_end, b_begin, b_end;

    span_of(graph, a, &a_begin, &a_end);
    span_of(graph, b, &b_begin, &b_end);
    return a == b || (a_begin < b_end && b_begin < a_end);
}

static bool touches(const ag_node_t *node, int32_t value)
{
    return node->in[0] == value || node->in[1] == value || node->out == value;
}

/* The first and last node that touch a value; false: none does. */
static bool life_of(const ag_graph_t *graph, int32_t value, size_t *first_p, size_t *last_p)
{
    bool alive = false;

    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        if (touches(node_at(graph, i), value)) {
            *first_p = alive ? *first_p : i;
            *last_p = i;
            alive = true;
        }
    }
    return alive;
}

/* May a thread meet in b's value what another left in a's? */
static bool meet(const ag_graph_t *graph, const ag_node_t *a, int32_t a_value, const ag_node_t *b,
                 int32_t b_value)
{
    (void)a;
    (void)b;
    /* additions all take the same columns of a value */
    return overlap(graph, a_value, b_value) && a_value != b_value;
}

static bool conflict(const ag_graph_t *graph, const ag_node_t *a, const ag_node_t *b)
{
    for (int i = 0; i < 2; i++) { /* what an addition has */
        if (meet(graph, a, a->out, b, b->in[i]) || meet(graph, a, a->in[i], b, b->out)) {
            return true;
        }
    }
    return meet(graph, a, a->out, b, b->out);
}

Test(compile, values_that_are_alive_together_are_apart_in_scratch)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        ag_graph_t graph;

        make_random(&graph, seed);
        compile(&graph, NULL);
        for (int32_t a = N_WIDTHS; a < N_VALUES; a++) {
            size_t a_first = 0, a_last = 0, b_first = 0, b_last = 0;
            uint64_t begin, end;

            span_of(&graph, a, &begin, &end);
            cr_expect_eq(begin % 64, 0);
            cr_expect_leq(end, graph.scratch_bytes);
            for (int32_t b = N_WIDTHS; b < a; b++) {
                if (life_of(&graph, a, &a_first, &a_last) &&
                    life_of(&graph, b, &b_first, &b_last) && a_first <= b_last &&
                    b_first <= a_last) {
                    cr_assert_not(overlap(&graph, a, b), "graph %u, values %d and %d",
                                  (unsigned)seed, a, b);
                }
            }
        }
        ag_graph_fini(&graph);
    }
}

Test(compile, nodes_in_conflict_have_a_barrier_between_them_and_no_barrier_is_idle)
{
    for (uint64_t seed = 0; seed < 200; seed++) {
        ag_graph_t graph;
        size_t begin = 0; /* the node behind the last barrier */

        make_random(&graph, seed);
        compile(&graph, NULL);
        cr_expect_not(node_at(&graph, 0)->barrier_before);
        for (size_t i = 1; i < graph.nodes.n_items; i++) {
            bool needed = false;

            for (size_t j = begin; j < i; j++) {
                needed |= conflict(&graph, node_at(&graph, j), node_at(&graph, i));
            }
            cr_assert_eq(node_at(&graph, i)->barrier_before, needed, "graph %u, node %zu",
                         (unsigned)seed, i);
            begin = needed ? i : begin;
        }
        ag_graph_fini(&graph);
    }
}

Test(compile, a_graph_may_be_compiled_again_for_other_bounds)
{
    const uint64_t more[AG_N_COUNTERS] = {1, 400, 80, 40};
    ag_graph_t graph, once;

    make_random(&graph, 7);
    make_random(&once, 7);
    compile(&graph, NULL);
    cr_assert_eq(ag_graph_compile(&graph, more, NULL, false), AG_OK);
    cr_assert_eq(ag_graph_compile(&once, more, NULL, false), AG_OK);
    cr_expect_eq(graph.scratch_bytes, once.scratch_bytes);
    for (int32_t i = 0; i < N_VALUES; i++) {
        cr_expect_eq(value_at(&graph, i)->offset_bytes, value_at(&once, i)->offset_bytes);
    }
    ag_graph_fini(&graph);
    ag_graph_fini(&once);
}
