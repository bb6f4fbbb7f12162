/* The operators of training: shape and work. What they compute is said in runtime/kernel/train.h.
 */

#include "runtime/graph/graph_priv.h"

/* Of a further output; NULL: it is not wanted. */
static float *more_data(const ag_graph_run_t *run, const ag_node_t *node,
                        const ag_kernel_context_t *context, int i)
{
    return node->more[i] == AG_NO_VALUE ? NULL : ag_run_data(run, context, node->more[i]);
}

/* A weight's gradient: all of it is one row. */
static bool is_grad_of(const ag_graph_t *graph, int32_t value, const ag_graph_param_t *param)
{
    return ag_graph_has_shape(graph, value, AG_COUNT_ONE, param->rows * param->cols);
}

/* SELF_ATTENTION: q, k, v -> y of q's shape, and (tokens, heads) */

static bool is_attention_sound(const ag_graph_t *graph, const ag_self_attention_t *attention,
                               int32_t q, int32_t k, int32_t v)
{
    uint64_t kv_width = (uint64_t)attention->n_kv_heads * attention->head_dim;

    return ag_graph_has_shape(graph, q, AG_COUNT_TOKENS,
                              (uint64_t)attention->n_heads * attention->head_dim) &&
           ag_graph_has_shape(graph, k, AG_COUNT_TOKENS, kv_width) &&
           ag_graph_has_shape(graph, v, AG_COUNT_TOKENS, kv_width);
}

bool ag_self_attention_infer(const ag_graph_t *graph, const ag_node_t *node,
                             const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_self_attention_t *attention = &node->attr.self_attention.args;

    *width_p = ag_graph_width(graph, node->in[0]);
    return is_attention_sound(graph, attention, node->in[0], node->in[1], node->in[2]) &&
           (node->weight == AG_NO_PARAM || params[node->weight].cols == attention->n_heads) &&
           node->more[0] != AG_NO_VALUE &&
           ag_graph_has_shape(graph, node->more[0], AG_COUNT_TOKENS, attention->n_heads);
}

static ag_self_attention_t attention_of(const ag_graph_run_t *run, const ag_node_t *node)
{
    ag_self_attention_t attention = node->attr.self_attention.args;

    attention.exact = run->graph->exact;
    attention.sinks = node->weight == AG_NO_PARAM ? NULL : run->params[node->weight].data;
    return attention;
}

void ag_self_attention_run(const ag_graph_run_t *run, const ag_node_t *node,
                           const ag_kernel_context_t *context)
{
    ag_self_attention_t attention = attention_of(run, node);

    ag_kernel_self_attention(
        context, &attention, ag_run_elements(run, context, node->in[0]),
        ag_run_elements(run, context, node->in[1]), ag_run_elements(run, context, node->in[2]),
        ag_run_elements(run, context, node->out), more_data(run, node, context, 0));
}

uint64_t ag_self_attention_scratch(const ag_graph_t *graph, const ag_node_t *node,
                                   const ag_graph_param_t *params)
{
    ag_self_attention_t attention = node->attr.self_attention.args;

    (void)params;
    attention.exact = graph->exact;
    return ag_self_attention_scratch_bytes(&attention);
}

/* SELF_ATTENTION_GRAD: dy, y, q, k, v, lse -> dq, dk, dv */

bool ag_self_attention_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                                  const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_self_attention_t *attention = &node->attr.self_attention.args;

    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return node->more[0] != AG_NO_VALUE && node->more[1] != AG_NO_VALUE &&
           is_attention_sound(graph, attention, node->in[2], node->in[3], node->in[4]) &&
           is_attention_sound(graph, attention, node->out, node->more[0], node->more[1]) &&
           ag_graph_has_shape(graph, node->in[0], AG_COUNT_TOKENS,
                              ag_graph_width(graph, node->in[2])) &&
           ag_graph_has_shape(graph, node->in[1], AG_COUNT_TOKENS,
                              ag_graph_width(graph, node->in[2])) &&
           ag_graph_has_shape(graph, node->in[5], AG_COUNT_TOKENS, attention->n_heads);
}

void ag_self_attention_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                                const ag_kernel_context_t *context)
{
    ag_self_attention_t attention = attention_of(run, node);
    ag_self_attention_saved_t saved = {.y = ag_run_elements(run, context, node->in[1]),
                                       .q = ag_run_elements(run, context, node->in[2]),
                                       .k = ag_run_elements(run, context, node->in[3]),
                                       .v = ag_run_elements(run, context, node->in[4]),
                                       .lse = ag_run_data(run, context, node->in[5])};

    ag_kernel_self_attention_grad(
        context, &attention, &saved, ag_run_elements(run, context, node->in[0]),
        ag_run_data(run, context, node->out), more_data(run, node, context, 0),
        more_data(run, node, context, 1));
}

/* SINKS_GRAD: dy, y, lse -> added to dsinks */

bool ag_sinks_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_self_attention_t *attention = &node->attr.self_attention.args;
    uint64_t width = (uint64_t)attention->n_heads * attention->head_dim;

    *width_p = attention->n_heads;
    return params[node->weight].cols == attention->n_heads &&
           is_grad_of(graph, node->out, &params[node->weight]) &&
           ag_graph_has_shape(graph, node->in[0], AG_COUNT_TOKENS, width) &&
           ag_graph_has_shape(graph, node->in[1], AG_COUNT_TOKENS, width) &&
           ag_graph_has_shape(graph, node->in[2], AG_COUNT_TOKENS, attention->n_heads);
}

void ag_sinks_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                       const ag_kernel_context_t *context)
{
    ag_self_attention_t attention = attention_of(run, node);
    ag_self_attention_saved_t saved = {.y = ag_run_elements(run, context, node->in[1]),
                                       .lse = ag_run_data(run, context, node->in[2])};

    ag_kernel_sinks_grad(context, &attention, &saved, ag_run_elements(run, context, node->in[0]),
                         ag_run_data(run, context, node->out));
}

/* LOSS_STATISTICS: logits (outputs, columns held) -> (outputs, parts, statistics) */

static uint64_t statistics_width(const ag_loss_t *loss)
{
    return (uint64_t)loss->n_parts * AG_LOSS_STATISTICS;
}

bool ag_loss_statistics_infer(const ag_graph_t *graph, const ag_node_t *node,
                              const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_loss_t *loss = &node->attr.loss;

    (void)params;
    *width_p = (uint32_t)statistics_width(loss);
    return ag_graph_has_shape(graph, node->in[0], AG_COUNT_OUTPUTS,
                              loss->vocab_end - loss->vocab_begin) &&
           ag_graph_counter(graph, node->out) == AG_COUNT_OUTPUTS && loss->part < loss->n_parts;
}

void ag_loss_statistics_run(const ag_graph_run_t *run, const ag_node_t *node,
                            const ag_kernel_context_t *context)
{
    ag_kernel_loss_statistics(context, &node->attr.loss, ag_run_elements(run, context, node->in[0]),
                              run->step->targets, ag_run_rows(run, node->in[0]),
                              ag_run_data(run, context, node->out));
}

/* LOSS: logits, statistics of all parts -> in the logits' place their gradient; (outputs, 1) */

bool ag_loss_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                   uint32_t *width_p)
{
    const ag_loss_t *loss = &node->attr.loss;

    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return node->out == node->in[0] && node->more[0] != AG_NO_VALUE &&
           ag_graph_has_shape(graph, node->in[0], AG_COUNT_OUTPUTS,
                              loss->vocab_end - loss->vocab_begin) &&
           ag_graph_has_shape(graph, node->in[1], AG_COUNT_OUTPUTS, statistics_width(loss)) &&
           ag_graph_has_shape(graph, node->more[0], AG_COUNT_OUTPUTS, 1);
}

void ag_loss_run(const ag_graph_run_t *run, const ag_node_t *node,
                 const ag_kernel_context_t *context)
{
    ag_kernel_loss(context, &node->attr.loss, ag_run_data(run, context, node->in[1]),
                   run->step->targets, ag_run_rows(run, node->in[0]), run->step->update->loss_scale,
                   ag_run_elements(run, context, node->out), more_data(run, node, context, 0));
}

/* ADD_LOSSES: (outputs, 1) -> a sum in double, added to */

bool ag_add_losses_infer(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = sizeof(double) / sizeof(float);
    return ag_graph_has_shape(graph, node->in[0], AG_COUNT_OUTPUTS, 1) &&
           ag_graph_counter(graph, node->out) == AG_COUNT_ONE;
}

void ag_add_losses_run(const ag_graph_run_t *run, const ag_node_t *node,
                       const ag_kernel_context_t *context)
{
    const float *losses = ag_run_data(run, context, node->in[0]);
    double *sum = (double *)(void *)ag_run_data(run, context, node->out);
    uint64_t n_rows = ag_run_rows(run, node->in[0]);

    for (uint64_t i = 0; context->worker->thread == 0 && i < n_rows; i++) {
        *sum += losses[i];
    }
}

/* LINEAR_GRAD: dy (rows, n) -> dx (rows, k) */

bool ag_linear_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                          const ag_graph_param_t *params, uint32_t *width_p)
{
    *width_p = (uint32_t)params[node->weight].cols;
    return ag_graph_width(graph, node->in[0]) == params[node->weight].rows &&
           ag_graph_counter(graph, node->in[0]) == ag_graph_counter(graph, node->out);
}

void ag_linear_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                        const ag_kernel_context_t *context)
{
    ag_linear_t linear = ag_node_linear(run->params, node);

    ag_kernel_linear_input_grad(context, &linear, ag_run_elements(run, context, node->in[0]),
                                ag_run_rows(run, node->in[0]), run->graph->exact, node->adds,
                                ag_run_elements(run, context, node->out));
}

/* LINEAR_WEIGHT_GRAD: dy (rows, n), x (rows, k) -> added to dweight, dbias */

bool ag_linear_weight_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                                 const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_graph_param_t *weight = &params[node->weight];

    *width_p = (uint32_t)(weight->rows * weight->cols);
    return ag_graph_width(graph, node->in[0]) == weight->rows &&
           ag_graph_width(graph, node->in[1]) == weight->cols &&
           ag_graph_counter(graph, node->in[0]) == ag_graph_counter(graph, node->in[1]) &&
           ag_graph_counter(graph, node->out) == AG_COUNT_ONE &&
           (node->more[0] == AG_NO_VALUE ||
            ag_graph_has_shape(graph, node->more[0], AG_COUNT_ONE, weight->rows));
}

void ag_linear_weight_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                               const ag_kernel_context_t *context)
{
    ag_linear_t linear = ag_node_linear(run->params, node);

    ag_kernel_linear_weight_grad(
        context, &linear, ag_run_elements(run, context, node->in[0]),
        ag_run_elements(run, context, node->in[1]), ag_run_rows(run, node->in[0]),
        run->graph->exact, ag_run_data(run, context, node->out), more_data(run, node, context, 0));
}

uint64_t ag_train_linear_scratch(const ag_graph_t *graph, const ag_node_t *node,
                                 const ag_graph_param_t *params)
{
    (void)graph;
    (void)node;
    (void)params;
    return ag_train_linear_scratch_bytes();
}

/* ROUND: (rows, width) -> the same, rounded */

bool ag_round_infer(const ag_graph_t *graph, const ag_node_t *node, const ag_graph_param_t *params,
                    uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_counter(graph, node->in[0]) == ag_graph_counter(graph, node->out) &&
           ag_graph_get(graph, node->out)->rounded;
}

void ag_round_run(const ag_graph_run_t *run, const ag_node_t *node,
                  const ag_kernel_context_t *context)
{
    ag_kernel_round(context, ag_run_data(run, context, node->in[0]),
                    ag_run_rows(run, node->in[0]) * ag_graph_width(run->graph, node->in[0]),
                    ag_run_elements(run, context, node->out));
}

/* Scratch of norms: a row. */
uint64_t ag_norm_scratch(const ag_graph_t *graph, const ag_node_t *node,
                         const ag_graph_param_t *params)
{
    bool is_rounded = false;

    (void)params;
    for (int i = 0; i < AG_NODE_MAX_IN; i++) {
        is_rounded |= node->in[i] != AG_NO_VALUE && ag_graph_get(graph, node->in[i])->rounded;
    }
    return is_rounded ? ag_norm_scratch_bytes(ag_graph_width(graph, node->in[0])) : 0;
}

/* NORM_GRAD: dy, x -> dx, and (rows, statistics) */

static ag_norm_t norm_of(const ag_graph_run_t *run, const ag_node_t *node)
{
    return (ag_norm_t){.kind = node->attr.norm.kind,
                       .width = run->params[node->weight].cols,
                       .n_groups = ag_node_groups_of_norm(node),
                       .eps = node->attr.norm.eps,
                       .weight = run->params[node->weight].data};
}

bool ag_norm_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                        const ag_graph_param_t *params, uint32_t *width_p)
{
    ag_counter_t counter = ag_graph_counter(graph, node->in[0]);
    uint32_t n_groups = ag_node_groups_of_norm(node);

    *width_p = ag_graph_width(graph, node->in[0]);
    return params[node->weight].cols * n_groups == *width_p &&
           ag_graph_has_shape(graph, node->in[1], counter, *width_p) &&
           node->more[0] != AG_NO_VALUE &&
           ag_graph_has_shape(graph, node->more[0], counter,
                              (uint64_t)n_groups * AG_NORM_STATISTICS) &&
           ag_graph_counter(graph, node->out) == counter;
}

void ag_norm_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                      const ag_kernel_context_t *context)
{
    ag_norm_t norm = norm_of(run, node);

    ag_kernel_norm_grad(context, &norm, ag_run_data(run, context, node->in[0]),
                        ag_run_elements(run, context, node->in[1]), ag_run_rows(run, node->in[0]),
                        node->adds, ag_run_data(run, context, node->out),
                        more_data(run, node, context, 0));
}

/* NORM_WEIGHT_GRAD: dy, x, statistics -> added to dweight, dbias */

bool ag_norm_weight_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                               const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_graph_param_t *weight = &params[node->weight];
    ag_counter_t counter = ag_graph_counter(graph, node->in[0]);
    uint64_t n_groups = ag_node_groups_of_norm(node);

    *width_p = (uint32_t)weight->cols;
    return ag_graph_has_shape(graph, node->in[0], counter, n_groups * weight->cols) &&
           ag_graph_has_shape(graph, node->in[1], counter, n_groups * weight->cols) &&
           ag_graph_has_shape(graph, node->in[2], counter, n_groups * AG_NORM_STATISTICS) &&
           ag_graph_counter(graph, node->out) == AG_COUNT_ONE &&
           (node->more[0] == AG_NO_VALUE ||
            ag_graph_has_shape(graph, node->more[0], AG_COUNT_ONE, weight->cols));
}

void ag_norm_weight_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                             const ag_kernel_context_t *context)
{
    ag_norm_t norm = norm_of(run, node);

    ag_kernel_norm_weight_grad(context, &norm, ag_run_data(run, context, node->in[0]),
                               ag_run_elements(run, context, node->in[1]),
                               ag_run_data(run, context, node->in[2]),
                               ag_run_rows(run, node->in[0]), ag_run_data(run, context, node->out),
                               more_data(run, node, context, 0));
}

/* ROPE_GRAD: angles; in place, as ROPE */

void ag_rope_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                      const ag_kernel_context_t *context)
{
    ag_kernel_rope_grad(context, &node->attr.rope, ag_run_data(run, context, node->in[1]),
                        ag_run_elements(run, context, node->out),
                        ag_graph_width(run->graph, node->out));
}

/* GLU_GRAD: dy, gate, up -> dgate, dup */

bool ag_glu_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                       const ag_graph_param_t *params, uint32_t *width_p)
{
    ag_counter_t counter = ag_graph_counter(graph, node->in[0]);

    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_has_shape(graph, node->in[1], counter, *width_p) &&
           ag_graph_has_shape(graph, node->in[2], counter, *width_p) &&
           node->more[0] != AG_NO_VALUE &&
           ag_graph_has_shape(graph, node->more[0], counter, *width_p);
}

void ag_glu_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                     const ag_kernel_context_t *context)
{
    ag_kernel_glu_grad(
        context, &node->attr.glu, ag_run_elements(run, context, node->in[0]),
        ag_run_elements(run, context, node->in[1]), ag_run_elements(run, context, node->in[2]),
        ag_run_rows(run, node->in[0]), ag_graph_width(run->graph, node->in[0]), 0,
        ag_run_elements(run, context, node->out), ag_run_elements(run, context, node->more[0]));
}

/* ACT_GRAD: dy, x -> dx */

bool ag_act_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                       const ag_graph_param_t *params, uint32_t *width_p)
{
    ag_counter_t counter = ag_graph_counter(graph, node->in[0]);

    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_has_shape(graph, node->in[1], counter, *width_p) &&
           ag_graph_counter(graph, node->out) == counter;
}

void ag_act_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                     const ag_kernel_context_t *context)
{
    ag_kernel_act_grad(context, node->attr.glu.act, ag_run_data(run, context, node->in[0]),
                       ag_run_data(run, context, node->in[1]), ag_run_rows(run, node->in[0]),
                       ag_graph_width(run->graph, node->in[0]), 0,
                       ag_run_data(run, context, node->out));
}

/* EMBED_WEIGHT_GRAD: dy (tokens, width) -> added to dtable */

bool ag_embed_weight_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                                const ag_graph_param_t *params, uint32_t *width_p)
{
    const ag_graph_param_t *table = &params[node->weight];

    *width_p = (uint32_t)(table->rows * table->cols);
    return ag_graph_has_shape(graph, node->in[0], AG_COUNT_TOKENS, table->cols) &&
           is_grad_of(graph, node->out, table);
}

void ag_embed_weight_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                              const ag_kernel_context_t *context)
{
    const ag_graph_param_t *table = &run->params[node->weight];
    ag_embed_t embed = {.vocab_begin = node->attr.embed.vocab_begin,
                        .vocab_end = node->attr.embed.vocab_begin + table->rows,
                        .width = table->cols,
                        .scale = node->attr.embed.scale,
                        .by_position = node->attr.embed.by_position};

    ag_kernel_embed_grad(context, &embed, ag_run_data(run, context, node->in[0]),
                         ag_run_data(run, context, node->out));
}

/* SELECT_GRAD: dy (outputs, width) -> (tokens, width) */

bool ag_select_grad_infer(const ag_graph_t *graph, const ag_node_t *node,
                          const ag_graph_param_t *params, uint32_t *width_p)
{
    (void)params;
    *width_p = ag_graph_width(graph, node->in[0]);
    return ag_graph_counter(graph, node->in[0]) == AG_COUNT_OUTPUTS &&
           ag_graph_counter(graph, node->out) == AG_COUNT_TOKENS;
}

void ag_select_grad_run(const ag_graph_run_t *run, const ag_node_t *node,
                        const ag_kernel_context_t *context)
{
    ag_kernel_select_rows_grad(context, ag_run_data(run, context, node->in[0]),
                               ag_graph_width(run->graph, node->in[0]),
                               ag_run_data(run, context, node->out));
}
