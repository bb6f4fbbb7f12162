/*
 * From the schedules of the replicas to a training program. Of a stage with layers 0 and 1:
 *
 *     forward    [embed | RECV x] attn L0, ffn L0, attn L1, ffn L1, add [SEND x]
 *     backward   [head, loss, head_b, head_nb | RECV dx]
 *                ffn_b L1, ffn_nb L1, attn_b L1, attn_nb L1, ffn_b L0, ... [embed_b | SEND dx]
 *
 * What a micro-batch leaves for its gradients is in a slot that it has from its forward item to its
 * backward one, so that a stage keeps as much as its schedule has on the way. The head is computed
 * when its gradients are due. A part's gradients end before its norm's, which read a sum over the
 * stage's ranks.
 *
 * A program that evaluates has the forward items alone, with the head behind the last chunk's.
 */
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"
#include "parallel/schedule/schedule.h"

/* This rank's messages from one chunk to the next, or back, of the same replica. */
static ag_status_t exchange(const ag_train_item_t *item, uint32_t from_chunk, uint32_t to_chunk,
                            ag_op_kind_t kind, uint32_t buffer)
{
    const ag_train_t *train = item->train;
    const ag_plan_t *plan = train->build->plan;
    uint32_t rank = item->rank->rank, replica = train->build->ranks[rank].place.replica;
    const ag_buffer_t *moved = &AG_ITEMS(&train->program->ranks[rank].buffers, ag_buffer_t)[buffer];
    ag_use_t use = {buffer, kind == AG_OP_SEND ? AG_USE_READ : AG_USE_WRITE};
    ag_op_t op = {.kind = (uint8_t)kind,
                  .stream = kind == AG_OP_SEND ? AG_STREAM_OUT : AG_STREAM_IN,
                  .counter = (uint8_t)moved->counter,
                  .chunk = train->chunk,
                  .micro_batch = train->micro_batch,
                  .unit_bytes = moved->unit_bytes,
                  .channel = from_chunk < to_chunk ? AG_LINK_CHANNEL : AG_BACK_CHANNEL};
    ag_array_t copies = AG_ARRAY(ag_reshard_copy_t);
    ag_status_t status =
        ag_expand_copies(train->build, &plan->stages[from_chunk % plan->n_stages].replicas[replica],
                         &plan->stages[to_chunk % plan->n_stages].replicas[replica], &copies);

    for (size_t i = 0; i < copies.n_items && status == AG_OK; i++) {
        const ag_reshard_copy_t *copy = &AG_ITEMS(&copies, ag_reshard_copy_t)[i];

        if ((kind == AG_OP_SEND ? copy->from_rank : copy->to_rank) == rank) {
            op.peer = (int32_t)(kind == AG_OP_SEND ? copy->to_rank : copy->from_rank);
            status = ag_program_add_op(train->program, rank, &op, &use, 1);
        }
    }
    ag_array_fini(&copies);
    return status;
}

static ag_status_t forward_item(ag_train_item_t *item)
{
    ag_train_chunk_t *chunk = item->chunk;
    ag_status_t status = ag_train_take_slot(item->train, item->rank->rank, chunk,
                                            item->train->micro_batch, &item->slot);

    if (status != AG_OK) {
        return status;
    }
    ag_train_forget_norms(item->rank);
    if (!chunk->last) {
        item->slot->output = chunk->out[chunk->n_inputs % 2];
    }
    status = chunk->first
                 ? ag_train_simple_part(item, AG_PART_EMBED, item->slot->input, item->slot->input,
                                        item->slot->input)
                 : exchange(item, chunk->number - 1u, chunk->number, AG_OP_RECV, item->slot->input);
    for (uint32_t i = 0; i < ag_train_n_parts(item) && status == AG_OK; i++) {
        status = ag_train_forward_part(item, i);
    }
    if (status == AG_OK && !ag_train_norms_after(item->train, chunk->layers.end - 1)) {
        item->rank->partial = item->rank->p;
        item->rank->last_layer = chunk->layers.end - 1;
        status =
            ag_train_simple_part(item, AG_PART_ADD, ag_train_x_of(item, ag_train_n_parts(item) - 1),
                                 item->slot->output, AG_NO_BUFFER);
    }
    if (status == AG_OK && item->train->evaluates) {
        item->slot->is_taken = false;
        status = chunk->last ? ag_train_head_parts(item) : AG_OK;
    }
    return status == AG_OK && !chunk->last
               ? exchange(item, chunk->number, chunk->number + 1u, AG_OP_SEND, item->slot->output)
               : status;
}

static ag_train_slot_t *slot_of(const ag_train_chunk_t *chunk, uint16_t micro_batch)
{
    ag_train_slot_t *slots = AG_ITEMS(&chunk->slots, ag_train_slot_t);
    size_t i = 0;

    while (!slots[i].is_taken || slots[i].micro_batch != micro_batch) {
        i++;
    }
    return &slots[i];
}

static ag_status_t backward_item(ag_train_item_t *item)
{
    ag_train_chunk_t *chunk = item->chunk;
    ag_status_t status;

    ag_train_forget_norms(item->rank);
    item->slot = slot_of(chunk, item->train->micro_batch);
    item->dx = chunk->dx[chunk->n_outputs++ % 2];
    if (ag_train_splits(item->train)) {
        status = ag_train_take_handed(item->train, item->rank->rank, chunk, item->slot);
        if (status != AG_OK) {
            return status;
        }
    }
    status = chunk->last ? ag_train_head_parts(item)
                         : exchange(item, chunk->number + 1u, chunk->number, AG_OP_RECV, item->dx);
    for (uint32_t i = ag_train_n_parts(item); i > 0 && status == AG_OK; i -= 2) {
        status = ag_train_backward_layer(item, i - 2);
    }
    if (status == AG_OK) {
        status = chunk->first
                     ? ag_train_embed_backward(item)
                     : exchange(item, chunk->number, chunk->number - 1u, AG_OP_SEND, item->dx);
    }
    item->slot->is_taken = ag_train_splits(item->train);
    return status;
}

/* Gradients of weights, where they are not those of their inputs' item. */
static ag_status_t weight_item(ag_train_item_t *item)
{
    ag_status_t status = AG_OK;

    ag_train_forget_norms(item->rank);
    item->slot = slot_of(item->chunk, item->train->micro_batch);
    for (uint32_t i = ag_train_n_parts(item); i > 0 && status == AG_OK; i--) {
        status = ag_train_weights_part(item, i - 1);
    }
    ag_train_give_handed(item->chunk, item->slot);
    item->slot->is_taken = false;
    return status;
}

/* The most micro-batches that are between their forward and their last item of a chunk. */
static uint32_t most_on_the_way(const ag_array_t *items, uint32_t chunk, ag_work_t last)
{
    uint32_t n = 0, most = 0;

    for (size_t i = 0; i < items->n_items; i++) {
        const ag_schedule_item_t *item = &AG_ITEMS(items, ag_schedule_item_t)[i];

        n += item->chunk != chunk            ? 0
             : item->work == AG_WORK_FORWARD ? 1
             : item->work == (uint16_t)last  ? UINT32_MAX
                                             : 0;
        most = n > most ? n : most;
    }
    return most;
}

/* A stage's list on one rank of a replica. */
static ag_status_t expand_rank(ag_train_t *train, uint32_t rank, const ag_schedule_t *schedule)
{
    const ag_plan_t *plan = train->build->plan;
    ag_place_t place = train->build->ranks[rank].place;
    const ag_array_t *items = &schedule->stages[place.stage];
    ag_train_item_t item = {.train = train, .rank = &train->ranks[rank]};
    ag_status_t status = ag_train_add_zero(train, rank);

    for (uint32_t i = 0; i < item.rank->n_chunks; i++) {
        item.rank->chunks[i].n_slots =
            train->evaluates
                ? 1
                : most_on_the_way(items, item.rank->chunks[i].number,
                                  ag_train_splits(train) ? AG_WORK_WEIGHT : AG_WORK_BACKWARD);
    }
    for (size_t i = 0; i < items->n_items && status == AG_OK; i++) {
        const ag_schedule_item_t *of = &AG_ITEMS(items, ag_schedule_item_t)[i];

        item.chunk = &item.rank->chunks[of->chunk / plan->n_stages];
        item.dx = item.chunk->dx[0]; /* that of a forward item is not used */
        train->chunk = of->chunk;
        train->micro_batch = (uint16_t)(of->micro_batch + ag_plan_first_turn(plan, place.replica));
        if (of->work == AG_WORK_FORWARD) {
            status = forward_item(&item);
        } else if (!train->evaluates) {
            status = of->work == AG_WORK_BACKWARD ? backward_item(&item) : weight_item(&item);
        }
    }
    train->chunk = train->micro_batch = 0;
    return status == AG_OK ? ag_train_add_update(train, rank) : status;
}

ag_status_t ag_pass_expand_train(ag_program_t *program, ag_build_t *build, bool evaluates)
{
    const ag_plan_t *plan = build->plan;
    const ag_schedule_info_t *info;
    ag_train_t train = {0};
    ag_status_t status = ag_schedule_find(plan->train.schedule, &info);

    if (status == AG_OK) {
        status = ag_train_init(program, build, evaluates, &train);
    }
    for (uint32_t replica = 0; replica < plan->stages[0].n_replicas && status == AG_OK; replica++) {
        ag_pipeline_shape_t shape = {.stages = plan->n_stages,
                                     .micro_batches = plan->stages[0].replicas[replica].turns,
                                     .virtual_stages = plan->train.virtual_stages};
        ag_schedule_t *schedule = NULL;

        status = info->generate(&shape, &schedule);
        if (status == AG_OK && ag_train_splits(&train)) {
            status = ag_schedule_split_backward(schedule);
        }
        for (uint32_t r = 0; r < build->n_ranks && status == AG_OK; r++) {
            if (build->ranks[r].place.replica == replica) {
                status = expand_rank(&train, r, schedule);
            }
        }
        ag_schedule_destroy(schedule);
    }
    program->output_buffer = status == AG_OK ? train.ranks[0].totals : 0;
    ag_train_fini(&train);
    return status;
}
