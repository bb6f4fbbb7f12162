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
 */
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"
#include "parallel/schedule/schedule.h"

/* One item of a schedule on one rank. */
typedef struct item {
    ag_train_t *train;
    ag_train_rank_t *rank;
    ag_train_chunk_t *chunk;
    ag_train_slot_t *slot;
    uint32_t dx; /* the buffer of the residual stream's gradient */
} item_t;

void ag_train_graphs_fini(const ag_train_t *train, ag_train_graphs_t *graphs)
{
    ag_graph_t *all[] = {graphs->forward, graphs->first, graphs->second};

    for (int i = 0; i < 3; i++) {
        if (all[i] != NULL) {
            train->program->free_inside(all[i]);
        }
    }
}

ag_status_t ag_train_graphs_init(ag_train_graphs_t *graphs)
{
    ag_status_t status = ag_expand_graph(&graphs->forward);

    if (status == AG_OK) {
        status = ag_expand_graph(&graphs->first);
    }
    return status == AG_OK ? ag_expand_graph(&graphs->second) : status;
}

static uint32_t n_parts(const item_t *item)
{
    return 2 * (item->chunk->layers.end - item->chunk->layers.begin);
}

/* Of a chunk's parts, attention and feed-forward part of each layer in turn. */
static ag_part_t part_of(const item_t *item, uint32_t number)
{
    return (ag_part_t){number % 2 == 0 ? AG_PART_ATTN : AG_PART_FFN,
                       item->chunk->layers.begin + number / 2};
}

/* What a part's norm reads: the residual stream, with p added where there is any. */
static uint32_t x_of(const item_t *item, uint32_t number)
{
    return number == 0 ? item->slot->input : item->slot->x[number];
}

static ag_status_t add(const item_t *item, ag_part_kind_t kind, uint32_t layer, ag_graph_t **graph,
                       uint32_t sum)
{
    ag_part_t part = {kind, layer};
    ag_graph_t *added = *graph;

    *graph = NULL;
    return ag_train_add(item->train, item->rank->rank, &part, added, sum);
}

static bool computes_again(const item_t *item)
{
    return item->train->build->plan->train.recompute;
}

/* What a layer's part keeps lies each time where it lay the first time.
 * @param pending  p has yet to be added to what the part reads. */
static ag_status_t differentiate(const item_t *item, uint32_t number, bool pending,
                                 ag_train_graphs_t *graphs)
{
    uint32_t x = x_of(item, number), before = pending ? x_of(item, number - 1) : x;
    ag_part_t part = part_of(item, number);
    const ag_backward_grad_t grads[] = {{(int32_t)x, (int32_t)item->dx, true},
                                        {(int32_t)before, (int32_t)item->dx, false},
                                        {(int32_t)item->rank->partial, (int32_t)item->dx, true}};
    ag_backward_opts_t opts = {.grads = grads, .n_grads = 3, .cut_buffer = (int32_t)item->rank->dn};
    ag_train_keeper_t keeper = {item->train, item->rank};
    ag_status_t status = ag_train_graphs_init(graphs);

    ag_train_bind(&keeper, &opts);
    item->rank->kept_buffer = item->slot->kept[number];
    item->rank->kept_bytes = 0;
    item->rank->pending = pending;
    if (status == AG_OK) {
        status = ag_train_emit(item->train, item->rank->rank, &part, before, x, graphs->forward);
    }
    return status == AG_OK
               ? ag_graph_backward(graphs->forward, &opts, graphs->first, graphs->second)
               : status;
}

/* Is it the feed-forward part of a layer whose experts several ranks hold? */
static bool find_spread(const item_t *item, uint32_t number, ag_train_spread_t *spread)
{
    ag_part_t part = part_of(item, number);

    if (part.kind != AG_PART_FFN ||
        !ag_train_is_spread(item->train, item->rank->rank, part.layer)) {
        return false;
    }
    *spread = (ag_train_spread_t){.train = item->train,
                                  .rank = item->rank,
                                  .experts = &item->slot->experts[number / 2],
                                  .layer = part.layer,
                                  .before = x_of(item, number - 1),
                                  .x = x_of(item, number),
                                  .dx = item->dx,
                                  .kept = item->slot->kept[number]};
    return true;
}

static ag_status_t forward_part(const item_t *item, uint32_t number)
{
    ag_part_t part = part_of(item, number);
    ag_train_spread_t spread;
    uint32_t x = x_of(item, number), before = number > 0 ? x_of(item, number - 1) : x;
    ag_train_graphs_t graphs = {0};
    ag_status_t status;

    if (find_spread(item, number, &spread)) {
        return ag_train_spread_forward(&spread, !computes_again(item), true);
    }
    if (computes_again(item)) {
        item->rank->pending = number > 0;
        status = ag_expand_graph(&graphs.forward);
        if (status == AG_OK) {
            status = ag_train_emit(item->train, item->rank->rank, &part, before, x, graphs.forward);
        }
    } else {
        status = differentiate(item, number, number > 0, &graphs);
    }
    if (status == AG_OK) {
        status = add(item, part.kind, part.layer, &graphs.forward, item->rank->partial);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

/* A part once more, from what was kept of the layer: attention reads that itself, and nobody reads
 * what the feed-forward part makes. */
static ag_status_t forward_again(const item_t *item, uint32_t number)
{
    ag_part_t part = part_of(item, number);
    bool is_ffn = part.kind == AG_PART_FFN;
    ag_train_graphs_t graphs = {0};
    ag_train_spread_t spread;
    ag_status_t status;

    if (find_spread(item, number, &spread)) {
        return ag_train_spread_forward(&spread, true, false);
    }
    status = differentiate(item, number, is_ffn, &graphs);
    if (status == AG_OK && is_ffn) {
        status = ag_graph_drop(graphs.forward, (int32_t)item->rank->partial);
    }
    if (status == AG_OK) {
        status = add(item, part.kind, part.layer, &graphs.forward,
                     is_ffn ? AG_NO_BUFFER : item->rank->partial);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

static ag_status_t backward_part(const item_t *item, uint32_t number)
{
    ag_part_t part = part_of(item, number);
    bool is_attn = part.kind == AG_PART_ATTN;
    bool pending = number > 0 && (!is_attn || !computes_again(item));
    ag_train_graphs_t graphs = {0};
    ag_train_spread_t spread;
    ag_status_t status;

    if (find_spread(item, number, &spread)) {
        return ag_train_spread_backward(&spread);
    }
    status = differentiate(item, number, pending, &graphs);
    if (status == AG_OK) {
        status = add(item, is_attn ? AG_PART_ATTN_B : AG_PART_FFN_B, part.layer, &graphs.first,
                     item->rank->dn);
    }
    if (status == AG_OK) {
        status = add(item, is_attn ? AG_PART_ATTN_NORM_B : AG_PART_FFN_NORM_B, part.layer,
                     &graphs.second, AG_NO_BUFFER);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

/* @param number  of the layer's first part. */
static ag_status_t backward_layer(const item_t *item, uint32_t number)
{
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < 2 && computes_again(item) && status == AG_OK; i++) {
        status = forward_again(item, number + i);
    }
    for (uint32_t i = 2; i > 0 && status == AG_OK; i--) {
        status = backward_part(item, number + i - 1);
    }
    return status;
}

/* A part that is no layer's. */
static ag_status_t simple_part(const item_t *item, ag_part_kind_t kind, uint32_t x, uint32_t x_out,
                               uint32_t sum)
{
    ag_part_t part = {kind, 0};
    ag_train_graphs_t graphs = {0};
    ag_status_t status = ag_expand_graph(&graphs.forward);

    if (status == AG_OK) {
        status = ag_train_emit(item->train, item->rank->rank, &part, x, x_out, graphs.forward);
    }
    if (status == AG_OK) {
        status = add(item, kind, 0, &graphs.forward, sum);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

/* Of the head and of the embedding table. */
static ag_status_t end_backward(const item_t *item, ag_part_kind_t kind, uint32_t x,
                                const ag_backward_grad_t *grads, uint32_t n_grads,
                                int32_t cut_buffer)
{
    ag_backward_opts_t opts = {.grads = grads, .n_grads = n_grads, .cut_buffer = cut_buffer};
    ag_train_keeper_t keeper = {item->train, item->rank};
    bool is_head = kind == AG_PART_HEAD;
    ag_part_t part = {kind, 0};
    ag_train_graphs_t graphs = {0};
    ag_status_t status = ag_train_graphs_init(&graphs);

    ag_train_bind(&keeper, &opts);
    if (status == AG_OK) {
        status = ag_train_emit(item->train, item->rank->rank, &part, x, x, graphs.forward);
    }
    if (status == AG_OK) {
        status = ag_graph_backward(graphs.forward, &opts, graphs.first, graphs.second);
    }
    if (status == AG_OK) {
        status = add(item, is_head ? AG_PART_HEAD_B : AG_PART_EMBED_B, 0, &graphs.first,
                     is_head ? item->rank->dhead : AG_NO_BUFFER);
    }
    if (status == AG_OK && is_head) {
        status = add(item, AG_PART_HEAD_NORM_B, 0, &graphs.second, AG_NO_BUFFER);
    }
    ag_train_graphs_fini(item->train, &graphs);
    return status;
}

static ag_status_t head_parts(const item_t *item)
{
    const ag_train_rank_t *rank = item->rank;
    uint32_t x = item->slot->output;
    const ag_backward_grad_t grads[] = {{(int32_t)x, (int32_t)item->dx, false},
                                        {(int32_t)rank->logits, (int32_t)rank->logits, true}};
    ag_status_t status = simple_part(item, AG_PART_HEAD, x, x, rank->statistics);

    if (status == AG_OK) {
        status = simple_part(item, AG_PART_LOSS, x, x, AG_NO_BUFFER);
    }
    return status == AG_OK ? end_backward(item, AG_PART_HEAD, x, grads, 2, (int32_t)rank->dhead)
                           : status;
}

static ag_status_t embed_backward(const item_t *item)
{
    const ag_backward_grad_t grad = {(int32_t)item->slot->input, (int32_t)item->dx, true};

    return end_backward(item, AG_PART_EMBED, item->slot->input, &grad, 1, AG_INTERNAL);
}

/* This rank's messages from one chunk to the next, or back, of the same replica. */
static ag_status_t exchange(const item_t *item, uint32_t from_chunk, uint32_t to_chunk,
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

static ag_status_t forward_item(item_t *item)
{
    ag_train_chunk_t *chunk = item->chunk;
    ag_status_t status = ag_train_take_slot(item->train, item->rank->rank, chunk,
                                            item->train->micro_batch, &item->slot);

    if (status != AG_OK) {
        return status;
    }
    if (!chunk->last) {
        item->slot->output = chunk->out[chunk->n_inputs % 2];
    }
    status = chunk->first
                 ? simple_part(item, AG_PART_EMBED, item->slot->input, item->slot->input,
                               item->slot->input)
                 : exchange(item, chunk->number - 1u, chunk->number, AG_OP_RECV, item->slot->input);
    for (uint32_t i = 0; i < n_parts(item) && status == AG_OK; i++) {
        status = forward_part(item, i);
    }
    if (status == AG_OK) {
        status = simple_part(item, AG_PART_ADD, x_of(item, n_parts(item) - 1), item->slot->output,
                             AG_NO_BUFFER);
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

static ag_status_t backward_item(item_t *item)
{
    ag_train_chunk_t *chunk = item->chunk;
    ag_status_t status;

    item->slot = slot_of(chunk, item->train->micro_batch);
    item->dx = chunk->dx[chunk->n_outputs++ % 2];
    status = chunk->last ? head_parts(item)
                         : exchange(item, chunk->number + 1u, chunk->number, AG_OP_RECV, item->dx);
    for (uint32_t i = n_parts(item); i > 0 && status == AG_OK; i -= 2) {
        status = backward_layer(item, i - 2);
    }
    if (status == AG_OK) {
        status = chunk->first
                     ? embed_backward(item)
                     : exchange(item, chunk->number, chunk->number - 1u, AG_OP_SEND, item->dx);
    }
    item->slot->is_taken = false;
    return status;
}

/* The most micro-batches that are between their forward and their backward item of a chunk. */
static uint32_t most_on_the_way(const ag_array_t *items, uint32_t chunk)
{
    uint32_t n = 0, most = 0;

    for (size_t i = 0; i < items->n_items; i++) {
        const ag_schedule_item_t *item = &AG_ITEMS(items, ag_schedule_item_t)[i];

        n += item->chunk != chunk ? 0 : item->work == AG_WORK_FORWARD ? 1 : UINT32_MAX;
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
    item_t item = {.train = train, .rank = &train->ranks[rank]};
    ag_status_t status = ag_train_add_zero(train, rank);

    for (uint32_t i = 0; i < item.rank->n_chunks; i++) {
        item.rank->chunks[i].n_slots = most_on_the_way(items, item.rank->chunks[i].number);
    }
    for (size_t i = 0; i < items->n_items && status == AG_OK; i++) {
        const ag_schedule_item_t *of = &AG_ITEMS(items, ag_schedule_item_t)[i];

        item.chunk = &item.rank->chunks[of->chunk / plan->n_stages];
        item.dx = item.chunk->dx[0]; /* that of a forward item is not used */
        train->chunk = of->chunk;
        train->micro_batch =
            (uint16_t)(of->micro_batch + ag_plan_first_micro_batch(plan, place.replica));
        status = of->work == AG_WORK_FORWARD ? forward_item(&item) : backward_item(&item);
    }
    train->chunk = train->micro_batch = 0;
    return status == AG_OK ? ag_train_add_update(train, rank) : status;
}

ag_status_t ag_pass_expand_train(ag_program_t *program, ag_build_t *build)
{
    const ag_plan_t *plan = build->plan;
    const ag_schedule_info_t *info;
    ag_train_t train = {0};
    ag_status_t status = ag_schedule_find(plan->train.schedule, &info);

    if (status == AG_OK) {
        status = ag_train_init(program, build, &train);
    }
    for (uint32_t replica = 0; replica < plan->stages[0].n_replicas && status == AG_OK; replica++) {
        ag_pipeline_shape_t shape = {.stages = plan->n_stages,
                                     .micro_batches =
                                         plan->stages[0].replicas[replica].micro_batches,
                                     .virtual_stages = plan->train.virtual_stages};
        ag_schedule_t *schedule = NULL;

        status = info->generate(&shape, &schedule);
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
