/* Graphs cut behind what works on rows by themselves. */
#include <criterion/criterion.h>

#include "runtime/graph/graph.h"

enum { WIDTH = 8, X, P, N };

static const ag_graph_param_t params[] = {{.dtype = AG_F32, .rows = 1, .cols = WIDTH},
                                          {.dtype = AG_F32, .rows = WIDTH, .cols = WIDTH}};

static int32_t value(ag_graph_t *graph, int32_t buffer)
{
    return ag_graph_value(graph, AG_COUNT_TOKENS, WIDTH, buffer);
}

static void add(ag_graph_t *graph, ag_node_kind_t kind, int32_t a, int32_t b, int32_t out)
{
    ag_node_t node = {.kind = kind,
                      .in = {a, b},
                      .out = out,
                      .weight = kind == AG_NODE_NORM     ? 0
                                : kind == AG_NODE_LINEAR ? 1
                                                         : AG_NO_PARAM,
                      .bias = AG_NO_PARAM};

    cr_assert_eq(ag_graph_add(graph, &node, params), AG_OK, "%s", ag_error());
}

static const ag_node_t *node_at(const ag_graph_t *graph, size_t i)
{
    cr_assert_lt(i, graph->nodes.n_items);
    return &AG_ITEMS(&graph->nodes, ag_node_t)[i];
}

static int32_t buffer_of(const ag_graph_t *graph, int32_t v)
{
    return AG_ITEMS(&graph->values, ag_value_t)[v].buffer;
}

typedef struct cut {
    ag_graph_t graph, rows, rest;
} cut_t;

static cut_t begin_cut(void)
{
    cut_t cut;

    ag_graph_init(&cut.graph);
    ag_graph_init(&cut.rows);
    ag_graph_init(&cut.rest);
    return cut;
}

static void end_cut(cut_t *cut)
{
    ag_graph_fini(&cut->graph);
    ag_graph_fini(&cut->rows);
    ag_graph_fini(&cut->rest);
}

/* x += p; the layer of norm(x). */
Test(cut, behind_a_norm_what_it_makes_has_a_buffer)
{
    cut_t cut = begin_cut();
    ag_graph_t *g = &cut.graph, after;
    int32_t normed = value(g, AG_INTERNAL);

    add(g, AG_NODE_ADD, value(g, X), value(g, P), value(g, X));
    add(g, AG_NODE_NORM, value(g, X), AG_NO_VALUE, normed);
    add(g, AG_NODE_LINEAR, normed, AG_NO_VALUE, value(g, P));
    cr_assert_eq(ag_graph_cut_rows(g, N, &cut.rows, &cut.rest), AG_OK, "%s", ag_error());
    cr_expect_eq(cut.rows.nodes.n_items, 2);
    cr_expect_eq(cut.rest.nodes.n_items, 1);
    cr_expect_eq(buffer_of(&cut.rows, node_at(&cut.rows, 1)->out), N);
    cr_expect_eq(buffer_of(&cut.rest, node_at(&cut.rest, 0)->in[0]), N);
    ag_graph_init(&after);
    cr_assert_eq(ag_graph_append_after(&after, &cut.rows, X), AG_OK);
    cr_expect_eq(after.nodes.n_items, 1, "without what makes x");
    cr_expect_eq(node_at(&after, 0)->kind, AG_NODE_NORM);
    ag_graph_fini(&after);
    end_cut(&cut);
}

Test(cut, what_lies_in_a_buffer_of_its_own_is_copied)
{
    cut_t cut = begin_cut();
    ag_graph_t *g = &cut.graph;

    add(g, AG_NODE_ADD, value(g, X), value(g, P), value(g, X));
    add(g, AG_NODE_LINEAR, value(g, X), AG_NO_VALUE, value(g, P));
    cr_assert_eq(ag_graph_cut_rows(g, N, &cut.rows, &cut.rest), AG_OK, "%s", ag_error());
    cr_expect_eq(cut.rows.nodes.n_items, 2);
    cr_expect_eq(node_at(&cut.rows, 1)->kind, AG_NODE_COLUMNS);
    cr_expect_eq(buffer_of(&cut.rows, node_at(&cut.rows, 1)->in[0]), X);
    cr_expect_eq(buffer_of(&cut.rest, node_at(&cut.rest, 0)->in[0]), N);
    end_cut(&cut);
}

Test(cut, what_nobody_reads_is_made_all_the_same)
{
    cut_t cut = begin_cut();
    ag_graph_t *g = &cut.graph;

    add(g, AG_NODE_NORM, value(g, X), AG_NO_VALUE, value(g, AG_INTERNAL));
    add(g, AG_NODE_ZERO, AG_NO_VALUE, AG_NO_VALUE, value(g, P));
    cr_assert_eq(ag_graph_cut_rows(g, N, &cut.rows, &cut.rest), AG_OK, "%s", ag_error());
    cr_expect_eq(buffer_of(&cut.rows, node_at(&cut.rows, 0)->out), N);
    end_cut(&cut);
}

Test(cut, of_two_values_there_is_none)
{
    cut_t cut = begin_cut();
    ag_graph_t *g = &cut.graph;
    int32_t a = value(g, AG_INTERNAL), b = value(g, AG_INTERNAL);

    add(g, AG_NODE_NORM, value(g, X), AG_NO_VALUE, a);
    add(g, AG_NODE_NORM, value(g, P), AG_NO_VALUE, b);
    add(g, AG_NODE_LINEAR, a, AG_NO_VALUE, value(g, X));
    add(g, AG_NODE_LINEAR, b, AG_NO_VALUE, value(g, P));
    cr_expect_eq(ag_graph_cut_rows(g, N, &cut.rows, &cut.rest), AG_ERR_UNSUPPORTED);
    end_cut(&cut);
}
