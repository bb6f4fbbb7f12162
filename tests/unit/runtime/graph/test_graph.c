/* Shapes that fit and those that do not, joining, cost. */
#include "runtime/graph/graph_priv.h"

#include <criterion/criterion.h>
#include <string.h>

enum { WIDE = 16, NARROW = 8, SINKS = 3 };

typedef struct values {
    ag_graph_t graph;
    int32_t wide, narrow, wide_outputs;
} values_t;

static const ag_graph_param_t params[] = {
    {.dtype = AG_F32, .rows = NARROW, .cols = WIDE}, /* 0: a matrix */
    {.dtype = AG_F32, .rows = 1, .cols = WIDE},      /* 1: a vector */
    {.dtype = AG_F32, .rows = 1, .cols = NARROW},    /* 2: a vector */
    {.dtype = AG_F32, .rows = 1, .cols = 4},         /* SINKS */
};

static values_t make_values(void)
{
    values_t v;

    ag_graph_init(&v.graph);
    v.wide = ag_graph_value(&v.graph, AG_COUNT_TOKENS, WIDE, AG_INTERNAL);
    v.narrow = ag_graph_value(&v.graph, AG_COUNT_TOKENS, NARROW, AG_INTERNAL);
    v.wide_outputs = ag_graph_value(&v.graph, AG_COUNT_OUTPUTS, WIDE, AG_INTERNAL);
    return v;
}

Test(graph, what_is_made_again_for_gradients_is_a_nodes_only_output)
{
    for (int kind = 0; kind < AG_N_NODE_KINDS; kind++) {
        const ag_node_ops_t *ops = &ag_node_ops[kind];

        cr_expect(!ops->is_cheap || (ops->makes_value && ops->n_more == 0), "%s", ops->name);
    }
}

/* value numbers: 0 wide, 1 narrow, 2 wide_outputs, by the order of making */
typedef struct fit_case {
    const char *what;
    ag_node_t node;
    bool fits;
} fit_case_t;

#define NODE(KIND, IN0, IN1, OUT, WEIGHT, BIAS, ...)                                               \
    {                                                                                              \
        .kind = AG_NODE_##KIND, .in = {IN0, IN1}, .out = OUT, .weight = WEIGHT, .bias = BIAS,      \
        __VA_ARGS__                                                                                \
    }

static const fit_case_t cases[] = {
    {"linear", NODE(LINEAR, 0, -1, 1, 0, 2, .layer = 5), true},
    {"linear without bias", NODE(LINEAR, 0, -1, 1, 0, -1, .layer = 5), true},
    {"linear from too narrow a value", NODE(LINEAR, 1, -1, 1, 0, 2, .layer = 5), false},
    {"linear to too wide a value", NODE(LINEAR, 0, -1, 0, 0, 2, .layer = 5), false},
    {"linear with another's bias", NODE(LINEAR, 0, -1, 1, 0, 1, .layer = 5), false},
    {"linear from no value", NODE(LINEAR, -1, -1, 1, 0, 2, .layer = 5), false},
    {"linear from a value beyond the last", NODE(LINEAR, 99, -1, 1, 0, 2, .layer = 5), false},
    {"linear to no value", NODE(LINEAR, 0, -1, -1, 0, 2, .layer = 5), false},
    {"embed", NODE(EMBED, -1, -1, 0, 0, -1, .layer = 5), true},
    {"embed to too narrow a value", NODE(EMBED, -1, -1, 1, 0, -1, .layer = 5), false},
    {"norm", NODE(NORM, 0, -1, 0, 1, -1, .layer = 5), true},
    {"norm with another's weight", NODE(NORM, 0, -1, 0, 2, -1, .layer = 5), false},
    {"norm with another's bias", NODE(NORM, 0, -1, 0, 1, 2, .layer = 5), false},
    {"norm to another width", NODE(NORM, 0, -1, 1, 1, -1, .layer = 5), false},
    {"angles", NODE(ANGLES, -1, -1, 1, -1, -1, .attr.angles = {NARROW, 1, NULL}), true},
    {"angles of another width",
     NODE(ANGLES, -1, -1, 0, -1, -1, .layer = 5, .attr.angles = {NARROW, 1, NULL}), false},
    {"angles of outputs",
     NODE(ANGLES, -1, -1, 2, -1, -1, .layer = 5, .attr.angles = {WIDE, 1, NULL}), false},
    {"rope",
     NODE(ROPE, 0, 1, 0, -1, -1, .layer = 5,
          .attr.rope = {.n_heads = 2, .head_dim = NARROW, .rotary = NARROW}),
     true},
    {"rope of leading heads",
     NODE(ROPE, 0, 1, 0, -1, -1, .attr.rope = {.n_heads = 1, .head_dim = NARROW, .rotary = NARROW}),
     true},
    {"rope of more heads",
     NODE(ROPE, 0, 1, 0, -1, -1, .layer = 5,
          .attr.rope = {.n_heads = 3, .head_dim = NARROW, .rotary = NARROW}),
     false},
    {"rope elsewhere",
     NODE(ROPE, 0, 1, 2, -1, -1, .layer = 5,
          .attr.rope = {.n_heads = 2, .head_dim = NARROW, .rotary = NARROW}),
     false},
    {"rope by other angles",
     NODE(ROPE, 0, 1, 0, -1, -1, .layer = 5,
          .attr.rope = {.n_heads = 2, .head_dim = NARROW, .rotary = NARROW / 2}),
     false},
    {"append", NODE(KV_APPEND, 1, 1, -1, -1, -1, .layer = 5, .attr.kv = {2, 4, 0}), true},
    {"append of wide keys", NODE(KV_APPEND, 0, 1, -1, -1, -1, .layer = 5, .attr.kv = {2, 4, 0}),
     false},
    {"append of wide values", NODE(KV_APPEND, 1, 0, -1, -1, -1, .layer = 5, .attr.kv = {2, 4, 0}),
     false},
    {"attention",
     NODE(ATTENTION, 0, -1, 0, -1, -1, .layer = 5, .attr.attention = {{.n_heads = 4}, 2, 4, 0, 0}),
     true},
    {"attention with sinks",
     NODE(ATTENTION, 0, -1, 0, SINKS, -1, .layer = 5,
          .attr.attention = {{.n_heads = 4}, 2, 4, 0, 0}),
     true},
    {"attention with other heads' sinks",
     NODE(ATTENTION, 0, -1, 0, 0, -1, .layer = 5, .attr.attention = {{.n_heads = 4}, 2, 4, 0, 0}),
     false},
    {"append of keys that hold values",
     NODE(KV_APPEND, 0, 1, -1, -1, -1, .layer = 5, .attr.kv = {1, 24, 16}), true},
    {"append of too much beside values",
     NODE(KV_APPEND, 0, 1, -1, -1, -1, .layer = 5, .attr.kv = {1, 20, 16}), false},
    {"attention over keys that hold values",
     NODE(ATTENTION, 0, -1, 1, -1, -1, .layer = 5, .attr.attention = {{.n_heads = 4}, 1, 4, 2, 0}),
     true},
    {"attention to whole keys",
     NODE(ATTENTION, 0, -1, 0, -1, -1, .layer = 5, .attr.attention = {{.n_heads = 4}, 1, 4, 2, 0}),
     false},
    {"layers of heads", NODE(HEAD_LINEAR, 0, -1, 1, 0, -1, .layer = 5, .attr.groups.n_groups = 1),
     true},
    {"layers of unlike heads",
     NODE(HEAD_LINEAR, 0, -1, 1, 0, -1, .layer = 5, .attr.groups.n_groups = 2), false},
    {"layers of no heads",
     NODE(HEAD_LINEAR, 0, -1, 1, 0, -1, .layer = 5, .attr.groups.n_groups = 0), false},
    {"softcap", NODE(SOFTCAP, 0, -1, 0, -1, -1, .layer = 5, .attr.cap = 3), true},
    {"softcap to another width", NODE(SOFTCAP, 0, -1, 1, -1, -1, .layer = 5, .attr.cap = 3), false},
    {"attention of more heads",
     NODE(ATTENTION, 0, -1, 0, -1, -1, .layer = 5, .attr.attention = {{.n_heads = 5}, 2, 4, 0, 0}),
     false},
    {"attention to another width",
     NODE(ATTENTION, 0, -1, 1, -1, -1, .layer = 5, .attr.attention = {{.n_heads = 4}, 2, 4, 0, 0}),
     false},
    {"glu", NODE(GLU, 0, 0, 0, -1, -1, .layer = 5), true},
    {"glu of different widths", NODE(GLU, 0, 1, 0, -1, -1, .layer = 5), false},
    {"add", NODE(ADD, 0, 0, 0, -1, -1, .layer = 5), true},
    {"add of different widths", NODE(ADD, 0, 1, 0, -1, -1, .layer = 5), false},
    {"add to another width", NODE(ADD, 0, 0, 1, -1, -1, .layer = 5), false},
    {"add with one input", NODE(ADD, 0, -1, 0, -1, -1, .layer = 5), false},
    {"select", NODE(SELECT, 0, -1, 2, -1, -1, .layer = 5), true},
    {"select to tokens", NODE(SELECT, 0, -1, 0, -1, -1, .layer = 5), false},
    {"select of outputs", NODE(SELECT, 2, -1, 2, -1, -1, .layer = 5), false},
    {"columns", NODE(COLUMNS, 1, -1, 0, -1, -1, .layer = 5, .attr.column_begin = 8), true},
    {"columns beyond the end", NODE(COLUMNS, 1, -1, 0, -1, -1, .layer = 5, .attr.column_begin = 9),
     false},
};

Test(graph, a_node_is_taken_if_its_widths_fit_and_named_if_not)
{
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        values_t v = make_values();
        ag_status_t status = ag_graph_add(&v.graph, &cases[i].node, params);

        cr_expect_eq(status, cases[i].fits ? AG_OK : AG_ERR_INVALID, "%s", cases[i].what);
        cr_expect_eq(v.graph.nodes.n_items, cases[i].fits ? 1 : 0, "%s", cases[i].what);
        if (!cases[i].fits) {
            cr_expect_not_null(strstr(ag_error(), ag_node_name(cases[i].node.kind)), "%s: %s",
                               cases[i].what, ag_error());
            cr_expect_not_null(strstr(ag_error(), "layer 5"), "%s: %s", cases[i].what, ag_error());
        }
        ag_graph_fini(&v.graph);
    }
}

Test(graph, rows_of_different_counters_do_not_meet)
{
    const ag_node_t nodes[] = {
        NODE(ADD, 0, 2, 0, -1, -1, .layer = 0),    NODE(ADD, 0, 0, 2, -1, -1, .layer = 0),
        NODE(GLU, 2, 0, 0, -1, -1, .layer = 0),    NODE(NORM, 0, -1, 2, 1, -1, .layer = 0),
        NODE(LINEAR, 2, -1, 1, 0, -1, .layer = 0), NODE(COLUMNS, 1, -1, 2, -1, -1, .layer = 0),
    };

    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        values_t v = make_values();

        cr_expect_eq(ag_graph_add(&v.graph, &nodes[i], params), AG_ERR_INVALID, "node %zu", i);
        ag_graph_fini(&v.graph);
    }
}

Test(graph, a_buffer_is_one_value_and_internal_ones_are_many)
{
    ag_graph_t graph;
    int32_t a;

    ag_graph_init(&graph);
    a = ag_graph_value(&graph, AG_COUNT_TOKENS, WIDE, 4);
    cr_expect_eq(ag_graph_value(&graph, AG_COUNT_TOKENS, WIDE, 4), a);
    cr_expect_neq(ag_graph_value(&graph, AG_COUNT_TOKENS, WIDE, 5), a);
    a = ag_graph_value(&graph, AG_COUNT_TOKENS, WIDE, AG_INTERNAL);
    cr_expect_neq(ag_graph_value(&graph, AG_COUNT_TOKENS, WIDE, AG_INTERNAL), a);
    ag_graph_fini(&graph);
}

Test(graph, joining_keeps_internal_values_apart_and_makes_buffers_one)
{
    ag_graph_t first, second;
    const ag_node_t *nodes;
    int32_t buffer, mine;

    ag_graph_init(&first);
    buffer = ag_graph_value(&first, AG_COUNT_TOKENS, WIDE, 2);
    mine = ag_graph_value(&first, AG_COUNT_TOKENS, WIDE, AG_INTERNAL);
    cr_assert_eq(ag_graph_add(&first,
                              &(ag_node_t){.kind = AG_NODE_ADD, .in = {mine, mine}, .out = buffer},
                              params),
                 AG_OK);
    ag_graph_init(&second);
    mine = ag_graph_value(&second, AG_COUNT_TOKENS, WIDE, AG_INTERNAL);
    buffer = ag_graph_value(&second, AG_COUNT_TOKENS, WIDE, 2);
    cr_assert_eq(ag_graph_add(&second,
                              &(ag_node_t){.kind = AG_NODE_NORM,
                                           .in = {buffer, AG_NO_VALUE},
                                           .out = mine,
                                           .weight = 1,
                                           .bias = AG_NO_PARAM},
                              params),
                 AG_OK);

    cr_assert_eq(ag_graph_append(&first, &second), AG_OK);
    nodes = AG_ITEMS(&first.nodes, ag_node_t);
    cr_expect_eq(first.values.n_items, 3);
    cr_assert_eq(first.nodes.n_items, 2);
    cr_expect_eq(nodes[1].in[0], nodes[0].out);
    cr_expect_eq(nodes[1].in[1], AG_NO_VALUE);
    cr_expect_neq(nodes[1].out, nodes[0].in[0]);
    ag_graph_fini(&first);
    ag_graph_fini(&second);
}

/* The angles of some frequencies, and a rope by them. */
static void add_rope(ag_graph_t *graph, const float *inverse_freq)
{
    int32_t angles, x;

    angles = ag_graph_value(graph, AG_COUNT_TOKENS, NARROW, AG_INTERNAL);
    x = ag_graph_value(graph, AG_COUNT_TOKENS, WIDE, 2);
    const ag_node_t nodes[] = {
        NODE(ANGLES, -1, -1, angles, -1, -1, .attr.angles = {NARROW, 1, inverse_freq}),
        NODE(ROPE, x, angles, x, -1, -1,
             .attr.rope = {.n_heads = 2, .head_dim = NARROW, .rotary = NARROW}),
    };
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(ag_graph_add(graph, &nodes[i], params), AG_OK, "%s", ag_error());
    }
}

static void make_rope(ag_graph_t *graph, const float *inverse_freq)
{
    ag_graph_init(graph);
    add_rope(graph, inverse_freq);
}

Test(graph, joined_graphs_compute_the_same_angles_once)
{
    const float some[NARROW / 2] = {1}, others[NARROW / 2] = {2};
    ag_graph_t graph, same, other;
    const ag_node_t *nodes;

    make_rope(&graph, some);
    make_rope(&same, some);
    make_rope(&other, others);
    cr_assert_eq(ag_graph_append(&graph, &same), AG_OK);
    cr_assert_eq(ag_graph_append(&graph, &other), AG_OK);
    nodes = AG_ITEMS(&graph.nodes, ag_node_t);
    cr_assert_eq(graph.nodes.n_items, 5, "angles rope rope angles rope");
    cr_expect_eq(graph.values.n_items, 3);
    cr_expect_eq(nodes[2].in[1], nodes[0].out);
    cr_expect_eq(nodes[3].kind, AG_NODE_ANGLES);
    cr_expect_eq(nodes[4].in[1], nodes[3].out);
    ag_graph_fini(&graph);
    ag_graph_fini(&same);
    ag_graph_fini(&other);
}

Test(graph, angles_that_a_joined_graph_makes_twice_are_those_of_the_first)
{
    const float some[NARROW / 2] = {1}, others[NARROW / 2] = {2};
    ag_graph_t graph, twice;
    const ag_node_t *nodes;

    make_rope(&graph, some);
    make_rope(&twice, others);
    add_rope(&twice, others);
    cr_assert_eq(twice.nodes.n_items, 4);
    cr_assert_eq(ag_graph_append(&graph, &twice), AG_OK);
    nodes = AG_ITEMS(&graph.nodes, ag_node_t);
    cr_assert_eq(graph.nodes.n_items, 5, "angles rope, angles rope rope");
    cr_expect_eq(graph.values.n_items, 3);
    cr_expect_eq(nodes[2].kind, AG_NODE_ANGLES);
    cr_expect_eq(nodes[3].in[1], nodes[2].out);
    cr_expect_eq(nodes[4].in[1], nodes[2].out);
    ag_graph_fini(&graph);
    ag_graph_fini(&twice);
}

Test(graph, cost_is_what_one_computes_by_hand)
{
    const ag_graph_param_t weights[] = {
        {.dtype = AG_F32, .rows = 6, .cols = 4, .file_bytes = 60},
        {.dtype = AG_F32, .rows = 10, .cols = 4, .file_bytes = 90},
        {.dtype = AG_Q8_0, .packing = AG_PACKING_R16, .rows = 10, .cols = 32, .file_bytes = 90},
        {.dtype = AG_F32, .rows = 2, .cols = 3, .file_bytes = 12}, /* of two heads */
        {.dtype = AG_F32, .rows = 2, .cols = 3, .file_bytes = 12}};
    const ag_cost_shape_t shape = {.counts = {1, 5, 2, 1},
                                   .attended = {15, 8},
                                   .kv_positions = {20, 9},
                                   .kv_bytes_per_element = 2};
    ag_cost_shape_t no_outputs = shape;
    double attended, kept;
    ag_costs_t costs = {0};
    ag_graph_t graph;
    ag_cost_t cost;
    int32_t x, y, q, sums, heads, wide, last, logits;

    ag_graph_init(&graph);
    x = ag_graph_value(&graph, AG_COUNT_TOKENS, 4, AG_INTERNAL);
    y = ag_graph_value(&graph, AG_COUNT_TOKENS, 6, AG_INTERNAL);
    wide = ag_graph_value(&graph, AG_COUNT_TOKENS, 32, AG_INTERNAL);
    q = ag_graph_value(&graph, AG_COUNT_TOKENS, 28, AG_INTERNAL);
    sums = ag_graph_value(&graph, AG_COUNT_TOKENS, 21, AG_INTERNAL);
    heads = ag_graph_value(&graph, AG_COUNT_TOKENS, 6, AG_INTERNAL);
    last = ag_graph_value(&graph, AG_COUNT_OUTPUTS, 32, AG_INTERNAL);
    logits = ag_graph_value(&graph, AG_COUNT_OUTPUTS, 10, AG_INTERNAL);
    const ag_node_t nodes[] = {
        NODE(EMBED, -1, -1, x, 1, -1, .attr.embed.scale = 1),
        NODE(LINEAR, x, -1, y, 0, -1, .layer = 0),
        NODE(ATTENTION, q, -1, q, -1, -1, .attr.attention = {{.n_heads = 7}, 3, 4, 0, 0}),
        NODE(ATTENTION, q, -1, q, -1, -1, .attr.attention = {{.n_heads = 7}, 3, 4, 0, 1}),
        NODE(ATTENTION, q, -1, sums, -1, -1, .attr.attention = {{.n_heads = 7}, 1, 4, 3, 1}),
        NODE(HEAD_LINEAR, heads, -1, x, 3, -1, .attr.groups.n_groups = 2),
        NODE(ADD, x, x, x, -1, -1, .layer = 0),
        NODE(SELECT, wide, -1, last, -1, -1, .layer = 0),
        NODE(LINEAR, last, -1, logits, 2, -1, .layer = 0),
    };
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        cr_assert_eq(ag_graph_add(&graph, &nodes[i], weights), AG_OK, "%s", ag_error());
    }

    ag_graph_cost(&graph, weights, &shape, &costs);
    cost = ag_costs_sum(&costs);
    cr_expect_eq(costs.of[AG_NODE_LINEAR][AG_F32].ops[AG_GEMM_F32], 2.0 * 6 * 4 * 5);
    cr_expect_eq(costs.of[AG_NODE_LINEAR][AG_Q8_0].ops[AG_GEMM_INT8], 2.0 * 10 * 32 * 2);
    attended = 4.0 * 7 * 4 * (15 + 8) + 2.0 * 7 * (4 + 3) * 8;
    kept = 2.0 * 3 * 4 * (20 + 9) * 2 + 4.0 * 9 * 2; /* of the third, keys hold the values */
    cr_expect_eq(costs.of[AG_NODE_ATTENTION][AG_F32].ops[AG_GEMM_F32], attended);
    cr_expect_eq(costs.of[AG_NODE_ATTENTION][AG_F32].bytes, kept);
    cr_expect_eq(costs.of[AG_NODE_HEAD_LINEAR][AG_F32].ops[AG_GEMM_F32], 2.0 * 2 * 2 * 3 * 5);
    cr_expect_eq(cost.ops[AG_GEMM_F32], 2.0 * 6 * 4 * 5 + 2.0 * 2 * 2 * 3 * 5 + attended);
    cr_expect_eq(cost.bytes, 5 * 9.0 + 60 + 90 + 2 * 12 + kept);

    /* a head that no row asks for is not read; exact products are float32 */
    no_outputs.counts[AG_COUNT_OUTPUTS] = 0;
    memset(&costs, 0, sizeof(costs));
    ag_graph_cost(&graph, weights, &no_outputs, &costs);
    cr_expect_eq(costs.of[AG_NODE_LINEAR][AG_Q8_0].bytes, 0);
    memset(&costs, 0, sizeof(costs));
    graph.exact = true;
    ag_graph_cost(&graph, weights, &shape, &costs);
    cr_expect_eq(costs.of[AG_NODE_LINEAR][AG_Q8_0].ops[AG_GEMM_F32], 2.0 * 10 * 32 * 2);
    ag_graph_fini(&graph);
}
