/* Operators over each row for itself: the gate of a shared expert, columns of heads, layers that
 * each head has for itself. */
#include "runtime/graph/graph_priv.h"

static bool has_shape(const ag_graph_t *graph, int32_t value, ag_counter_t counter, uint64_t width)
{
    return ag_graph_get(graph, value)->counter == counter && ag_graph_width(graph, value) == width;
}

static ag_counter_t counter_of(const ag_graph_t *graph, int32_t value)
{
    return ag_graph_get(graph, value)->counter;
}

/* GATE_ROWS: (rows, width), gates (rows, 1) -> (rows, width) */

bool ag_gate_rows_infer(const ag_graph_t *graph, const ag_node_t *node,
                        const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return counter_of(graph, node->in[0]) == counter_of(graph, node->out) &&
           has_shape(graph, node->in[1], counter_of(graph, node->out), 1);
}

void ag_gate_rows_run(const ag_graph_run_t *run, const ag_node_t *node,
                      const ag_kernel_context_t *context)
{
    ag_kernel_gate_rows(context, ag_run_data(run, context, node->in[0]),
                        ag_run_data(run, context, node->in[1]), ag_run_rows(run, node->in[0]),
                        ag_graph_width(run->graph, node->in[0]),
                        ag_run_data(run, context, node->out));
}

/* GATE_ROWS_GRAD: dy, x (rows, width), gates (rows, 1) -> dx, dgates */

bool ag_gate_rows_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                             const ag_graph_param_t *params, uint32_t *width_p)
{
    ag_counter_t counter = counter_of(graph, node->in[0]);

    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return has_shape(graph, node->in[1], counter, *width_p) &&
           has_shape(graph, node->in[2], counter, 1) && node->more[0] != AG_NO_VALUE &&
           has_shape(graph, node->more[0], counter, 1);
}

void ag_gate_rows_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                           const ag_kernel_context_t *context)
{
    ag_kernel_gate_rows_grad(
        context, ag_run_data(run, context, node->in[0]), ag_run_data(run, context, node->in[1]),
        ag_run_data(run, context, node->in[2]), ag_run_rows(run, node->in[0]),
        ag_graph_width(run->graph, node->in[0]), ag_run_data(run, context, node->out),
        ag_run_data(run, context, node->more[0]));
}

/* HEAD_COLUMNS: columns of heads (rows, heads * x_dim) -> (rows, heads * y_dim), or one head's */

bool ag_head_columns_infer(const ag_graph_t *graph, const ag_node_t *node,
                           const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_head_columns_t *of = &node->attr.head_columns;
    uint64_t x_heads = of->x_is_shared ? 1 : of->n_heads;

    (void)params;
    *width_p = (of->y_is_shared ? 1 : of->n_heads) * of->y_dim;
    return has_shape(graph, node->in[0], counter_of(graph, node->out), x_heads * of->x_dim) &&
           of->x_begin + of->n <= of->x_dim && of->y_begin + of->n <= of->y_dim &&
           node->in[0] != node->out;
}

void ag_head_columns_run(const ag_graph_run_t *run, const ag_node_t *node,
                         const ag_kernel_context_t *context)
{
    ag_kernel_head_columns(context, &node->attr.head_columns,
                           ag_run_data(run, context, node->in[0]), ag_run_rows(run, node->in[0]),
                           ag_run_data(run, context, node->out));
}

/* HEAD_LINEAR: rows of heads (heads, rows, k) -> (heads, rows, n), each head's by its own weight;
 * as values these are (rows, heads * k) and (rows, heads * n). The second input, if there is one,
 * is the first prepared. */

bool ag_head_linear_infer(const ag_graph_t *graph, const ag_node_t *node,
                          const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_graph_param_t *first = &params[node->weight];
    uint32_t n_heads = node->attr.groups.n_groups;

    *width_p = (uint32_t)(n_heads * first->rows);
    for (uint32_t h = 0; h < n_heads; h++) {
        const ag_graph_param_t *weight = &first[h];

        if (weight->dtype != first->dtype || weight->packing != first->packing ||
            weight->rows != first->rows || weight->cols != first->cols) {
            return false;
        }
    }
    return n_heads > 0 && node->in[0] != node->out &&
           has_shape(graph, node->in[0], counter_of(graph, node->out), n_heads * first->cols);
}

void ag_head_linear_run(const ag_graph_run_t *run, const ag_node_t *node,
                        const ag_kernel_context_t *context)
{
    ag_groups_t groups = ag_node_groups(run, node, context, AG_NO_VALUE);
    ag_linear_t linear = ag_node_linear(run->params, node);
    ag_group_weights_t weights = {
        .first = (const unsigned char *)&run->params[node->weight].data,
        .stride_bytes = sizeof(ag_graph_param_t),
    };

    if (node->in[1] != AG_NO_VALUE) {
        linear.prepared = ag_run_data(run, context, node->in[1]);
    }
    ag_kernel_group_linear(context, &groups, &linear, &weights,
                           ag_run_data(run, context, node->in[0]), run->graph->exact,
                           ag_run_data(run, context, node->out));
}
