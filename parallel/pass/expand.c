/* From a schedule to segments and messages. */
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"
#include "parallel/schedule/schedule.h"

ag_status_t ag_expand_graph(ag_graph_t **graph_p)
{
    *graph_p = malloc(sizeof(**graph_p));
    if (*graph_p == NULL) {
        return ag_fail_nomem("building a segment", sizeof(**graph_p));
    }
    ag_graph_init(*graph_p);
    return AG_OK;
}

ag_status_t ag_expand_segment(const ag_expand_t *expand, uint32_t rank, const ag_part_t *part,
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

static ag_status_t add_part(ag_expand_t *expand, uint32_t rank, ag_part_kind_t kind, uint32_t layer)
{
    ag_part_t part = {kind, layer};
    ag_use_t uses[AG_EXPAND_USES];
    uint32_t n_uses = ag_expand_uses(expand, rank, &part, uses);
    ag_graph_t *graph;
    ag_status_t status = ag_expand_graph(&graph);

    if (status != AG_OK) {
        return status;
    }
    status = ag_expand_emit_part(expand, rank, &part, graph);
    if (status != AG_OK) {
        expand->program->free_inside(graph);
        return status;
    }
    expand->ranks[rank].pending =
        kind == AG_PART_ATTN || kind == AG_PART_FFN || kind == AG_PART_COMBINE;
    return ag_expand_segment(expand, rank, &part, graph, uses, n_uses);
}

ag_status_t ag_expand_message(const ag_expand_t *expand, uint32_t from, uint32_t from_buffer,
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
static ag_status_t hand_on(ag_expand_t *expand, const ag_replica_t *from, const ag_replica_t *to)
{
    ag_array_t copies = AG_ARRAY(ag_reshard_copy_t);
    ag_status_t status = ag_expand_copies(expand->build, from, to, &copies);

    for (size_t i = 0; i < copies.n_items && status == AG_OK; i++) {
        const ag_reshard_copy_t *copy = &AG_ITEMS(&copies, ag_reshard_copy_t)[i];

        status = ag_expand_message(expand, copy->from_rank, expand->ranks[copy->from_rank].x,
                                   copy->to_rank, expand->ranks[copy->to_rank].x);
    }
    ag_array_fini(&copies);
    return status;
}

/* The feed-forward part of a layer. */
static ag_status_t add_ffn(ag_expand_t *expand, uint32_t rank, uint32_t layer)
{
    ag_block_t block = ag_expand_block(expand, rank);
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

static ag_status_t add_layers(ag_expand_t *expand, uint32_t rank, uint32_t stage)
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

static ag_status_t expand_stage(ag_expand_t *expand, uint32_t stage)
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
    return last ? ag_expand_logits(expand, replica)
                : hand_on(expand, replica, &plan->stages[stage + 1].replicas[0]);
}

ag_status_t ag_pass_expand(ag_program_t *program, ag_build_t *build, const ag_schedule_t *schedule)
{
    ag_expand_t expand = {.program = program,
                          .build = build,
                          .ranks = calloc((size_t)build->n_ranks + 1, sizeof(ag_expand_rank_t))};
    ag_status_t status = AG_OK;

    if (expand.ranks == NULL) {
        return ag_fail_nomem("expanding a program", build->n_ranks * sizeof(ag_expand_rank_t));
    }
    for (uint32_t r = 0; r < build->n_ranks && status == AG_OK; r++) {
        status = ag_expand_buffers(&expand, r);
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
