/* Attention over the KV cache: what is added to it, what is read. */
#include "runtime/graph/graph_priv.h"

/* KV_APPEND: k, v (tokens, kv heads * head size) -> the layer's cache; where values are part of
 * keys, those parts, and what else a key has */

bool ag_append_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                     uint32_t *width_p)
{
    uint64_t n = node->attr.kv.n_kv_heads;
    uint32_t head_dim = node->attr.kv.head_dim, value_dim = node->attr.kv.value_dim;
    uint64_t k_dim = value_dim > 0 ? value_dim : head_dim;
    uint64_t v_dim = value_dim > 0 ? head_dim - value_dim : head_dim;

    (void)params;
    *width_p = 0;
    return value_dim <= head_dim &&
           ag_graph_has_shape(graph, node->in[0], AG_COUNT_TOKENS, n * k_dim) &&
           ag_graph_has_shape(graph, node->in[1], AG_COUNT_TOKENS, n * v_dim);
}

void ag_append_run(const ag_graph_run_t *run, const ag_node_t *node,
                   const ag_kernel_context_t *context)
{
    ag_kernel_kv_append(context, &run->kv[node->layer], ag_run_data(run, context, node->in[0]),
                        ag_run_data(run, context, node->in[1]));
}

/* ATTENTION: q (tokens, heads * head size) -> (tokens, heads * value size) */

uint32_t ag_node_value_dim(const ag_node_t *node)
{
    return node->attr.attention.value_dim > 0 ? node->attr.attention.value_dim
                                              : node->attr.attention.head_dim;
}

bool ag_cached_attention_infer(const ag_graph_t *graph, const ag_node_t *node,
                               const ag_graph_param_t *params, uint32_t *width_p)
{
    uint32_t n_heads = node->attr.attention.args.n_heads;
    uint64_t q_width = (uint64_t)n_heads * node->attr.attention.head_dim;

    *width_p = n_heads * ag_node_value_dim(node);
    return ag_graph_has_shape(graph, node->in[0], AG_COUNT_TOKENS, q_width) &&
           ag_graph_counter(graph, node->out) == AG_COUNT_TOKENS &&
           (node->weight == AG_NO_PARAM || params[node->weight].cols == n_heads);
}

static ag_attention_t attention_of(const ag_graph_run_t *run, const ag_node_t *node)
{
    ag_attention_t attention = node->attr.attention.args;

    attention.sinks = node->weight == AG_NO_PARAM ? NULL : run->params[node->weight].data;
    return attention;
}

void ag_cached_attention_run(const ag_graph_run_t *run, const ag_node_t *node,
                             const ag_kernel_context_t *context)
{
    ag_attention_t attention = attention_of(run, node);

    ag_kernel_attention(context, &attention, &run->kv[node->layer],
                        ag_run_data(run, context, node->in[0]),
                        ag_run_data(run, context, node->out));
}

uint64_t ag_cached_attention_scratch(const ag_graph_t *graph, const ag_node_t *node,
                                     const ag_graph_param_t *params)
{
    ag_kv_t kv = {
        .dtype = graph->exact ? AG_F32 : AG_F16,
        .n_kv_heads = node->attr.attention.n_kv_heads,
        .head_dim = node->attr.attention.head_dim,
        .value_dim = node->attr.attention.value_dim,
        .block_tokens = AG_KV_BLOCK_TOKENS,
    };

    (void)params;
    return ag_attention_scratch_bytes(&node->attr.attention.args, &kv);
}

/* ATTENTION_PARTS: q -> (tokens, parts); ATTENTION_MERGE: (tokens, parts) -> as ATTENTION */

void ag_parts_run(const ag_graph_run_t *run, const ag_node_t *node,
                  const ag_kernel_context_t *context)
{
    ag_attention_t attention = attention_of(run, node);

    ag_kernel_attention_parts(context, &attention, &run->kv[node->layer],
                              ag_run_data(run, context, node->in[0]),
                              ag_run_data(run, context, node->out));
}

void ag_merge_run(const ag_graph_run_t *run, const ag_node_t *node,
                  const ag_kernel_context_t *context)
{
    ag_attention_t attention = attention_of(run, node);

    ag_kernel_attention_merge(context, &attention, &run->kv[node->layer],
                              ag_run_data(run, context, node->in[0]),
                              ag_run_data(run, context, node->out));
}
