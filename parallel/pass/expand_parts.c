/* Parts of the model in a program of inference: their graphs, and what they do to buffers. */
#include "parallel/pass/expand_priv.h"

ag_block_t ag_expand_block(const ag_expand_t *expand, uint32_t rank)
{
    const ag_rank_build_t *build = &expand->build->ranks[rank];

    return (ag_block_t){
        .model = expand->build->model,
        .shard = &build->shard,
        .params = &expand->build->ranks[rank].params,
        .x = (int32_t)expand->ranks[rank].x,
        .partial = (int32_t)expand->ranks[rank].partial,
        .logits = (int32_t)expand->ranks[rank].logits,
        .routes = (int32_t)expand->ranks[rank].routes,
        .n_sent = (int32_t)expand->ranks[rank].n_sent,
        .sent = (int32_t)expand->ranks[rank].sent,
        .n_received = (int32_t)expand->ranks[rank].n_received,
        .received = (int32_t)expand->ranks[rank].received,
        .results = (int32_t)expand->ranks[rank].received,
        .returned = (int32_t)expand->ranks[rank].sent,
        .context_tokens = expand->build->plan->context_tokens,
        .first_layer = expand->build->plan->stages[build->place.stage].layer_begin,
        .last_layer = expand->build->plan->stages[build->place.stage].layer_end - 1,
    };
}

ag_status_t ag_expand_emit(const ag_block_t *block, const ag_part_t *part, bool pending,
                           ag_graph_t *graph)
{
    switch (part->kind) {
    case AG_PART_EMBED:
        return ag_block_embed(block, graph);
    case AG_PART_ATTN:
        return ag_block_attention(block, part->layer, pending, graph);
    case AG_PART_FFN:
        return ag_block_ffn(block, part->layer, pending, graph);
    case AG_PART_ROUTE:
        return ag_block_route(block, part->layer, pending, graph);
    case AG_PART_EXPERTS:
        return ag_block_experts(block, part->layer, graph);
    case AG_PART_COMBINE:
        return ag_block_combine(block, part->layer, graph);
    case AG_PART_ATTN_ADD:
        return ag_block_add_attention(block, part->layer, graph);
    case AG_PART_FFN_ADD:
        return ag_block_add_ffn(block, part->layer, graph);
    case AG_PART_ADD:
        return ag_block_add(block, graph);
    case AG_PART_HEAD:
        return ag_block_head(block, graph);
    default:
        return ag_block_loss(block, graph);
    }
}

ag_status_t ag_expand_emit_part(const ag_expand_t *expand, uint32_t rank, const ag_part_t *part,
                                ag_graph_t *graph)
{
    ag_block_t block = ag_expand_block(expand, rank);

    return ag_expand_emit(&block, part, expand->ranks[rank].pending, graph);
}

/* Of a part among the three of experts that ranks share out. @return 0: it is none. */
static uint32_t expert_uses(const ag_expand_t *expand, uint32_t rank, const ag_part_t *part,
                            ag_use_t *uses)
{
    const uint32_t r = AG_USE_READ, w = AG_USE_WRITE;
    const ag_expand_rank_t *state = &expand->ranks[rank];
    bool has_shared = ag_spec_layer(expand->build->model->spec, part->layer)->shared_width > 0;
    uint32_t n = 0;

    switch (part->kind) {
    case AG_PART_ROUTE:
        uses[n++] = (ag_use_t){state->x, r | w};
        uses[n++] = (ag_use_t){state->partial, r | (has_shared ? w : 0)};
        uses[n++] = (ag_use_t){state->routes, w};
        uses[n++] = (ag_use_t){state->n_sent, w};
        uses[n++] = (ag_use_t){state->sent, w};
        break;
    case AG_PART_EXPERTS:
        uses[n++] = (ag_use_t){state->n_received, r};
        uses[n++] = (ag_use_t){state->received, r | w};
        break;
    case AG_PART_COMBINE:
        uses[n++] = (ag_use_t){state->sent, r};
        uses[n++] = (ag_use_t){state->routes, r};
        uses[n++] =
            (ag_use_t){state->partial, has_shared ? r | w | AG_USE_PARTIAL : w | AG_USE_SHARE};
        break;
    default:
        break;
    }
    return n;
}

/* The buffers that a part reads and writes; partial sums where several ranks hold shares. */
uint32_t ag_expand_uses(const ag_expand_t *expand, uint32_t rank, const ag_part_t *part,
                        ag_use_t uses[AG_EXPAND_USES])
{
    const ag_expand_rank_t *state = &expand->ranks[rank];
    const ag_shard_t *shard = &expand->build->ranks[rank].shard;
    uint32_t sum = shard->n_ranks > 1 ? AG_USE_PARTIAL : 0;
    bool adds = state->pending;
    uint32_t n = expert_uses(expand, rank, part, uses);

    if (n > 0) {
        return n;
    }
    if (part->kind == AG_PART_EMBED) { /* the vocabulary is all ranks' */
        uses[n++] =
            (ag_use_t){state->x, AG_USE_WRITE | (shard->n_stage_ranks > 1 ? AG_USE_PARTIAL : 0)};
        return n;
    }
    uses[n++] = (ag_use_t){state->x, AG_USE_READ | (adds ? AG_USE_WRITE : 0)};
    if (part->kind == AG_PART_ATTN || part->kind == AG_PART_FFN) {
        uses[n++] = (ag_use_t){state->partial, (adds ? AG_USE_READ : 0) | AG_USE_WRITE | sum};
    } else {
        uses[n++] = (ag_use_t){state->partial, AG_USE_READ};
    }
    if (part->kind == AG_PART_HEAD) {
        uses[n++] = (ag_use_t){state->logits, AG_USE_WRITE};
    }
    return n;
}

/* What experts exchange, where ranks of a stage share them out. */
static ag_status_t add_expert_buffers(ag_expand_t *expand, uint32_t rank)
{
    const ag_spec_t *spec = expand->build->model->spec;
    const ag_shard_t *shard = &expand->build->ranks[rank].shard;
    const ag_expert_shard_t *experts = &shard->experts;
    ag_expand_rank_t *state = &expand->ranks[rank];
    uint64_t row_bytes = spec->hidden * sizeof(float);
    uint64_t route_bytes = ag_route_width(ag_spec_experts(spec).n_used) * sizeof(float);
    const struct {
        const char *name;
        uint64_t unit_bytes;
        ag_size_counter_t counter;
        uint32_t *buffer_p;
    } buffers[] = {
        {"routes", route_bytes, AG_SIZE_TOKENS, &state->routes},
        {"n_sent", experts->n_places * sizeof(uint32_t), AG_SIZE_ONE, &state->n_sent},
        {"sent", row_bytes, AG_SIZE_SENT, &state->sent},
        {"n_received", (uint64_t)experts->n_ranks * experts->n_held * sizeof(uint32_t), AG_SIZE_ONE,
         &state->n_received},
        {"received", row_bytes, AG_SIZE_RECEIVED, &state->received},
    };
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]) && status == AG_OK; i++) {
        status =
            ag_program_add_buffer(expand->program, rank, buffers[i].name, buffers[i].unit_bytes,
                                  buffers[i].counter, buffers[i].buffer_p);
    }
    return status;
}

ag_status_t ag_expand_buffers(ag_expand_t *expand, uint32_t rank)
{
    const ag_shard_t *shard = &expand->build->ranks[rank].shard;
    ag_expand_rank_t *state = &expand->ranks[rank];
    uint64_t row_bytes = expand->build->model->spec->hidden * sizeof(float);
    uint64_t logits_bytes = (shard->vocab_end - shard->vocab_begin) * sizeof(float);
    ag_status_t status =
        ag_program_add_buffer(expand->program, rank, "x", row_bytes, AG_SIZE_TOKENS, &state->x);

    if (status == AG_OK) {
        status = ag_program_add_buffer(expand->program, rank, "p", row_bytes, AG_SIZE_TOKENS,
                                       &state->partial);
    }
    if (status == AG_OK &&
        expand->build->ranks[rank].place.stage + 1 == expand->build->plan->n_stages) {
        status = ag_program_add_buffer(expand->program, rank, "logits", logits_bytes,
                                       AG_SIZE_OUTPUTS, &state->logits);
    }
    return status == AG_OK && shard->experts.n_ranks > 1 ? add_expert_buffers(expand, rank)
                                                         : status;
}
