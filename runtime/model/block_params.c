/* The weights that a block's nodes ask for, and what becomes of their gradients. */
#include "runtime/model/block_priv.h"

static bool is_experts(ag_role_t role)
{
    static const bool are[AG_N_ROLES] = {
        [AG_ROLE_EXPERT_GATE] = true,    [AG_ROLE_EXPERT_UP] = true,
        [AG_ROLE_EXPERT_DOWN] = true,    [AG_ROLE_EXPERT_GATE_BIAS] = true,
        [AG_ROLE_EXPERT_UP_BIAS] = true, [AG_ROLE_EXPERT_DOWN_BIAS] = true};

    return are[role];
}

/* May ranks that hold the same rows each use them for other work? Query heads of one KV head, or of
 * one norm, a table that is the head, too, rows that each norms, or routes and sends to experts. */
static bool are_parts(const ag_emit_t *emit, ag_role_t role, uint32_t layer)
{
    if (is_experts(role)) {
        return emit->block->shard->experts.n_ranks > 1 || !emit->block->shard->experts.are_alike;
    }
    switch (role) {
    case AG_ROLE_ATTN_NORM:
    case AG_ROLE_ATTN_NORM_BIAS:
    case AG_ROLE_FFN_NORM:
    case AG_ROLE_FFN_NORM_BIAS:
        return emit->block->shard->norms_own_rows;
    case AG_ROLE_ROUTER:
    case AG_ROLE_ROUTER_BIAS:
    case AG_ROLE_SHARED_SCALE:
        return emit->block->shard->n_stage_ranks > 1;
    case AG_ROLE_Q:
    case AG_ROLE_Q_BIAS:
        return emit->block->shard->n_ranks > 1 &&
               ag_spec_layer(ag_emit_spec(emit), layer)->qk_norm == AG_QK_NORM_WHOLE;
    case AG_ROLE_K:
    case AG_ROLE_V:
    case AG_ROLE_K_BIAS:
    case AG_ROLE_V_BIAS:
    case AG_ROLE_Q_NORM:
    case AG_ROLE_K_NORM:
    case AG_ROLE_Q_A:
    case AG_ROLE_Q_A_NORM:
    case AG_ROLE_KV_A:
    case AG_ROLE_KV_A_NORM:
        return emit->block->shard->n_ranks > 1;
    case AG_ROLE_EMBED:
        return ag_emit_spec(emit)->tied;
    default:
        return false;
    }
}

/* Do others of the stage have some of it, so that its gradient is complete when they have met, at a
 * step's end? Of experts that is as wherever they are; of the table of the last stage's. */
static bool is_common(const ag_emit_t *emit, ag_role_t role, uint32_t layer,
                      const ag_slice_t *slice)
{
    const ag_shard_t *shard = emit->block->shard;
    bool is_whole = slice->row_end - slice->row_begin == slice->rows &&
                    slice->col_end - slice->col_begin == slice->cols;

    switch (role) {
    case AG_ROLE_EMBED:
        return false;
    case AG_ROLE_K:
    case AG_ROLE_V:
    case AG_ROLE_K_BIAS:
    case AG_ROLE_V_BIAS:
        return is_whole || shard->layers[ag_emit_spec(emit)->kind_of_layer[layer]].shares_kv;
    default:
        return is_whole && !is_experts(role);
    }
}

int32_t ag_emit_param(ag_emit_t *emit, ag_role_t role, uint32_t layer, const ag_slice_t *slice)
{
    ag_slice_t asked = *slice;
    int32_t number = AG_NO_PARAM;

    asked.grads_are_parts = are_parts(emit, role, layer);
    asked.is_common = asked.grads_are_parts && is_common(emit, role, layer, slice);
    asked.spans_replicas = is_experts(role) && !emit->block->shard->experts.are_alike;
    if (emit->status == AG_OK) {
        emit->status =
            ag_params_add(emit->block->params, emit->block->model, role, layer, &asked, &number);
    }
    return number;
}

/* rows [begin, end) of a (rows, cols) weight */
int32_t ag_emit_rows_param(ag_emit_t *emit, ag_role_t role, uint32_t layer, uint64_t rows,
                           uint64_t begin, uint64_t end, uint64_t cols)
{
    return ag_emit_param(
        emit, role, layer,
        &(ag_slice_t){
            .rows = rows, .cols = cols, .row_begin = begin, .row_end = end, .col_end = cols});
}

int32_t ag_emit_cols_param(ag_emit_t *emit, ag_role_t role, uint32_t layer, uint64_t rows,
                           uint64_t cols, uint64_t begin, uint64_t end)
{
    return ag_emit_param(
        emit, role, layer,
        &(ag_slice_t){
            .rows = rows, .cols = cols, .row_end = rows, .col_begin = begin, .col_end = end});
}

int32_t ag_emit_vector_param(ag_emit_t *emit, bool present, ag_role_t role, uint32_t layer,
                             uint64_t n, uint64_t begin, uint64_t end)
{
    if (!present) {
        return AG_NO_PARAM;
    }
    return ag_emit_param(emit, role, layer,
                         &(ag_slice_t){.cols = n, .col_begin = begin, .col_end = end});
}
