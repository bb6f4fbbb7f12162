/*
 * What operators cost: operations of the mathematics, and bytes that memory is asked for at least.
 * Of training both ways, so that the sum over a program of one rank is what the model takes: an
 * operator's gradients cost as much by its input and by its weight each as it does itself, whatever
 * a kernel computes again.
 */
#include <math.h>

#include "runtime/graph/graph_priv.h"

/* Bytes of an element that the optimizer changes: its gradient, and to and fro weight and moments.
 */
enum { FLOAT_BYTES = sizeof(float), ADAMW_BYTES = 7 * sizeof(float) };

/* Training computes in the plan's type; what weights are kept in is float32 there. */
static ag_gemm_kind_t arithmetic_of(const ag_graph_t *graph, const ag_linear_t *linear)
{
    if (graph->trains) {
        return graph->exact ? AG_GEMM_F32 : AG_GEMM_BF16;
    }
    return ag_linear_arithmetic(linear, graph->exact);
}

static double n_elements(const ag_graph_param_t *param)
{
    return (double)param->rows * (double)param->cols;
}

static double weight_bytes(const ag_graph_t *graph, const ag_graph_param_t *param)
{
    return graph->trains ? FLOAT_BYTES * n_elements(param) : (double)param->file_bytes;
}

void ag_embed_cost(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                   const ag_cost_shape_t *shape, ag_cost_t *cost)
{
    const ag_graph_param_t *table = &params[node->weight];

    if (table->rows > 0) {
        cost->bytes +=
            shape->counts[AG_COUNT_TOKENS] * weight_bytes(graph, table) / (double)table->rows;
    }
}

void ag_embed_weight_grad_cost(const ag_graph_t *graph, const ag_node_t *node,
                               const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                               ag_cost_t *cost)
{
    (void)params;
    cost->bytes +=
        2.0 * FLOAT_BYTES * shape->counts[AG_COUNT_TOKENS] * ag_graph_width(graph, node->in[0]);
}

/* As many as rows times the weight: forward, and by its input. */
void ag_linear_cost(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                    const ag_cost_shape_t *shape, ag_cost_t *cost)
{
    const ag_graph_param_t *weight = &params[node->weight];
    double n_rows = shape->counts[ag_graph_get(graph, node->in[0])->counter];
    ag_linear_t linear = ag_node_linear(params, node);

    cost->ops[arithmetic_of(graph, &linear)] += 2.0 * n_elements(weight) * n_rows;
    cost->bytes += n_rows > 0 ? weight_bytes(graph, weight) : 0;
}

void ag_head_linear_cost(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                         ag_cost_t *cost)
{
    ag_node_t head = *node;

    for (uint32_t h = 0; h < node->attr.groups.n_groups; h++, head.weight++) {
        ag_linear_cost(graph, &head, params, shape, cost);
    }
}

/* The gradient is added to. */
void ag_linear_weight_grad_cost(const ag_graph_t *graph, const ag_node_t *node,
                                const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                                ag_cost_t *cost)
{
    ag_linear_cost(graph, node, params, shape, cost);
    cost->bytes += FLOAT_BYTES * n_elements(&params[node->weight]);
}

/* Rows meet experts alike: of all copies an expert has its part, and one that no row of the step
 * uses is not read. @param n_times  what stands for a weight in memory is met. */
static void add_groups(const ag_graph_t *graph, const ag_node_t *node,
                       const ag_graph_param_t *params, const ag_cost_shape_t *shape, double n_times,
                       ag_cost_t *cost)
{
    const ag_graph_param_t *first = &params[node->weight];
    double used = (double)node->attr.groups.n_used / node->attr.groups.n_experts;
    double n_rows = shape->counts[AG_COUNT_TOKENS];
    ag_linear_t linear = ag_node_linear(params, node);

    for (uint32_t g = 0; g < node->attr.groups.n_groups; g++) {
        cost->ops[arithmetic_of(graph, &linear)] += 2.0 * n_elements(&first[g]) * n_rows * used;
        cost->bytes += n_times * (1 - pow(1 - used, n_rows)) * weight_bytes(graph, &first[g]);
    }
}

void ag_grouped_linear_cost(const ag_graph_t *graph, const ag_node_t *node,
                            const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                            ag_cost_t *cost)
{
    add_groups(graph, node, params, shape, 1, cost);
}

void ag_grouped_linear_weight_grad_cost(const ag_graph_t *graph, const ag_node_t *node,
                                        const ag_graph_param_t *params,
                                        const ag_cost_shape_t *shape, ag_cost_t *cost)
{
    add_groups(graph, node, params, shape, 2, cost);
}

/* A product with the keys and one with the values. */
void ag_attention_cost(const ag_graph_t *graph, const ag_node_t *node,
                       const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                       ag_cost_t *cost)
{
    double key = node->attr.attention.head_dim, value = ag_node_value_dim(node);
    double kept = node->attr.attention.value_dim > 0 ? key : key + value;
    uint32_t sight = node->attr.attention.sight;

    (void)graph;
    (void)params;
    cost->ops[AG_GEMM_F32] +=
        2.0 * node->attr.attention.args.n_heads * (key + value) * shape->attended[sight];
    cost->bytes += node->attr.attention.n_kv_heads * kept * shape->kv_positions[sight] *
                   shape->kv_bytes_per_element;
}

void ag_self_attention_cost(const ag_graph_t *graph, const ag_node_t *node,
                            const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                            ag_cost_t *cost)
{
    const ag_self_attention_t *args = &node->attr.self_attention.args;

    (void)params;
    cost->ops[graph->exact ? AG_GEMM_F32 : AG_GEMM_BF16] +=
        4.0 * args->n_heads * args->head_dim * shape->attended[node->attr.self_attention.sight];
}

/* Of both inputs of both products. */
void ag_self_attention_grad_cost(const ag_graph_t *graph, const ag_node_t *node,
                                 const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                                 ag_cost_t *cost)
{
    ag_self_attention_cost(graph, node, params, shape, cost);
    ag_self_attention_cost(graph, node, params, shape, cost);
}

/* Runs of floats that are met once. */

void ag_zero_cost(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                  const ag_cost_shape_t *shape, ag_cost_t *cost)
{
    (void)params;
    (void)shape;
    cost->bytes += (double)FLOAT_BYTES * ag_graph_width(graph, node->out);
}

void ag_sum_squares_cost(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, const ag_cost_shape_t *shape,
                         ag_cost_t *cost)
{
    (void)params;
    (void)shape;
    cost->bytes += (double)FLOAT_BYTES * ag_graph_width(graph, node->in[0]);
}

void ag_adamw_cost(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                   const ag_cost_shape_t *shape, ag_cost_t *cost)
{
    (void)params;
    (void)shape;
    cost->bytes += (double)ADAMW_BYTES * ag_graph_width(graph, node->in[0]);
}

void ag_publish_cost(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                     const ag_cost_shape_t *shape, ag_cost_t *cost)
{
    (void)params;
    (void)shape;
    cost->bytes += 2.0 * FLOAT_BYTES * ag_graph_width(graph, node->out);
}

void ag_adopt_cost(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                   const ag_cost_shape_t *shape, ag_cost_t *cost)
{
    (void)params;
    (void)shape;
    cost->bytes += 2.0 * FLOAT_BYTES * ag_graph_width(graph, node->in[0]);
}
