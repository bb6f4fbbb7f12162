/* Graphs cut in two: behind what works on rows by themselves, or behind what makes a buffer. */
#include "runtime/graph/graph_priv.h"

/* How many nodes there are before the first that is not of rows. */
static size_t count_of_rows(const ag_graph_t *graph)
{
    size_t n = 0;

    while (n < graph->nodes.n_items &&
           ag_node_ops[AG_ITEMS(&graph->nodes, ag_node_t)[n].kind].is_of_rows) {
        n++;
    }
    return n;
}

static bool makes(const ag_node_t *node, int32_t value)
{
    bool one = false;

    for (int i = AG_NODE_MAX_IN; i < AG_NODE_MAX_TOUCHED; i++) {
        one |= ag_node_touched(node, i) == value;
    }
    return one;
}

/* The value of nodes before number n that those from it on read; what the last of them makes, where
 * they read none. */
static ag_status_t find_crossing(const ag_graph_t *graph, size_t n, int32_t *value_p)
{
    const ag_node_t *nodes = AG_ITEMS(&graph->nodes, ag_node_t);
    uint32_t n_found = 0;

    *value_p = n > 0 ? nodes[n - 1].out : AG_NO_VALUE;

    for (int32_t v = 0; v < (int32_t)graph->values.n_items; v++) {
        bool is_made = false, is_read = false;

        for (size_t i = 0; i < graph->nodes.n_items; i++) {
            is_made |= i < n && makes(&nodes[i], v);
            for (int j = 0; j < AG_NODE_MAX_IN; j++) {
                is_read |= i >= n && nodes[i].in[j] == v;
            }
        }
        if (is_made && is_read) {
            *value_p = v;
            n_found++;
        }
    }
    return n_found <= 1 && *value_p != AG_NO_VALUE
               ? AG_OK
               : ag_fail(AG_ERR_UNSUPPORTED, "a layer of which %u norms are read, not one",
                         n_found);
}

/* A value that lies in a buffer of its own is copied to the other. */
static ag_status_t add_copy(ag_graph_t *graph, size_t *n_p, int32_t value, int32_t buffer)
{
    const ag_value_t *of = ag_graph_get(graph, value);
    ag_node_t copy = {
        .kind = AG_NODE_COLUMNS,
        .in = {value, AG_NO_VALUE, AG_NO_VALUE, AG_NO_VALUE, AG_NO_VALUE, AG_NO_VALUE},
        .out = ag_graph_value(graph, of->counter, of->width, buffer),
        .more = {AG_NO_VALUE, AG_NO_VALUE},
        .weight = AG_NO_PARAM,
        .bias = AG_NO_PARAM};
    ag_status_t status = copy.out < 0 ? ag_fail_nomem("cutting a segment", sizeof(ag_value_t))
                                      : ag_array_append(&graph->nodes, &copy, 1);
    ag_node_t *nodes = AG_ITEMS(&graph->nodes, ag_node_t);

    for (size_t i = graph->nodes.n_items - 1; status == AG_OK && i > *n_p; i--) {
        nodes[i] = nodes[i - 1];
        for (int j = 0; j < AG_NODE_MAX_IN; j++) {
            nodes[i].in[j] = nodes[i].in[j] == value ? copy.out : nodes[i].in[j];
        }
    }
    if (status == AG_OK) {
        nodes[(*n_p)++] = copy;
    }
    return status;
}

ag_status_t ag_graph_cut_rows(ag_graph_t *graph, int32_t buffer, ag_graph_t *rows, ag_graph_t *rest)
{
    size_t n = count_of_rows(graph);
    int32_t value = AG_NO_VALUE;
    ag_status_t status = find_crossing(graph, n, &value);

    if (status == AG_OK && ag_graph_get(graph, value)->buffer == AG_INTERNAL) {
        AG_ITEMS(&graph->values, ag_value_t)[value].buffer = buffer;
    } else if (status == AG_OK) {
        status = add_copy(graph, &n, value, buffer);
    }
    if (status == AG_OK) {
        status = ag_graph_append_run(rows, graph, 0, n);
    }
    return status == AG_OK ? ag_graph_append_run(rest, graph, n, graph->nodes.n_items) : status;
}

ag_status_t ag_graph_append_after(ag_graph_t *graph, const ag_graph_t *next, int32_t buffer)
{
    size_t begin = 0;

    for (size_t i = 0; i < next->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&next->nodes, ag_node_t)[i];

        if (node->out != AG_NO_VALUE && ag_graph_get(next, node->out)->buffer == buffer) {
            begin = i + 1;
        }
    }
    return ag_graph_append_run(graph, next, begin, next->nodes.n_items);
}
