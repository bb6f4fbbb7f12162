/* The rules of reverse-mode differentiation, one for each operator that training uses. */
#include "runtime/graph/backward_priv.h"

/* Complete and append what makes the gradient of an operator's first input of its output's. */
static void add_of_first(ag_backward_t *backward, const ag_node_t *node, ag_node_t *grad)
{
    grad->in[0] = ag_backward_grad(backward, node->out);
    grad->out = ag_backward_fresh(backward, node->in[0]);
    ag_backward_add(backward, grad);
    ag_backward_settle(backward, node->in[0], grad->out);
}

/* The same of both inputs, by one node that reads both. */
static void add_of_both(ag_backward_t *backward, const ag_node_t *node, ag_node_kind_t kind)
{
    ag_node_t grad = ag_backward_node(node, kind);

    grad.in[1] = ag_backward_read(backward, node->in[0]);
    grad.in[2] = ag_backward_read(backward, node->in[1]);
    grad.more[0] = ag_backward_fresh(backward, node->in[1]);
    add_of_first(backward, node, &grad);
    ag_backward_settle(backward, node->in[1], grad.more[0]);
}

/* y = x * w^T + b: dx = dy * w, dw = dy^T * x, db = sums of dy's columns */
void ag_linear_backward(ag_backward_t *backward, const ag_node_t *node)
{
    int32_t dweight = ag_backward_param(backward, node->weight);
    int32_t dbias = ag_backward_param(backward, node->bias);
    ag_node_t grad = ag_backward_node(node, AG_NODE_LINEAR_GRAD);
    ag_node_t weight = ag_backward_node(node, AG_NODE_LINEAR_WEIGHT_GRAD);

    weight.in[0] = grad.in[0] = ag_backward_grad(backward, node->out);
    if (dweight != AG_NO_VALUE) {
        weight.in[1] = ag_backward_read(backward, node->in[0]);
        weight.out = dweight;
        weight.more[0] = dbias;
        weight.adds = true;
        ag_backward_add(backward, &weight);
    }
    if (ag_backward_wants(backward, node->in[0])) {
        grad.out = ag_backward_target(backward, node->in[0], &grad.adds);
        ag_backward_add(backward, &grad);
    }
}

/* Of each row: train.h; its weight's is a sum over the rows. */
void ag_norm_backward(ag_backward_t *backward, const ag_node_t *node)
{
    int32_t dweight = ag_backward_param(backward, node->weight);
    const ag_value_t *x = ag_graph_get(backward->forward, node->in[0]);
    ag_node_t grad = ag_backward_node(node, AG_NODE_NORM_GRAD);
    ag_node_t weight = ag_backward_node(node, AG_NODE_NORM_WEIGHT_GRAD);

    grad.in[0] = ag_backward_grad(backward, node->out);
    grad.in[1] = ag_backward_read(backward, node->in[0]);
    grad.more[0] =
        ag_backward_value(backward, x->counter, AG_NORM_STATISTICS * ag_node_groups_of_norm(node));
    grad.out = ag_backward_target(backward, node->in[0], &grad.adds);
    ag_backward_add(backward, &grad);
    if (dweight != AG_NO_VALUE) {
        weight.in[0] = grad.in[0];
        weight.in[1] = grad.in[1];
        weight.in[2] = grad.more[0];
        weight.out = dweight;
        weight.more[0] = ag_backward_param(backward, node->bias);
        weight.adds = true;
        ag_backward_add(backward, &weight);
    }
}

/* y = a + b: both have y's */
void ag_add_backward(ag_backward_t *backward, const ag_node_t *node)
{
    int32_t dy = ag_backward_grad(backward, node->out);

    for (int i = 0; i < 2; i++) {
        bool adds;
        int32_t grad;

        if (!ag_backward_wants(backward, node->in[i])) {
            continue;
        }
        grad = ag_backward_target(backward, node->in[i], &adds);
        if (grad == dy) {
            continue; /* it stands there */
        }
        ag_backward_add(backward, &(ag_node_t){.kind = adds ? AG_NODE_ADD : AG_NODE_COLUMNS,
                                               .layer = node->layer,
                                               .in = {adds ? grad : dy, adds ? dy : AG_NO_VALUE},
                                               .out = grad,
                                               .weight = AG_NO_PARAM,
                                               .bias = AG_NO_PARAM});
    }
}

/* A rotation's inverse, in place as the rotation was. */
void ag_rope_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_ROPE_GRAD);

    grad.in[0] = grad.out = ag_backward_grad(backward, node->out);
    grad.in[1] = ag_backward_read(backward, node->in[1]);
    ag_backward_add(backward, &grad);
}

/* Columns go back; what was copied to all heads gets the sum of theirs. */
void ag_head_columns_backward(ag_backward_t *backward, const ag_node_t *node)
{
    const ag_head_columns_t *of = &node->attr.head_columns;
    ag_node_t grad = ag_backward_node(node, AG_NODE_HEAD_COLUMNS);

    grad.attr.head_columns = (ag_head_columns_t){.n_heads = of->n_heads,
                                                 .x_dim = of->y_dim,
                                                 .y_dim = of->x_dim,
                                                 .x_begin = of->y_begin,
                                                 .y_begin = of->x_begin,
                                                 .n = of->n,
                                                 .x_is_shared = of->y_is_shared,
                                                 .y_is_shared = of->x_is_shared,
                                                 .x_by_head = of->y_by_head,
                                                 .y_by_head = of->x_by_head};
    add_of_first(backward, node, &grad);
}

void ag_self_attention_backward(ag_backward_t *backward, const ag_node_t *node)
{
    int32_t dsinks = ag_backward_param(backward, node->weight);
    ag_node_t grad = ag_backward_node(node, AG_NODE_SELF_ATTENTION_GRAD);
    ag_node_t sinks = ag_backward_node(node, AG_NODE_SINKS_GRAD);

    grad.in[0] = ag_backward_grad(backward, node->out);
    grad.in[1] = ag_backward_read(backward, node->out);
    for (int i = 0; i < 3; i++) {
        grad.in[2 + i] = ag_backward_read(backward, node->in[i]);
    }
    grad.in[5] = ag_backward_read(backward, node->more[0]);
    grad.out = ag_backward_fresh(backward, node->in[0]);
    grad.more[0] = ag_backward_fresh(backward, node->in[1]);
    grad.more[1] = ag_backward_fresh(backward, node->in[2]);
    ag_backward_add(backward, &grad);
    if (dsinks != AG_NO_VALUE) {
        sinks.in[0] = grad.in[0];
        sinks.in[1] = grad.in[1];
        sinks.in[2] = grad.in[5];
        sinks.out = dsinks;
        sinks.adds = true;
        ag_backward_add(backward, &sinks);
    }
    ag_backward_settle(backward, node->in[0], grad.out);
    ag_backward_settle(backward, node->in[1], grad.more[0]);
    ag_backward_settle(backward, node->in[2], grad.more[1]);
}

/* y = act(gate) * up, with limits or not */
void ag_glu_backward(ag_backward_t *backward, const ag_node_t *node)
{
    add_of_both(backward, node, AG_NODE_GLU_GRAD);
}

/* y = act(x) */
void ag_act_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_ACT_GRAD);

    grad.in[1] = ag_backward_read(backward, node->in[0]);
    add_of_first(backward, node, &grad);
}

/* y = sigmoid(g) * x */
void ag_gate_rows_backward(ag_backward_t *backward, const ag_node_t *node)
{
    add_of_both(backward, node, AG_NODE_GATE_ROWS_GRAD);
}

void ag_embed_backward(ag_backward_t *backward, const ag_node_t *node)
{
    int32_t dtable = ag_backward_param(backward, node->weight);
    ag_node_t grad = ag_backward_node(node, AG_NODE_EMBED_WEIGHT_GRAD);

    if (dtable != AG_NO_VALUE) {
        grad.in[0] = ag_backward_grad(backward, node->out);
        grad.out = dtable;
        grad.adds = true;
        ag_backward_add(backward, &grad);
    }
}

/* Rows that were not taken have none. */
void ag_select_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_SELECT_GRAD);

    add_of_first(backward, node, &grad);
}

/* Columns that were not taken have none. */
void ag_columns_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_COLUMNS);
    ag_node_t zero = ag_backward_node(node, AG_NODE_ZERO);

    grad.in[0] = ag_backward_grad(backward, node->out);
    grad.out = zero.out = ag_backward_fresh(backward, node->in[0]);
    if (ag_graph_width(backward->forward, node->in[0]) >
        ag_graph_width(backward->forward, node->out)) {
        ag_backward_add(backward, &zero);
    }
    ag_backward_add(backward, &grad);
    ag_backward_settle(backward, node->in[0], grad.out);
}

/* As LINEAR's, for each group by its own weight. */
void ag_grouped_linear_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_GROUPED_LINEAR_GRAD);
    ag_node_t weight = ag_backward_node(node, AG_NODE_GROUPED_LINEAR_WEIGHT_GRAD);

    weight.out = ag_backward_params(backward, node->weight, node->attr.groups.n_groups,
                                    &weight.attr.groups.grad_stride);
    if (node->bias != AG_NO_PARAM) {
        weight.more[0] = ag_backward_params(backward, node->bias, node->attr.groups.n_groups,
                                            &weight.attr.groups.bias_grad_stride);
    }
    weight.in[0] = grad.in[0] = ag_backward_grad(backward, node->out);
    weight.in[1] = grad.in[1] = ag_backward_read(backward, node->in[1]);
    if (weight.out != AG_NO_VALUE) {
        weight.in[2] = ag_backward_read(backward, node->in[0]);
        weight.adds = true;
        ag_backward_add(backward, &weight);
    }
    if (ag_backward_wants(backward, node->in[0])) {
        grad.out = ag_backward_target(backward, node->in[0], &grad.adds);
        ag_backward_add(backward, &grad);
    }
}

/* Blocks of rows go back to where they were. */
void ag_regroup_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_REGROUP);

    grad.attr.groups.back = !node->attr.groups.back;
    grad.in[1] = ag_backward_read(backward, node->in[1]);
    add_of_first(backward, node, &grad);
}

/* A row is the sum of its copies' gradients. */
void ag_permute_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_PERMUTE_GRAD);

    grad.in[0] = ag_backward_grad(backward, node->out);
    grad.in[1] = ag_backward_read(backward, node->in[1]);
    grad.out = ag_backward_target(backward, node->in[0], &grad.adds);
    ag_backward_add(backward, &grad);
}

/* y = sum of weight * copy: each copy's, and each weight's, which no other node has a part of; what
 * it was added to has y's */
void ag_combine_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_COMBINE_GRAD);

    grad.in[0] = ag_backward_grad(backward, node->out);
    grad.in[1] = ag_backward_read(backward, node->in[0]);
    grad.in[2] = ag_backward_read(backward, node->in[1]);
    grad.out = ag_backward_fresh(backward, node->in[0]);
    grad.more[0] = ag_backward_grad_of_width(backward, node->in[1], node->attr.places.n_used);
    backward->has_grad[node->in[1]] = true;
    ag_backward_add(backward, &grad);
    ag_backward_settle(backward, node->in[0], grad.out);
}

/* Of the router's own losses: added to what stands there. */
static void add_router_losses(ag_backward_t *backward, const ag_node_t *node, int32_t dscores)
{
    ag_node_t statistics = ag_backward_node(node, AG_NODE_ROUTER_STATISTICS);
    ag_node_t grad = ag_backward_node(node, AG_NODE_ROUTER_LOSS_GRAD);

    statistics.in[0] = grad.in[0] = ag_backward_read(backward, node->in[0]);
    statistics.in[1] = ag_backward_read(backward, node->out);
    statistics.out = grad.in[1] =
        ag_backward_value(backward, ag_graph_get(backward->forward, node->out)->counter,
                          ag_router_statistics(node->attr.route.of.n_experts));
    grad.out = dscores;
    grad.adds = true;
    ag_backward_add(backward, &statistics);
    ag_backward_add(backward, &grad);
}

/* Of the weights of those experts that a row uses. */
void ag_route_backward(ag_backward_t *backward, const ag_node_t *node)
{
    ag_node_t grad = ag_backward_node(node, AG_NODE_ROUTE_GRAD);

    grad.in[0] = ag_backward_grad_of_width(backward, node->out, node->attr.route.of.n_used);
    grad.in[1] = ag_backward_read(backward, node->in[0]);
    grad.in[2] = ag_backward_read(backward, node->out);
    grad.out = ag_backward_target(backward, node->in[0], &grad.adds);
    ag_backward_add(backward, &grad);
    add_router_losses(backward, node, grad.out);
}
