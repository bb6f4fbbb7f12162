/* A step goes on the control channel, head first, then its arrays, the block tables last. */
#include "parallel/run/wire_priv.h"

#include <stdlib.h>
#include <string.h>

#include "parallel/plan/mesh.h"
#include "runtime/model/kv_cache.h"

size_t ag_wire_ints(const ag_plan_t *plan, const uint64_t *bounds)
{
    if (plan->train.sequence_tokens > 0) { /* targets, and no cache */
        return (size_t)(2 * bounds[AG_COUNT_TOKENS] + 2 * bounds[AG_COUNT_OUTPUTS] +
                        bounds[AG_COUNT_SEQUENCES] + 1);
    }
    return (size_t)(2 * bounds[AG_COUNT_TOKENS] + bounds[AG_COUNT_OUTPUTS] +
                    bounds[AG_COUNT_SEQUENCES] * (1 + ag_kv_blocks(plan->context_tokens)) + 1);
}

/* The arrays of a step in wire order, and how long each is. */
typedef struct wire_array {
    const int32_t **ints;
    size_t n;
} wire_array_t;

enum { N_ARRAYS = 6 };

static void list_arrays(ag_step_t *step, bool trains, wire_array_t arrays[N_ARRAYS])
{
    uint64_t tokens = step->counts[AG_COUNT_TOKENS], sequences = step->counts[AG_COUNT_SEQUENCES];

    arrays[0] = (wire_array_t){&step->tokens, tokens};
    arrays[1] = (wire_array_t){&step->positions, tokens};
    arrays[2] = (wire_array_t){&step->row_begin, sequences + 1};
    arrays[3] = (wire_array_t){&step->outputs, step->counts[AG_COUNT_OUTPUTS]};
    arrays[4] = (wire_array_t){&step->targets, trains ? step->counts[AG_COUNT_OUTPUTS] : 0};
    arrays[5] = (wire_array_t){&step->block_tables, sequences * step->table_stride};
}

uint32_t ag_wire_blocks(const ag_step_t *step)
{
    uint32_t most = 0;

    for (uint64_t s = 0; s < step->counts[AG_COUNT_SEQUENCES]; s++) {
        int32_t end = step->row_begin[s + 1];

        if (end > step->row_begin[s]) { /* positions rise within a sequence */
            uint32_t n = (uint32_t)step->positions[end - 1] / AG_KV_BLOCK_TOKENS + 1;

            most = n > most ? n : most;
        }
    }
    return most;
}

/* A stage's place in the order in which steps go along: rank 0's own is the first. */
static uint32_t stage_at(uint32_t number, uint32_t first)
{
    return number == 0 ? first : number <= first ? number - 1 : number;
}

/* Whom a stage's ranks hear of a step from. */
static int leader_of(const ag_plan_t *plan, uint32_t stage, uint32_t first)
{
    return stage == first ? 0 : (int)plan->stages[stage].replicas[0].ranks[0];
}

static void add_mates(const ag_plan_t *plan, uint32_t stage, ag_wire_t *wire)
{
    for (uint32_t i = 0; i < plan->stages[stage].n_replicas; i++) {
        const ag_replica_t *replica = &plan->stages[stage].replicas[i];

        for (uint32_t r = 0; r < replica->n_ranks; r++) {
            if ((int)replica->ranks[r] != wire->net->rank) {
                wire->children[wire->n_children++] = (int)replica->ranks[r];
            }
        }
    }
}

/* Where a rank stands on the way. */
typedef struct stand {
    uint32_t first, stage; /* rank 0's, the rank's */
    uint32_t number;       /* of its stage, in the order in which steps go along */
    int leader;            /* of its stage */
} stand_t;

static ag_status_t find_stand(const ag_plan_t *plan, uint32_t rank, stand_t *stand)
{
    ag_place_t first, own;
    ag_status_t status = ag_mesh_place(plan, 0, &first);

    if (status == AG_OK) {
        status = ag_mesh_place(plan, rank, &own);
    }
    if (status != AG_OK) {
        return status;
    }
    *stand = (stand_t){.first = first.stage,
                       .stage = own.stage,
                       .leader = leader_of(plan, own.stage, first.stage)};
    while (stage_at(stand->number, first.stage) != own.stage) {
        stand->number++;
    }
    return AG_OK;
}

/* The next stage's leader and the ranks of the own stage hear of a step from its leader. */
static uint32_t count_children(const ag_plan_t *plan, uint32_t rank, const stand_t *stand)
{
    uint32_t n = stand->number + 1 < plan->n_stages;

    if (stand->leader != (int)rank) {
        return 0;
    }
    for (uint32_t i = 0; i < plan->stages[stand->stage].n_replicas; i++) {
        n += plan->stages[stand->stage].replicas[i].n_ranks;
    }
    return n - 1;
}

/* The rank's parent and children. */
static void find_way(const ag_plan_t *plan, const stand_t *stand, ag_wire_t *wire)
{
    uint32_t number = stand->number, first = stand->first;

    wire->parent = stand->leader;
    if (wire->parent != wire->net->rank) {
        return;
    }
    wire->parent = number == 0 ? -1 : leader_of(plan, stage_at(number - 1, first), first);
    if (number + 1 < plan->n_stages) { /* first, for it has the longest way to go */
        wire->children[wire->n_children++] = leader_of(plan, stage_at(number + 1, first), first);
    }
    add_mates(plan, stand->stage, wire);
}

/* @param n_children  of the rank. */
static uint64_t slot_bytes(uint32_t n_children, size_t n_ints)
{
    return n_ints * sizeof(int32_t) + (2 * (uint64_t)n_children + 1) * sizeof(ag_net_request_t);
}

uint64_t ag_wire_bytes(const ag_plan_t *plan, uint32_t rank, size_t n_ints)
{
    stand_t stand;
    uint32_t n = find_stand(plan, rank, &stand) == AG_OK ? count_children(plan, rank, &stand) : 0;

    return ((uint64_t)n + 1) * sizeof(int) +
           ag_plan_steps(plan) * (sizeof(ag_wire_slot_t) + slot_bytes(n, n_ints));
}

ag_status_t ag_wire_init(ag_net_t *net, const ag_plan_t *plan, size_t n_ints, ag_wire_t *wire_p)
{
    ag_wire_t wire = {.net = net, .n_slots = ag_plan_steps(plan), .n_ints = n_ints};
    stand_t stand;
    ag_status_t status = find_stand(plan, (uint32_t)net->rank, &stand);
    uint32_t n_children;

    if (status != AG_OK) {
        return status;
    }
    n_children = count_children(plan, (uint32_t)net->rank, &stand);
    wire.children = calloc((size_t)n_children + 1, sizeof(*wire.children));
    wire.slots = calloc(wire.n_slots, sizeof(*wire.slots));
    if (wire.children == NULL || wire.slots == NULL) {
        status = ag_fail_nomem("making a way for steps", wire.n_slots * sizeof(*wire.slots));
    } else {
        find_way(plan, &stand, &wire);
    }
    for (uint32_t i = 0; i < wire.n_slots && status == AG_OK; i++) {
        ag_wire_slot_t *slot = &wire.slots[i];

        slot->ints = calloc(n_ints, sizeof(*slot->ints));
        slot->sends = calloc(2 * (size_t)n_children + 1, sizeof(*slot->sends));
        if (slot->ints == NULL || slot->sends == NULL) {
            status = ag_fail_nomem("making a way for steps", slot_bytes(n_children, n_ints));
        }
    }
    if (status != AG_OK) {
        ag_wire_fini(&wire);
        return status;
    }
    *wire_p = wire;
    return AG_OK;
}

void ag_wire_fini(ag_wire_t *wire)
{
    for (uint32_t i = 0; wire->slots != NULL && i < wire->n_slots; i++) {
        free(wire->slots[i].ints);
        free(wire->slots[i].sends);
    }
    free(wire->slots);
    free(wire->children);
    *wire = (ag_wire_t){0};
}

static ag_wire_slot_t *slot_of(const ag_wire_t *wire, uint64_t step)
{
    return &wire->slots[step % wire->n_slots];
}

static ag_status_t test_sends(const ag_wire_t *wire, ag_wire_slot_t *slot)
{
    while (slot->n_sends > 0) {
        ag_status_t status = ag_net_test(wire->net, &slot->sends[slot->n_sends - 1]);

        if (status != AG_OK) {
            return status;
        }
        slot->n_sends--;
    }
    return AG_OK;
}

ag_status_t ag_wire_is_free(ag_wire_t *wire)
{
    return test_sends(wire, slot_of(wire, wire->n_steps));
}

ag_status_t ag_wire_is_sent(ag_wire_t *wire)
{
    for (uint32_t i = 0; i < wire->n_slots; i++) {
        ag_status_t status = test_sends(wire, &wire->slots[i]);

        if (status != AG_OK) {
            return status;
        }
    }
    return AG_OK;
}

/* What stands in a slot to all children. */
static ag_status_t send_on(ag_wire_t *wire, ag_wire_slot_t *slot)
{
    for (uint32_t i = 0; i < wire->n_children; i++) {
        ag_status_t status =
            ag_net_post_send(wire->net, wire->children[i], AG_CHANNEL_CONTROL, &slot->head,
                             sizeof(slot->head), &slot->sends[slot->n_sends]);

        slot->n_sends += status == AG_OK;
        if (status == AG_OK && slot->head.n_ints > 0) {
            status =
                ag_net_post_send(wire->net, wire->children[i], AG_CHANNEL_CONTROL, slot->ints,
                                 slot->head.n_ints * sizeof(int32_t), &slot->sends[slot->n_sends]);
            slot->n_sends += status == AG_OK;
        }
        if (status != AG_OK) {
            return ag_fail_context(status, "sending a step on");
        }
    }
    return AG_OK;
}

/* The slot's step: its head's numbers, its arrays in the ints. */
static void bind_step(ag_wire_slot_t *slot)
{
    wire_array_t arrays[N_ARRAYS];
    const int32_t *ints = slot->ints;

    memcpy(slot->step.counts, slot->head.counts, sizeof(slot->head.counts));
    slot->step.table_stride = slot->head.table_stride;
    list_arrays(&slot->step, slot->head.trains, arrays);
    slot->step.update = slot->head.trains ? &slot->head.update : NULL;
    for (int i = 0; i < N_ARRAYS; i++) {
        *arrays[i].ints = ints;
        ints += arrays[i].n;
    }
}

/* A step's arrays into a slot's ints. */
static void write_arrays(const ag_step_t *step, ag_wire_slot_t *slot)
{
    wire_array_t arrays[N_ARRAYS];
    ag_step_t copy = *step;
    int32_t *dst = slot->ints;

    memcpy(slot->head.counts, step->counts, sizeof(slot->head.counts));
    slot->head.table_stride = step->update != NULL ? 0 : ag_wire_blocks(step);
    slot->head.trains = step->update != NULL;
    if (slot->head.trains) {
        slot->head.update = *step->update;
    }
    list_arrays(&copy, slot->head.trains, arrays);
    for (int i = 0; i < N_ARRAYS - 1; i++) {
        if (arrays[i].n > 0) {
            memcpy(dst, *arrays[i].ints, arrays[i].n * sizeof(int32_t));
        }
        dst += arrays[i].n;
    }
    for (uint64_t s = 0; s < step->counts[AG_COUNT_SEQUENCES]; s++) {
        if (slot->head.table_stride > 0) {
            memcpy(dst, step->block_tables + s * step->table_stride,
                   slot->head.table_stride * sizeof(int32_t));
        }
        dst += slot->head.table_stride;
    }
    slot->head.n_ints = (uint32_t)(dst - slot->ints);
}

ag_status_t ag_wire_post(ag_wire_t *wire, const ag_step_t *step)
{
    ag_wire_slot_t *slot = slot_of(wire, wire->n_steps);

    slot->head = (ag_wire_head_t){0};
    if (step != NULL) {
        write_arrays(step, slot);
        bind_step(slot);
    }
    wire->n_steps++;
    return send_on(wire, slot);
}

/* The head has come: its arrays are next. */
static ag_status_t receive_ints(ag_wire_t *wire, ag_wire_slot_t *slot)
{
    if (slot->head.n_ints > wire->n_ints) {
        return ag_fail(AG_ERR_PEER, "rank %d announces a step of %u numbers, %zu can be had",
                       wire->parent, slot->head.n_ints, wire->n_ints);
    }
    wire->receiving = AG_WIRE_INTS;
    return ag_net_post_recv(wire->net, wire->parent, AG_CHANNEL_CONTROL, slot->ints,
                            slot->head.n_ints * sizeof(int32_t), &wire->request);
}

/* Move on what is being received; AG_OK: all of a step is there. */
static ag_status_t receive(ag_wire_t *wire, ag_wire_slot_t *slot)
{
    ag_status_t status = AG_OK;

    if (wire->receiving == AG_WIRE_IDLE) {
        status = ag_net_post_recv(wire->net, wire->parent, AG_CHANNEL_CONTROL, &slot->head,
                                  sizeof(slot->head), &wire->request);
        wire->receiving = AG_WIRE_HEAD;
    }
    if (status == AG_OK) {
        status = ag_net_test(wire->net, &wire->request);
    }
    if (status == AG_OK && wire->receiving == AG_WIRE_HEAD && slot->head.n_ints > 0) {
        status = receive_ints(wire, slot);
        status = status == AG_OK ? ag_net_test(wire->net, &wire->request) : status;
    }
    return status == AG_OK || status == AG_PENDING
               ? status
               : ag_fail_context(status, wire->receiving == AG_WIRE_HEAD ? "waiting for a step"
                                                                         : "receiving a step");
}

ag_status_t ag_wire_poll(ag_wire_t *wire, bool *stop_p)
{
    ag_wire_slot_t *slot = slot_of(wire, wire->n_steps);
    ag_status_t status = receive(wire, slot);

    if (status != AG_OK) {
        return status;
    }
    wire->receiving = AG_WIRE_IDLE;
    wire->n_steps++;
    *stop_p = slot->head.n_ints == 0;
    if (!*stop_p) {
        bind_step(slot);
    }
    return send_on(wire, slot);
}

const ag_step_t *ag_wire_step(const ag_wire_t *wire)
{
    return &slot_of(wire, wire->n_steps - 1)->step;
}

const int32_t *ag_wire_step_ints(const ag_wire_t *wire, size_t *n_p)
{
    const ag_wire_slot_t *slot = slot_of(wire, wire->n_steps - 1);

    *n_p = slot->head.n_ints;
    return slot->ints;
}

void ag_wire_move_step(ag_step_t *step, const int32_t *from, const int32_t *to)
{
    wire_array_t arrays[N_ARRAYS];

    list_arrays(step, step->update != NULL, arrays);
    for (int i = 0; i < N_ARRAYS; i++) {
        if (*arrays[i].ints != NULL) {
            *arrays[i].ints = to + (*arrays[i].ints - from);
        }
    }
}
