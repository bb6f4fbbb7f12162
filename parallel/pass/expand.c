/* From a schedule to segments and messages. */
#include <stdio.h>
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"
#include "parallel/schedule/schedule.h"

enum { MOST_USES = 5 }; /* of a part */

/* The buffers of a rank, and where its emission stands. */
typedef struct rank_state {
    uint32_t x, partial, logits;
    uint32_t routes, n_sent, sent, n_received, received; /* where ranks share experts out */
    bool pending; /* partial holds what has yet to be added to x */
} rank_state_t;

typedef struct expand {
    ag_program_t *program;
    ag_build_t *build;
    rank_state_t *ranks;
    uint16_t chunk, micro_batch;
} expand_t;

static ag_block_t block_of(const expand_t *expand, uint32_t rank)
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
        .first_layer = expand->build->plan->stages[build->place.stage].layer_begin,
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
        return ag_block_ffn(block, part->layer, graph);
    case AG_PART_ROUTE:
        return ag_block_route(block, part->layer, graph);
    case AG_PART_EXPERTS:
        return ag_block_experts(block, part->layer, graph);
    case AG_PART_COMBINE:
        return ag_block_combine(block, part->layer, graph);
    case AG_PART_ADD:
        return ag_block_add(block, graph);
    case AG_PART_HEAD:
        return ag_block_head(block, graph);
    default:
        return ag_block_loss(block, graph);
    }
}

static ag_status_t emit_part(const expand_t *expand, uint32_t rank, const ag_part_t *part,
                             ag_graph_t *graph)
{
    ag_block_t block = block_of(expand, rank);

    return ag_expand_emit(&block, part, expand->ranks[rank].pending, graph);
}

/* Of a part among the three of experts that ranks share out. @return 0: it is none. */
static uint32_t expert_uses(const rank_state_t *state, const ag_part_t *part, ag_use_t *uses)
{
    const uint32_t r = AG_USE_READ, w = AG_USE_WRITE;
    uint32_t n = 0;

    switch (part->kind) {
    case AG_PART_ROUTE:
        uses[n++] = (ag_use_t){state->x, r | w};
        uses[n++] = (ag_use_t){state->partial, r};
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
        uses[n++] = (ag_use_t){state->partial, w | AG_USE_SHARE};
        break;
    default:
        break;
    }
    return n;
}

/* The buffers that a part reads and writes; partial sums where several ranks hold shares. */
static uint32_t part_uses(const expand_t *expand, uint32_t rank, const ag_part_t *part,
                          ag_use_t uses[MOST_USES])
{
    const rank_state_t *state = &expand->ranks[rank];
    const ag_shard_t *shard = &expand->build->ranks[rank].shard;
    uint32_t sum = shard->n_ranks > 1 ? AG_USE_PARTIAL : 0;
    bool adds = state->pending;
    uint32_t n = expert_uses(state, part, uses);

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

ag_status_t ag_expand_graph(ag_graph_t **graph_p)
{
    *graph_p = malloc(sizeof(**graph_p));
    if (*graph_p == NULL) {
        return ag_fail_nomem("building a segment", sizeof(**graph_p));
    }
    ag_graph_init(*graph_p);
    return AG_OK;
}

static ag_status_t add_segment_op(const expand_t *expand, uint32_t rank, const ag_part_t *part,
                                  ag_graph_t *graph, const ag_use_t *uses, uint32_t n_uses)
{
    ag_op_t op = {.kind = AG_OP_SEGMENT,
                  .stream = part->kind == AG_PART_COLLECT ? AG_STREAM_COLLECT : AG_STREAM_COMPUTE,
                  .chunk = expand->chunk,
                  .micro_batch = expand->micro_batch,
                  .peer = -1};
    ag_status_t status = ag_program_add_segment(expand->program, rank, part, graph, &op.subject);

    return status == AG_OK ? ag_program_add_op(expand->program, rank, &op, uses, n_uses) : status;
}

static ag_status_t add_part(expand_t *expand, uint32_t rank, ag_part_kind_t kind, uint32_t layer)
{
    ag_part_t part = {kind, layer};
    ag_use_t uses[MOST_USES];
    uint32_t n_uses = part_uses(expand, rank, &part, uses);
    ag_graph_t *graph;
    ag_status_t status = ag_expand_graph(&graph);

    if (status != AG_OK) {
        return status;
    }
    status = emit_part(expand, rank, &part, graph);
    if (status != AG_OK) {
        expand->program->free_inside(graph);
        return status;
    }
    expand->ranks[rank].pending =
        kind == AG_PART_ATTN || kind == AG_PART_FFN || kind == AG_PART_COMBINE;
    return add_segment_op(expand, rank, &part, graph, uses, n_uses);
}

static ag_status_t add_message(const expand_t *expand, uint32_t from, uint32_t from_buffer,
                               uint32_t to, uint32_t to_buffer)
{
    const ag_buffer_t *buffer =
        &AG_ITEMS(&expand->program->ranks[from].buffers, ag_buffer_t)[from_buffer];
    ag_op_t op = {.kind = AG_OP_SEND,
                  .stream = AG_STREAM_OUT,
                  .counter = (uint8_t)buffer->counter,
                  .chunk = expand->chunk,
                  .micro_batch = expand->micro_batch,
                  .unit_bytes = buffer->unit_bytes,
                  .peer = (int32_t)to,
                  .channel = AG_LINK_CHANNEL};
    ag_status_t status =
        ag_program_add_op(expand->program, from, &op, &(ag_use_t){from_buffer, AG_USE_READ}, 1);

    op.kind = AG_OP_RECV;
    op.stream = AG_STREAM_IN;
    op.peer = (int32_t)from;
    return status == AG_OK ? ag_program_add_op(expand->program, to, &op,
                                               &(ag_use_t){to_buffer, AG_USE_WRITE}, 1)
                           : status;
}

/* A layout in which every rank of a replica holds the whole residual stream. */
static ag_status_t replica_ranges(const ag_build_t *build, const ag_replica_t *replica,
                                  ag_array_t *ranges)
{
    ag_range_t range = {0, build->model->spec->hidden};
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < replica->n_ranks && status == AG_OK; i++) {
        status = ag_array_append(ranges, &range, 1);
    }
    return status;
}

ag_status_t ag_expand_copies(const ag_build_t *build, const ag_replica_t *from,
                             const ag_replica_t *to, ag_array_t *copies)
{
    uint64_t hidden = build->model->spec->hidden;
    ag_array_t from_ranges = AG_ARRAY(ag_range_t), to_ranges = AG_ARRAY(ag_range_t);
    ag_status_t status = replica_ranges(build, from, &from_ranges);

    if (status == AG_OK) {
        status = replica_ranges(build, to, &to_ranges);
    }
    if (status == AG_OK) {
        ag_layout_t a = {hidden, from->n_ranks, from->ranks, AG_ITEMS(&from_ranges, ag_range_t)};
        ag_layout_t b = {hidden, to->n_ranks, to->ranks, AG_ITEMS(&to_ranges, ag_range_t)};

        status = ag_reshard_plan(&a, &b, copies);
    }
    ag_array_fini(&from_ranges);
    ag_array_fini(&to_ranges);
    return status;
}

/* x goes to every rank of the next stage, whatever the two degrees. */
static ag_status_t hand_on(expand_t *expand, const ag_replica_t *from, const ag_replica_t *to)
{
    ag_array_t copies = AG_ARRAY(ag_reshard_copy_t);
    ag_status_t status = ag_expand_copies(expand->build, from, to, &copies);

    for (size_t i = 0; i < copies.n_items && status == AG_OK; i++) {
        const ag_reshard_copy_t *copy = &AG_ITEMS(&copies, ag_reshard_copy_t)[i];

        status = add_message(expand, copy->from_rank, expand->ranks[copy->from_rank].x,
                             copy->to_rank, expand->ranks[copy->to_rank].x);
    }
    ag_array_fini(&copies);
    return status;
}

static ag_status_t add_columns(ag_graph_t *graph, uint32_t from, uint32_t width, uint32_t to,
                               uint32_t to_width, uint64_t column_begin)
{
    ag_node_t node = {
        .kind = AG_NODE_COLUMNS,
        .in = {ag_graph_value(graph, AG_COUNT_OUTPUTS, width, (int32_t)from), AG_NO_VALUE},
        .out = ag_graph_value(graph, AG_COUNT_OUTPUTS, to_width, (int32_t)to),
        .weight = AG_NO_PARAM,
        .bias = AG_NO_PARAM,
        .attr.column_begin = (uint32_t)column_begin};

    return ag_graph_add(graph, &node, NULL);
}

/* Rank 0 gets one shard of the logits: its own, or by a message. @param shard_p its buffer there.
 */
static ag_status_t bring_shard(expand_t *expand, uint32_t from, uint32_t width, uint32_t *shard_p)
{
    ag_status_t status;
    char name[24];

    if (from == 0) {
        *shard_p = expand->ranks[0].logits;
        return AG_OK;
    }
    snprintf(name, sizeof(name), "shard%u", from);
    status = ag_program_add_buffer(expand->program, 0, name, width * sizeof(float), AG_SIZE_OUTPUTS,
                                   shard_p);
    return status == AG_OK ? add_message(expand, from, expand->ranks[from].logits, 0, *shard_p)
                           : status;
}

/* The shards of the logits come to rank 0, which puts them side by side. */
static ag_status_t collect_logits(expand_t *expand, const ag_replica_t *last)
{
    uint32_t vocab = expand->build->model->spec->vocab, n_uses = 0;
    ag_part_t part = {AG_PART_COLLECT, 0};
    ag_use_t *uses = calloc((size_t)last->n_ranks + 1, sizeof(*uses));
    ag_graph_t *graph = NULL;
    uint32_t output;
    ag_status_t status =
        uses == NULL ? ag_fail_nomem("collecting logits", last->n_ranks)
                     : ag_program_add_buffer(expand->program, 0, "output", vocab * sizeof(float),
                                             AG_SIZE_OUTPUTS, &output);

    if (status == AG_OK) {
        status = ag_expand_graph(&graph);
    }
    for (uint32_t i = 0; i < last->n_ranks && status == AG_OK; i++) {
        const ag_shard_t *shard = &expand->build->ranks[last->ranks[i]].shard;
        uint32_t width = shard->vocab_end - shard->vocab_begin, buffer;

        if (width == 0) {
            continue;
        }
        status = bring_shard(expand, last->ranks[i], width, &buffer);
        if (status == AG_OK) {
            uses[n_uses++] = (ag_use_t){buffer, AG_USE_READ};
            status = add_columns(graph, buffer, width, output, vocab, shard->vocab_begin);
        }
    }
    if (status == AG_OK) {
        uses[n_uses++] = (ag_use_t){output, AG_USE_WRITE};
        expand->program->output_buffer = output;
        status = add_segment_op(expand, 0, &part, graph, uses, n_uses);
    } else if (graph != NULL) {
        expand->program->free_inside(graph);
    }
    free(uses);
    return status;
}

/* What experts exchange, where ranks of a stage share them out. */
static ag_status_t add_expert_buffers(expand_t *expand, uint32_t rank)
{
    const ag_spec_t *spec = expand->build->model->spec;
    const ag_shard_t *shard = &expand->build->ranks[rank].shard;
    const ag_expert_shard_t *experts = &shard->experts;
    rank_state_t *state = &expand->ranks[rank];
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

static ag_status_t add_buffers(expand_t *expand, uint32_t rank)
{
    const ag_shard_t *shard = &expand->build->ranks[rank].shard;
    rank_state_t *state = &expand->ranks[rank];
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

/* The feed-forward part of a layer. */
static ag_status_t add_ffn(expand_t *expand, uint32_t rank, uint32_t layer)
{
    ag_block_t block = block_of(expand, rank);
    ag_status_t status;

    if (!ag_block_is_spread(&block, layer)) {
        return add_part(expand, rank, AG_PART_FFN, layer);
    }
    status = add_part(expand, rank, AG_PART_ROUTE, layer);
    if (status == AG_OK) {
        status = add_part(expand, rank, AG_PART_EXPERTS, layer);
    }
    return status == AG_OK ? add_part(expand, rank, AG_PART_COMBINE, layer) : status;
}

static ag_status_t add_layers(expand_t *expand, uint32_t rank, uint32_t stage)
{
    const ag_plan_t *plan = expand->build->plan;
    const ag_stage_t *layers = &plan->stages[stage];
    ag_status_t status = AG_OK;

    if (stage == 0) {
        status = add_part(expand, rank, AG_PART_EMBED, 0);
    }
    for (uint32_t i = layers->layer_begin; i < layers->layer_end && status == AG_OK; i++) {
        status = add_part(expand, rank, AG_PART_ATTN, i);
        if (status == AG_OK) {
            status = add_ffn(expand, rank, i);
        }
    }
    if (status != AG_OK) {
        return status;
    }
    return add_part(expand, rank, stage + 1 == plan->n_stages ? AG_PART_HEAD : AG_PART_ADD, 0);
}

static ag_status_t expand_stage(expand_t *expand, uint32_t stage)
{
    const ag_plan_t *plan = expand->build->plan;
    const ag_replica_t *replica = &plan->stages[stage].replicas[0];
    bool last = stage + 1 == plan->n_stages;
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < replica->n_ranks && status == AG_OK; i++) {
        expand->ranks[replica->ranks[i]].pending = false;
        status = add_layers(expand, replica->ranks[i], stage);
    }
    if (status != AG_OK) {
        return status;
    }
    if (last && replica->n_ranks == 1 && replica->ranks[0] == 0) {
        expand->program->output_buffer = expand->ranks[0].logits;
        return AG_OK;
    }
    return last ? collect_logits(expand, replica)
                : hand_on(expand, replica, &plan->stages[stage + 1].replicas[0]);
}

ag_status_t ag_pass_expand(ag_program_t *program, ag_build_t *build, const ag_schedule_t *schedule)
{
    expand_t expand = {.program = program,
                       .build = build,
                       .ranks = calloc((size_t)build->n_ranks + 1, sizeof(rank_state_t))};
    ag_status_t status = AG_OK;

    if (expand.ranks == NULL) {
        return ag_fail_nomem("expanding a program", build->n_ranks * sizeof(rank_state_t));
    }
    for (uint32_t r = 0; r < build->n_ranks && status == AG_OK; r++) {
        status = add_buffers(&expand, r);
    }
    for (uint32_t s = 0; s < schedule->n_stages && status == AG_OK; s++) {
        const ag_array_t *items = &schedule->stages[s];

        for (size_t i = 0; i < items->n_items && status == AG_OK; i++) {
            const ag_schedule_item_t *item = &AG_ITEMS(items, ag_schedule_item_t)[i];

            expand.chunk = item->chunk;
            expand.micro_batch = item->micro_batch;
            status = expand_stage(&expand, item->chunk);
        }
    }
    free(expand.ranks);
    return status;
}
