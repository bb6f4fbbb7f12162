/* Gradients of weights, taken apart from those of inputs. */
#include <criterion/criterion.h>

#include "runtime/graph/backward.h"

enum { WIDTH = 8, X, DY, DW, HANDED, KEPT };

static const ag_graph_param_t params[] = {{.dtype = AG_F32, .rows = 1, .cols = WIDTH},
                                          {.dtype = AG_F32, .rows = WIDTH, .cols = WIDTH}};

typedef struct handed {
    uint32_t n;
} handed_t;

static ag_status_t hand_on(void *arg, ag_counter_t counter, uint64_t row_bytes, int32_t *buffer_p,
                           uint64_t *begin_bytes_p)
{
    handed_t *handed = arg;

    cr_expect_eq(counter, AG_COUNT_TOKENS);
    cr_expect_eq(row_bytes, WIDTH * sizeof(float));
    *buffer_p = HANDED;
    *begin_bytes_p = 64ull * handed->n++;
    return AG_OK;
}

static bool changes(void *arg, int32_t buffer)
{
    (void)arg;
    return buffer == DY;
}

static int32_t value(ag_graph_t *graph, int32_t buffer)
{
    return ag_graph_value(graph, AG_COUNT_TOKENS, WIDTH, buffer);
}

static void add(ag_graph_t *graph, ag_node_kind_t kind, int32_t a, int32_t b, int32_t out)
{
    bool is_weight = kind == AG_NODE_LINEAR_WEIGHT_GRAD;
    ag_node_t node = {.kind = kind,
                      .in = {a, b},
                      .out = out,
                      .more = {AG_NO_VALUE, AG_NO_VALUE},
                      .weight = kind == AG_NODE_NORM                       ? 0
                                : is_weight || kind == AG_NODE_LINEAR_GRAD ? 1
                                                                           : AG_NO_PARAM,
                      .adds = is_weight,
                      .bias = AG_NO_PARAM};

    cr_assert_eq(ag_graph_add(graph, &node, params), AG_OK, "%s", ag_error());
}

static const ag_node_t *node_at(const ag_graph_t *graph, size_t i)
{
    cr_assert_lt(i, graph->nodes.n_items);
    return &AG_ITEMS(&graph->nodes, ag_node_t)[i];
}

static const ag_value_t *value_at(const ag_graph_t *graph, int32_t v)
{
    return &AG_ITEMS(&graph->values, ag_value_t)[v];
}

/* Of two layers, norm(x) before the first: the second's gradient is in a buffer that changes, the
 * first's is the graph's own; norm(x) is made again for its weight alone. */
Test(weights, take_with_them_what_they_alone_read_and_have_the_rest_kept)
{
    ag_graph_t graph, weights;
    handed_t handed = {0};
    ag_split_opts_t opts = {hand_on, changes, &handed};
    int32_t normed, inner, dw, dw2;

    ag_graph_init(&graph);
    ag_graph_init(&weights);
    normed = value(&graph, AG_INTERNAL);
    inner = value(&graph, AG_INTERNAL);
    dw = ag_graph_value(&graph, AG_COUNT_ONE, WIDTH * WIDTH, DW);
    dw2 = ag_graph_value_at(&graph, AG_COUNT_ONE, WIDTH * WIDTH, DW, 4096);
    add(&graph, AG_NODE_LINEAR_WEIGHT_GRAD, value(&graph, DY), value(&graph, KEPT), dw2);
    add(&graph, AG_NODE_LINEAR_GRAD, value(&graph, DY), AG_NO_VALUE, inner);
    add(&graph, AG_NODE_NORM, value(&graph, X), AG_NO_VALUE, normed);
    add(&graph, AG_NODE_LINEAR_WEIGHT_GRAD, inner, normed, dw);
    add(&graph, AG_NODE_LINEAR_GRAD, inner, AG_NO_VALUE, value(&graph, DY));
    cr_assert_eq(ag_graph_split_weights(&graph, &opts, &weights), AG_OK, "%s", ag_error());

    cr_expect_eq(graph.nodes.n_items, 3, "a copy, and the gradients of inputs");
    cr_expect_eq(node_at(&graph, 0)->kind, AG_NODE_COLUMNS);
    cr_expect_eq(value_at(&graph, node_at(&graph, 1)->out)->buffer, HANDED);
    cr_expect_eq(weights.nodes.n_items, 3, "the norm goes with its weight");
    cr_expect_eq(node_at(&weights, 1)->kind, AG_NODE_NORM);
    cr_expect_eq(value_at(&weights, node_at(&weights, 1)->out)->buffer, AG_INTERNAL);
    cr_expect_eq(value_at(&weights, node_at(&weights, 0)->in[0])->buffer, HANDED, "the copy");
    cr_expect_eq(value_at(&weights, node_at(&weights, 0)->in[1])->buffer, KEPT);
    cr_expect_eq(value_at(&weights, node_at(&weights, 2)->in[0])->buffer, HANDED);
    cr_expect_neq(value_at(&weights, node_at(&weights, 0)->in[0])->begin_bytes,
                  value_at(&weights, node_at(&weights, 2)->in[0])->begin_bytes);
    cr_expect_eq(handed.n, 2);
    ag_graph_fini(&graph);
    ag_graph_fini(&weights);
}

/* What is changed in its place behind the reading is copied before. */
Test(weights, read_values_as_they_were_where_they_stood)
{
    ag_graph_t graph, weights;
    handed_t handed = {0};
    ag_split_opts_t opts = {hand_on, changes, &handed};
    int32_t inner, dw;

    ag_graph_init(&graph);
    ag_graph_init(&weights);
    inner = value(&graph, AG_INTERNAL);
    dw = ag_graph_value(&graph, AG_COUNT_ONE, WIDTH * WIDTH, DW);
    add(&graph, AG_NODE_LINEAR_GRAD, value(&graph, DY), AG_NO_VALUE, inner);
    add(&graph, AG_NODE_LINEAR_WEIGHT_GRAD, inner, value(&graph, KEPT), dw);
    add(&graph, AG_NODE_ADD, inner, value(&graph, KEPT), inner);
    add(&graph, AG_NODE_LINEAR_GRAD, inner, AG_NO_VALUE, value(&graph, X));
    cr_assert_eq(ag_graph_split_weights(&graph, &opts, &weights), AG_OK, "%s", ag_error());
    cr_expect_eq(graph.nodes.n_items, 4);
    cr_expect_eq(node_at(&graph, 1)->kind, AG_NODE_COLUMNS, "in the place of the reading");
    cr_expect_eq(value_at(&graph, inner)->buffer, AG_INTERNAL);
    cr_expect_eq(value_at(&weights, node_at(&weights, 0)->in[0])->buffer, HANDED);
    ag_graph_fini(&graph);
    ag_graph_fini(&weights);
}
