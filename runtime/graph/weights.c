/* Gradients in two graphs: of inputs, and of weights, for which nobody waits. */
#include "runtime/graph/backward.h"

#include <stdlib.h>

#include "runtime/graph/graph_priv.h"

/* What of a graph goes where. */
typedef struct split {
    ag_graph_t *graph;
    const ag_split_opts_t *opts;
    bool *is_moved;  /* (nodes) */
    int32_t *copies; /* (values) what those that move read instead; AG_NO_VALUE: the value */
    ag_graph_t rest;
} split_t;

static const ag_node_t *node_at(const split_t *split, size_t i)
{
    return &AG_ITEMS(&split->graph->nodes, ag_node_t)[i];
}

static bool reads(const ag_node_t *node, int32_t value)
{
    bool one = false;

    for (int i = 0; i < AG_NODE_MAX_IN; i++) {
        one |= node->in[i] == value;
    }
    return one;
}

static bool writes(const ag_node_t *node, int32_t value)
{
    bool one = false;

    for (int i = AG_NODE_MAX_IN; i < AG_NODE_MAX_TOUCHED; i++) {
        one |= ag_node_touched(node, i) == value;
    }
    return one;
}

/* Does nothing but what moves read a value that the graph makes for itself? */
static bool is_for_weights(const split_t *split, size_t maker, int32_t value)
{
    bool is_read = false;

    if (ag_graph_get(split->graph, value)->buffer != AG_INTERNAL) {
        return false;
    }
    for (size_t i = 0; i < split->graph->nodes.n_items; i++) {
        bool touches = reads(node_at(split, i), value) || writes(node_at(split, i), value);

        if (i != maker && touches && !split->is_moved[i]) {
            return false;
        }
        is_read |= i != maker && reads(node_at(split, i), value);
    }
    return is_read;
}

/* What is made for weights' gradients alone moves with them. */
static void find_moved(split_t *split)
{
    for (size_t i = split->graph->nodes.n_items; i > 0; i--) {
        const ag_node_t *node = node_at(split, i - 1);
        bool moves = ag_node_ops[node->kind].makes_value;

        for (int j = AG_NODE_MAX_IN; j < AG_NODE_MAX_TOUCHED && moves; j++) {
            int32_t value = ag_node_touched(node, j);

            moves = value == AG_NO_VALUE || is_for_weights(split, i - 1, value);
        }
        split->is_moved[i - 1] = moves || ag_node_ops[node->kind].is_of_weight;
    }
}

/* Does what stays write a value, before a node, or from it on? */
static bool is_written(const split_t *split, int32_t value, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++) {
        if (!split->is_moved[i] && writes(node_at(split, i), value)) {
            return true;
        }
    }
    return false;
}

static ag_status_t hand_on(const split_t *split, int32_t value, int32_t *buffer_p,
                           uint64_t *begin_bytes_p)
{
    const ag_value_t *of = ag_graph_get(split->graph, value);

    return split->opts->hand_on(split->opts->arg, of->counter,
                                of->width * ag_element_bytes(of->rounded), buffer_p, begin_bytes_p);
}

/* A copy of a value as it is where node number `at` would have read it. */
static ag_status_t copy_value(split_t *split, int32_t value)
{
    ag_node_t copy = {
        .kind = AG_NODE_COLUMNS,
        .in = {value, AG_NO_VALUE, AG_NO_VALUE, AG_NO_VALUE, AG_NO_VALUE, AG_NO_VALUE},
        .more = {AG_NO_VALUE, AG_NO_VALUE},
        .weight = AG_NO_PARAM,
        .bias = AG_NO_PARAM};
    const ag_value_t of = *ag_graph_get(split->graph, value);
    uint64_t begin_bytes;
    int32_t buffer;
    ag_status_t status = of.rounded
                             ? ag_fail(AG_ERR_UNSUPPORTED, "a rounded gradient is no weights' own")
                             : hand_on(split, value, &buffer, &begin_bytes);

    if (status != AG_OK) {
        return status;
    }
    copy.out = ag_graph_value_at(split->graph, of.counter, of.width, buffer, begin_bytes);
    if (copy.out < 0) {
        return ag_fail_nomem("taking gradients apart", sizeof(ag_value_t));
    }
    split->copies[value] = copy.out;
    return ag_array_append(&split->rest.nodes, &copy, 1);
}

/* What node number `at`, which moves, reads of the others is kept until then. */
static ag_status_t keep_inputs(split_t *split, size_t at, size_t n_values)
{
    ag_status_t status = AG_OK;

    for (int j = 0; j < AG_NODE_MAX_IN && status == AG_OK; j++) {
        int32_t value = node_at(split, at)->in[j];
        ag_value_t *of;
        bool changes;

        if (value == AG_NO_VALUE || (size_t)value >= n_values ||
            split->copies[value] != AG_NO_VALUE) {
            continue;
        }
        of = &AG_ITEMS(&split->graph->values, ag_value_t)[value];
        changes = of->buffer != AG_INTERNAL
                      ? split->opts->changes(split->opts->arg, of->buffer)
                      : is_written(split, value, at, split->graph->nodes.n_items);
        if (changes) {
            status = copy_value(split, value);
        } else if (of->buffer == AG_INTERNAL && is_written(split, value, 0, at)) {
            int32_t buffer;

            status = hand_on(split, value, &buffer, &of->begin_bytes);
            of->buffer = status == AG_OK ? buffer : of->buffer;
        }
    }
    return status;
}

/* Nodes in their order to the one graph or the other. */
static ag_status_t deal_out(split_t *split, ag_graph_t *moved)
{
    size_t n_values = split->graph->values.n_items;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < split->graph->nodes.n_items && status == AG_OK; i++) {
        ag_node_t node = *node_at(split, i);

        if (!split->is_moved[i]) {
            status = ag_array_append(&split->rest.nodes, &node, 1);
            continue;
        }
        status = keep_inputs(split, i, n_values);
        for (int j = 0; j < AG_NODE_MAX_IN; j++) {
            if (node.in[j] != AG_NO_VALUE && split->copies[node.in[j]] != AG_NO_VALUE) {
                node.in[j] = split->copies[node.in[j]];
            }
        }
        if (status == AG_OK) {
            status = ag_array_append(&moved->nodes, &node, 1);
        }
    }
    return status;
}

ag_status_t ag_graph_split_weights(ag_graph_t *graph, const ag_split_opts_t *opts,
                                   ag_graph_t *weights)
{
    size_t n_values = graph->values.n_items;
    split_t split = {.graph = graph,
                     .opts = opts,
                     .is_moved = calloc(graph->nodes.n_items + 1, sizeof(bool)),
                     .copies = malloc((n_values + 1) * sizeof(int32_t))};
    ag_graph_t moved;
    ag_status_t status = split.is_moved == NULL || split.copies == NULL
                             ? ag_fail_nomem("taking gradients apart", n_values * sizeof(int32_t))
                             : AG_OK;

    ag_graph_init(&split.rest);
    ag_graph_init(&moved);
    for (size_t v = 0; v < n_values && status == AG_OK; v++) {
        split.copies[v] = AG_NO_VALUE;
    }
    if (status == AG_OK) {
        find_moved(&split);
        status = deal_out(&split, &moved);
    }
    if (status == AG_OK) { /* of the graph's values, until they are the other's own */
        ag_graph_t view = {.values = graph->values, .nodes = moved.nodes};
        ag_array_t nodes = graph->nodes;

        graph->nodes = split.rest.nodes;
        split.rest.nodes = nodes;
        status = ag_graph_append(weights, &view);
    }
    ag_graph_fini(&split.rest);
    ag_graph_fini(&moved);
    free(split.is_moved);
    free(split.copies);
    return status;
}
