#include "runtime/graph/backward_priv.h"

#include <stdlib.h>

static void fail_nomem(ag_backward_t *backward)
{
    if (backward->status == AG_OK) {
        backward->status = ag_fail_nomem("writing gradients", sizeof(ag_value_t));
    }
}

static int32_t made(ag_backward_t *backward, int32_t value)
{
    if (value < 0) {
        fail_nomem(backward);
        return 0; /* any value will do: nothing is added any more */
    }
    return value;
}

int32_t ag_backward_value(ag_backward_t *backward, ag_counter_t counter, uint32_t width)
{
    return made(backward, ag_graph_value(backward->graph, counter, width, AG_INTERNAL));
}

void ag_backward_add(ag_backward_t *backward, const ag_node_t *node)
{
    if (backward->status == AG_OK) {
        backward->status = ag_graph_add(backward->graph, node, backward->opts->params);
    }
}

ag_node_t ag_backward_node(const ag_node_t *like, ag_node_kind_t kind)
{
    ag_node_t node = *like;

    node.kind = kind;
    node.adds = false;
    node.out = AG_NO_VALUE;
    for (int i = 0; i < AG_NODE_MAX_IN; i++) {
        node.in[i] = AG_NO_VALUE;
    }
    for (int i = 0; i < AG_NODE_MAX_MORE; i++) {
        node.more[i] = AG_NO_VALUE;
    }
    return node;
}

static bool makes(const ag_node_t *node, int32_t value)
{
    bool one = node->out == value;

    for (int i = 0; i < AG_NODE_MAX_MORE; i++) {
        one |= node->more[i] == value;
    }
    return one;
}

/* May a value be made again by the nodes that made it? */
static bool is_cheap(const ag_graph_t *forward, int32_t value)
{
    bool found = false;

    for (size_t i = 0; i < forward->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&forward->nodes, ag_node_t)[i];

        if (makes(node, value)) {
            found = true;
            if (!ag_node_ops[node->kind].is_cheap) {
                return false;
            }
        }
    }
    return found;
}

static int32_t in_buffer(ag_backward_t *backward, const ag_value_t *value)
{
    int32_t copy = made(backward, ag_graph_value_at(backward->graph, value->counter, value->width,
                                                    value->buffer, value->begin_bytes));

    if (value->rounded && backward->status == AG_OK) {
        ag_graph_round(backward->graph, copy);
    }
    return copy;
}

/* Append the nodes that make a value, in their order, after what they read. They make nothing else:
 * cheap operators have one output. */
static int32_t make_again(ag_backward_t *backward, int32_t value)
{
    const ag_value_t *of = ag_graph_get(backward->forward, value);

    backward->copies[value] = ag_backward_value(backward, of->counter, of->width);
    for (size_t i = 0; i < backward->forward->nodes.n_items; i++) {
        const ag_node_t *like = &AG_ITEMS(&backward->forward->nodes, ag_node_t)[i];
        ag_node_t node = *like;

        if (!makes(like, value)) {
            continue;
        }
        for (uint32_t j = 0; j < ag_node_ops[like->kind].n_in; j++) {
            node.in[j] = ag_backward_read(backward, like->in[j]);
        }
        node.out = backward->copies[value];
        ag_backward_add(backward, &node);
    }
    return backward->copies[value];
}

static bool is_passing(const ag_backward_t *backward, int32_t buffer)
{
    for (uint32_t i = 0; i < backward->opts->n_passing; i++) {
        if ((int32_t)backward->opts->passing[i] == buffer) {
            return true;
        }
    }
    return false;
}

/* The forward graph makes a copy of a value at its end. @return the copy, in that graph. */
static int32_t keep_rounded(ag_backward_t *backward, int32_t value)
{
    const ag_value_t of = *ag_graph_get(backward->forward, value);
    ag_node_t round = {
        .kind = AG_NODE_ROUND, .in = {value}, .weight = AG_NO_PARAM, .bias = AG_NO_PARAM};
    uint64_t begin_bytes;
    int32_t buffer;

    backward->status = backward->opts->keep(
        backward->opts->arg, of.counter, of.width * ag_element_bytes(true), &buffer, &begin_bytes);
    if (backward->status != AG_OK) {
        return AG_NO_VALUE;
    }
    round.out = made(
        backward, ag_graph_value_at(backward->forward, of.counter, of.width, buffer, begin_bytes));
    if (backward->status == AG_OK) {
        ag_graph_round(backward->forward, round.out);
        backward->status = ag_graph_add(backward->forward, &round, backward->opts->params);
    }
    return round.out;
}

int32_t ag_backward_read(ag_backward_t *backward, int32_t value)
{
    ag_value_t *of = &AG_ITEMS(&backward->forward->values, ag_value_t)[value];
    int32_t buffer;

    if (backward->copies[value] != AG_NO_VALUE || backward->status != AG_OK) {
        return backward->copies[value];
    }
    if (is_passing(backward, of->buffer)) {
        if (backward->rounded[value] == AG_NO_VALUE) {
            backward->rounded[value] = keep_rounded(backward, value);
        }
        if (backward->status == AG_OK) {
            backward->copies[value] =
                in_buffer(backward, ag_graph_get(backward->forward, backward->rounded[value]));
        }
        return backward->copies[value];
    }
    if (of->buffer == AG_INTERNAL && of->width == 0) { /* heads that this rank has not */
        backward->copies[value] = ag_backward_value(backward, of->counter, 0);
        return backward->copies[value];
    }
    if (of->buffer == AG_INTERNAL && is_cheap(backward->forward, value)) {
        return make_again(backward, value);
    }
    if (of->buffer == AG_INTERNAL) {
        of->rounded = backward->opts->rounds && ag_graph_may_round(backward->forward, value);
        backward->status = backward->opts->keep(backward->opts->arg, of->counter,
                                                of->width * ag_element_bytes(of->rounded), &buffer,
                                                &of->begin_bytes);
        if (backward->status != AG_OK) {
            return AG_NO_VALUE;
        }
        of->buffer = buffer;
    }
    backward->copies[value] = in_buffer(backward, of);
    return backward->copies[value];
}

/* What is said of a value's gradient; NULL: nothing, and it is the segment's own. */
static const ag_backward_grad_t *said_of(const ag_backward_t *backward, int32_t value)
{
    int32_t buffer = ag_graph_get(backward->forward, value)->buffer;

    for (uint32_t i = 0; i < backward->opts->n_grads; i++) {
        if (backward->opts->grads[i].buffer == buffer) {
            return &backward->opts->grads[i];
        }
    }
    return NULL;
}

bool ag_backward_wants(const ag_backward_t *backward, int32_t value)
{
    return backward->is_inner[value] || said_of(backward, value) != NULL;
}

int32_t ag_backward_grad_of_width(ag_backward_t *backward, int32_t value, uint32_t width)
{
    ag_counter_t counter = ag_graph_get(backward->forward, value)->counter;
    const ag_backward_grad_t *said = said_of(backward, value);

    if (backward->grads[value] == AG_NO_VALUE) {
        int32_t buffer = said != NULL                ? said->grad_buffer
                         : value == backward->cut_at ? backward->opts->cut_buffer
                                                     : AG_INTERNAL;

        backward->grads[value] =
            made(backward, ag_graph_value(backward->graph, counter, width, buffer));
        if (ag_graph_get(backward->forward, value)->rounded && backward->status == AG_OK &&
            buffer == ag_graph_get(backward->forward, value)->buffer) {
            ag_graph_round(backward->graph, backward->grads[value]); /* in the value's place */
        }
    }
    return backward->grads[value];
}

int32_t ag_backward_grad(ag_backward_t *backward, int32_t value)
{
    return ag_backward_grad_of_width(backward, value, ag_graph_width(backward->forward, value));
}

int32_t ag_backward_target(ag_backward_t *backward, int32_t value, bool *adds_p)
{
    *adds_p = backward->has_grad[value];
    backward->has_grad[value] = true;
    return ag_backward_grad(backward, value);
}

int32_t ag_backward_fresh(ag_backward_t *backward, int32_t value)
{
    const ag_value_t *of = ag_graph_get(backward->forward, value);

    return backward->has_grad[value] ? ag_backward_value(backward, of->counter, of->width)
                                     : ag_backward_grad(backward, value);
}

void ag_backward_settle(ag_backward_t *backward, int32_t value, int32_t fresh)
{
    int32_t grad = ag_backward_grad(backward, value);

    backward->has_grad[value] = true;
    if (fresh != grad) {
        ag_backward_add(backward, &(ag_node_t){.kind = AG_NODE_ADD,
                                               .in = {grad, fresh},
                                               .out = grad,
                                               .weight = AG_NO_PARAM,
                                               .bias = AG_NO_PARAM});
    }
}

/* n floats of gradients in a buffer. */
static int32_t floats_of(ag_backward_t *backward, int32_t buffer, uint64_t begin_bytes, uint64_t n)
{
    if (n > UINT32_MAX && backward->status == AG_OK) {
        backward->status = ag_fail(AG_ERR_UNSUPPORTED,
                                   "weights of %llu elements on one rank: split them over more",
                                   (unsigned long long)n);
    }
    return made(backward,
                ag_graph_value_at(backward->graph, AG_COUNT_ONE, (uint32_t)n, buffer, begin_bytes));
}

int32_t ag_backward_param(ag_backward_t *backward, int32_t param)
{
    uint64_t stride;

    return param == AG_NO_PARAM ? AG_NO_VALUE : ag_backward_params(backward, param, 1, &stride);
}

int32_t ag_backward_params(ag_backward_t *backward, int32_t first, uint32_t n, uint64_t *stride_p)
{
    const ag_graph_param_t *param = &backward->opts->params[first];
    int32_t buffer = AG_INTERNAL;
    uint64_t begin_bytes = 0, last_bytes = 0, stride_bytes = 0;

    backward->opts->find_grad(backward->opts->arg, first, &buffer, &begin_bytes);
    if (buffer == AG_INTERNAL) {
        return AG_NO_VALUE;
    }
    last_bytes = begin_bytes;
    for (uint32_t i = 1; i < n; i++) {
        int32_t other = AG_INTERNAL;
        uint64_t at_bytes = 0;

        backward->opts->find_grad(backward->opts->arg, first + (int32_t)i, &other, &at_bytes);
        stride_bytes = i == 1 ? at_bytes - last_bytes : stride_bytes;
        if ((other != buffer || at_bytes != last_bytes + stride_bytes) &&
            backward->status == AG_OK) {
            backward->status =
                ag_fail(AG_ERR_UNSUPPORTED, "gradients of alike weights do not lie together");
        }
        last_bytes = at_bytes;
    }
    *stride_p = stride_bytes / sizeof(float);
    return floats_of(backward, buffer, begin_bytes,
                     (n - 1) * *stride_p + param->rows * param->cols);
}

/* Which values the segment itself makes, which gradients stand already, and where the cut is. */
static void look_at_forward(ag_backward_t *backward)
{
    const ag_graph_t *forward = backward->forward;

    backward->cut_at = AG_NO_VALUE;
    for (size_t v = 0; v < backward->n_values; v++) {
        backward->rounded[v] = AG_NO_VALUE;
    }
    for (size_t v = 0; v < forward->values.n_items; v++) {
        const ag_backward_grad_t *said = said_of(backward, (int32_t)v);

        backward->is_inner[v] = ag_graph_get(forward, (int32_t)v)->buffer == AG_INTERNAL;
        backward->has_grad[v] = said != NULL && said->is_given;
    }
    for (size_t i = 0; i < forward->nodes.n_items && backward->opts->cut_buffer >= 0; i++) {
        const ag_node_t *node = &AG_ITEMS(&forward->nodes, ag_node_t)[i];

        if (node->kind == AG_NODE_NORM) {
            backward->cut_at = node->out;
            break;
        }
    }
}

/* From here on a new graph is written: nothing is there yet. */
static void begin_graph(ag_backward_t *backward, ag_graph_t *graph)
{
    backward->graph = graph;
    for (size_t v = 0; v < backward->n_values; v++) {
        backward->copies[v] = backward->grads[v] = AG_NO_VALUE;
    }
}

/* A rank without heads or columns has nothing to add to a sum that it takes part in. */
static void begin_at_zero(ag_backward_t *backward, int32_t value)
{
    if (!backward->has_grad[value]) {
        backward->has_grad[value] = true;
        ag_backward_add(backward, &(ag_node_t){.kind = AG_NODE_ZERO,
                                               .out = ag_backward_grad(backward, value),
                                               .weight = AG_NO_PARAM,
                                               .bias = AG_NO_PARAM});
    }
}

static void go_back(ag_backward_t *backward, ag_graph_t *second)
{
    for (size_t i = backward->forward->nodes.n_items; i > 0 && backward->status == AG_OK; i--) {
        const ag_node_t node = AG_ITEMS(&backward->forward->nodes, ag_node_t)[i - 1];

        if (node.out != AG_NO_VALUE && node.out == backward->cut_at) {
            begin_at_zero(backward, node.out);
        }
        if (node.out == AG_NO_VALUE || !backward->has_grad[node.out]) {
            continue; /* nothing that follows depends on it */
        }
        if (node.out == backward->cut_at && backward->graph != second) {
            begin_graph(backward, second);
        }
        if (ag_node_ops[node.kind].backward == NULL) {
            backward->status = ag_fail(AG_ERR_UNSUPPORTED, "%s of layer %u has no gradient",
                                       ag_node_name(node.kind), node.layer);
            return;
        }
        ag_node_ops[node.kind].backward(backward, &node);
    }
}

ag_status_t ag_graph_backward(ag_graph_t *forward, const ag_backward_opts_t *opts,
                              ag_graph_t *first, ag_graph_t *second)
{
    size_t n = forward->values.n_items;
    ag_backward_t backward = {.forward = forward,
                              .opts = opts,
                              .n_values = n,
                              .copies = malloc((n + 1) * sizeof(int32_t)),
                              .rounded = malloc((n + 1) * sizeof(int32_t)),
                              .grads = malloc((n + 1) * sizeof(int32_t)),
                              .has_grad = calloc(n + 1, sizeof(bool)),
                              .is_inner = calloc(n + 1, sizeof(bool)),
                              .status = AG_OK};

    if (backward.copies == NULL || backward.rounded == NULL || backward.grads == NULL ||
        backward.has_grad == NULL || backward.is_inner == NULL) {
        fail_nomem(&backward);
    } else {
        look_at_forward(&backward);
        begin_graph(&backward, first);
        go_back(&backward, second);
    }
    free(backward.copies);
    free(backward.rounded);
    free(backward.grads);
    free(backward.has_grad);
    free(backward.is_inner);
    return backward.status;
}
