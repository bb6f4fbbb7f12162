/* What micro-batches on their way leave for their gradients, and where these are. */
#include <stdio.h>
#include <stdlib.h>

#include "parallel/pass/expand_priv.h"

void ag_train_free_slot(ag_train_slot_t *slot)
{
    free(slot->x);
    free(slot->kept);
    free(slot->partial);
    free(slot->experts);
}

/* The first part of a chunk reads its input itself, unless it keeps its share alone. What a part
 * keeps has its size when it is first written. */
static ag_status_t add_part_buffers(ag_train_t *train, uint32_t rank, const ag_train_chunk_t *chunk,
                                    ag_train_slot_t *slot)
{
    uint32_t n_parts = 2 * (chunk->layers.end - chunk->layers.begin);
    uint32_t number = (uint32_t)chunk->slots.n_items;
    bool again = train->again, passes = ag_train_passes(train, rank);
    ag_status_t status = AG_OK;
    char name[24];

    for (uint32_t i = 0; i < n_parts && status == AG_OK; i++) {
        uint32_t layer = chunk->layers.begin + i / 2;
        bool norms_after = ag_train_norms_after(train, layer);

        slot->partial[i] =
            norms_after && again ? train->ranks[rank].partial_again[i % 2] : train->ranks[rank].p;
        if (norms_after && !again) {
            snprintf(name, sizeof(name), "p%u%c.", layer, "af"[i % 2]);
            status = ag_train_add_row_buffer(train, rank, name, number, &slot->partial[i]);
        }
        if (again) { /* only a layer's input is the slot's */
            slot->kept[i] = train->ranks[rank].kept_again[i % 2];
            slot->x[i] = train->ranks[rank].x_again;
            slot->experts[i / 2] = train->ranks[rank].experts_again;
        } else if (status == AG_OK) {
            snprintf(name, sizeof(name), "k%u%c.%u", layer, "af"[i % 2], number);
            status =
                ag_program_add_buffer(train->program, rank, name, 0, AG_SIZE_ONE, &slot->kept[i]);
        }
        if (status == AG_OK && i % 2 == 1 && !again && ag_train_is_spread(train, rank, layer)) {
            snprintf(name, sizeof(name), "%u.%u", layer, number);
            status = ag_train_add_experts(train, rank, name, &slot->experts[i / 2]);
        }
        if (passes) { /* gradients read copies that parts keep */
            slot->x[i] = train->ranks[rank].stream[i % 2];
        } else if (status == AG_OK && (i > 0 || train->ranks[rank].shares_rows) &&
                   (i % 2 == 0 || !again)) {
            snprintf(name, sizeof(name), "x%u%c.", layer, "af"[i % 2]);
            status = ag_train_add_kept_rows(train, rank, name, number, &slot->x[i]);
        }
    }
    return status == AG_OK && chunk->last
               ? ag_train_add_row_buffer(train, rank, "head.", number, &slot->output)
               : status;
}

static ag_status_t add_slot(ag_train_t *train, uint32_t rank, ag_train_chunk_t *chunk)
{
    uint32_t n_parts = 2 * (chunk->layers.end - chunk->layers.begin);
    ag_train_slot_t slot = {.x = calloc(n_parts + 1, sizeof(*slot.x)),
                            .kept = calloc(n_parts + 1, sizeof(*slot.kept)),
                            .partial = calloc(n_parts + 1, sizeof(*slot.partial)),
                            .experts = calloc(n_parts / 2 + 1, sizeof(*slot.experts))};
    ag_status_t status =
        slot.x == NULL || slot.kept == NULL || slot.partial == NULL || slot.experts == NULL
            ? ag_fail_nomem("expanding a program", n_parts * sizeof(*slot.x))
            : add_part_buffers(train, rank, chunk, &slot);

    if (status == AG_OK) {
        status = ag_array_append(&chunk->slots, &slot, 1);
    }
    if (status != AG_OK) {
        ag_train_free_slot(&slot);
    }
    return status;
}

static bool is_input_taken(const ag_train_chunk_t *of, uint32_t buffer)
{
    for (size_t i = 0; i < of->slots.n_items; i++) {
        const ag_train_slot_t *slot = &AG_ITEMS(&of->slots, ag_train_slot_t)[i];

        if (slot->is_taken && slot->input == buffer) {
            return true;
        }
    }
    return false;
}

/* One more than there are slots, in turn: the next comes while the oldest is still in use. Where
 * the slots keep their share of it, it is in use until they have that. */
static ag_status_t find_input(ag_train_t *train, uint32_t rank, ag_train_chunk_t *of,
                              uint32_t *buffer_p)
{
    bool keeps = !train->ranks[rank].shares_rows;
    uint32_t n = keeps ? of->n_slots + 1 : 2, *inputs;

    while (of->inputs.n_items < n) {
        uint32_t buffer;
        ag_status_t status =
            ag_train_add_row_buffer(train, rank, "in", train->ranks[rank].n_input_names++, &buffer);

        if (status == AG_OK) {
            status = ag_array_append(&of->inputs, &buffer, 1);
        }
        if (status != AG_OK) {
            return status;
        }
    }
    inputs = AG_ITEMS(&of->inputs, uint32_t);
    while (keeps && is_input_taken(of, inputs[of->n_inputs % n])) {
        of->n_inputs++;
    }
    *buffer_p = inputs[of->n_inputs++ % n];
    return AG_OK;
}

ag_status_t ag_train_take_slot(ag_train_t *train, uint32_t rank, ag_train_chunk_t *chunk,
                               uint16_t micro_batch, ag_train_slot_t **slot_p)
{
    ag_array_t *slots = &chunk->slots;
    ag_train_slot_t *slot;
    ag_status_t status = AG_OK;
    uint32_t i = 0, input = 0;

    while (i < slots->n_items && AG_ITEMS(slots, ag_train_slot_t)[i].is_taken) {
        i++;
    }
    if (i == slots->n_items) {
        status = add_slot(train, rank, chunk);
    }
    if (status == AG_OK) {
        status = find_input(train, rank, chunk, &input);
    }
    if (status != AG_OK) {
        return status;
    }
    slot = &AG_ITEMS(slots, ag_train_slot_t)[i];
    slot->is_taken = true;
    slot->micro_batch = micro_batch;
    slot->input = input;
    *slot_p = slot;
    return AG_OK;
}

static ag_status_t add_handed(ag_train_t *train, uint32_t rank, ag_train_chunk_t *chunk)
{
    uint32_t n_parts = 2 * (chunk->layers.end - chunk->layers.begin);
    ag_train_handed_t handed = {.buffers = calloc(n_parts + 1, sizeof(*handed.buffers))};
    ag_status_t status =
        handed.buffers == NULL ? ag_fail_nomem("expanding a program", n_parts) : AG_OK;
    char name[24];

    for (uint32_t i = 0; i < n_parts && status == AG_OK; i++) {
        snprintf(name, sizeof(name), "w%u%c.%zu", chunk->layers.begin + i / 2, "af"[i % 2],
                 chunk -> handed.n_items);
        status =
            ag_program_add_buffer(train->program, rank, name, 0, AG_SIZE_ONE, &handed.buffers[i]);
    }
    if (status == AG_OK) {
        status = ag_array_append(&chunk->handed, &handed, 1);
    }
    if (status != AG_OK) {
        free(handed.buffers);
    }
    return status;
}

ag_status_t ag_train_take_handed(ag_train_t *train, uint32_t rank, ag_train_chunk_t *chunk,
                                 ag_train_slot_t *slot)
{
    ag_status_t status = AG_OK;
    uint32_t i = 0;

    while (i < chunk->handed.n_items && AG_ITEMS(&chunk->handed, ag_train_handed_t)[i].is_taken) {
        i++;
    }
    if (i == chunk->handed.n_items) {
        status = add_handed(train, rank, chunk);
    }
    if (status == AG_OK) {
        AG_ITEMS(&chunk->handed, ag_train_handed_t)[i].is_taken = true;
        slot->handed = i;
    }
    return status;
}

void ag_train_give_handed(ag_train_chunk_t *chunk, const ag_train_slot_t *slot)
{
    AG_ITEMS(&chunk->handed, ag_train_handed_t)[slot->handed].is_taken = false;
}

void ag_train_reserve(const ag_train_t *train, uint32_t rank, uint32_t buffer, uint64_t bytes,
                      uint64_t *used_bytes, int32_t *buffer_p, uint64_t *begin_bytes_p)
{
    enum { ALIGN_BYTES = 64 };
    ag_buffer_t *of = &AG_ITEMS(&train->program->ranks[rank].buffers, ag_buffer_t)[buffer];

    *buffer_p = (int32_t)buffer;
    *begin_bytes_p = *used_bytes;
    *used_bytes += (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
    if (*used_bytes > of->bytes) {
        of->unit_bytes = of->bytes = *used_bytes;
    }
}

static ag_status_t keep(void *arg, ag_counter_t counter, uint64_t row_bytes, int32_t *buffer_p,
                        uint64_t *begin_bytes_p)
{
    const ag_train_keeper_t *keeper = arg;
    ag_train_rank_t *of = keeper->rank;

    ag_train_reserve(keeper->train, of->rank, of->kept_buffer,
                     row_bytes * keeper->train->program->bounds[counter], &of->kept_bytes, buffer_p,
                     begin_bytes_p);
    return AG_OK;
}

static void find_grad(void *arg, int32_t param, int32_t *buffer_p, uint64_t *begin_bytes_p)
{
    const ag_train_keeper_t *keeper = arg;
    const ag_params_t *params = &keeper->train->build->ranks[keeper->rank->rank].params;
    const ag_param_t *of = &AG_ITEMS(&params->items, ag_param_t)[param];

    *buffer_p = (int32_t)of->grad_buffer;
    *begin_bytes_p = of->grad_begin_bytes;
}

void ag_train_bind(ag_train_keeper_t *keeper, ag_backward_opts_t *opts)
{
    opts->params = ag_params_held(&keeper->train->build->ranks[keeper->rank->rank].params);
    opts->keep = keep;
    opts->find_grad = find_grad;
    opts->arg = keeper;
    opts->rounds = ag_plan_rounds(keeper->train->build->plan);
    opts->passing = keeper->rank->stream;
    opts->n_passing = ag_train_passes(keeper->train, keeper->rank->rank) ? 2 : 0;
}
