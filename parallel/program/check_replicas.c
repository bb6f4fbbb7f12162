/*
 * Groups over replicas. Replicas may work on different numbers of micro-batches: what they do
 * together they do once a step, or as often as all of them can. Running the ranks together would
 * find the same, as a deadlock; the cause is told here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "parallel/program/check_priv.h"

/* What a rank has of a group. */
typedef struct meeting {
    uint32_t n_ops; /* of the group's */
    ag_place_t place;
} meeting_t;

static bool is_of_group(const ag_op_t *op, size_t group)
{
    return ag_op_infos[op->kind].is_collective && op->subject == group;
}

static ag_status_t find_meeting(const ag_program_t *program, const ag_plan_t *plan, size_t group,
                                uint32_t rank, meeting_t *meeting)
{
    const ag_rank_program_t *r = &program->ranks[rank];

    meeting->n_ops = 0;
    for (uint32_t op = 0; op < r->ops.n_items; op++) {
        meeting->n_ops += is_of_group(&ag_rank_ops(r)[op], group);
    }
    return ag_mesh_place(plan, rank, &meeting->place);
}

/* The group's operation number n on a rank, which has more. */
static uint32_t op_of_group(const ag_rank_program_t *rank, size_t group, uint32_t n)
{
    uint32_t op = 0;

    while (!is_of_group(&ag_rank_ops(rank)[op], group) || n-- > 0) {
        op++;
    }
    return op;
}

/* The rank `more` meets its group where the rank `less` does not any more. */
static ag_status_t fail_meeting(const ag_program_t *program, const ag_plan_t *plan, size_t group,
                                const meeting_t *meetings, const uint32_t *more,
                                const uint32_t *less)
{
    const uint32_t *ranks = AG_ITEMS(&program->groups, ag_program_group_t)[group].ranks;
    const meeting_t *most = &meetings[more - ranks], *least = &meetings[less - ranks];
    char what[256];

    snprintf(what, sizeof(what),
             "its group spans replicas, and rank %u (stage %u, replica %u, %u micro-batches) meets "
             "it %u times, rank %u (stage %u, replica %u, %u micro-batches) %u times",
             *more, most->place.stage, most->place.replica,
             plan->stages[most->place.stage].replicas[most->place.replica].micro_batches,
             most->n_ops, *less, least->place.stage, least->place.replica,
             plan->stages[least->place.stage].replicas[least->place.replica].micro_batches,
             least->n_ops);
    return ag_check_fail_at(program, *more,
                            op_of_group(&program->ranks[*more], group, least->n_ops), what);
}

static bool are_of_one_replica(const meeting_t *a, const meeting_t *b)
{
    return a->place.stage == b->place.stage && a->place.replica == b->place.replica;
}

/* @param meetings  (ranks of the group) storage. */
static ag_status_t check_group(const ag_program_t *program, const ag_plan_t *plan, size_t group,
                               meeting_t *meetings)
{
    const ag_program_group_t *g = &AG_ITEMS(&program->groups, ag_program_group_t)[group];
    uint32_t more = 0, less = 0;
    bool spans = false;
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < g->n_ranks && status == AG_OK; i++) {
        status = find_meeting(program, plan, group, g->ranks[i], &meetings[i]);
        spans = spans || !are_of_one_replica(&meetings[0], &meetings[i]);
        more = meetings[i].n_ops > meetings[more].n_ops ? i : more;
        less = meetings[i].n_ops < meetings[less].n_ops ? i : less;
    }
    return status != AG_OK || !spans || meetings[more].n_ops == meetings[less].n_ops
               ? status
               : fail_meeting(program, plan, group, meetings, &g->ranks[more], &g->ranks[less]);
}

ag_status_t ag_check_replicas(const ag_program_t *program, const ag_plan_t *plan)
{
    meeting_t *meetings = calloc((size_t)program->n_ranks + 1, sizeof(*meetings));
    ag_status_t status =
        meetings == NULL ? ag_fail_nomem("checking a program", program->n_ranks * sizeof(*meetings))
                         : AG_OK;

    for (size_t i = 0; i < program->groups.n_items && status == AG_OK; i++) {
        status = check_group(program, plan, i, meetings);
    }
    free(meetings);
    return status;
}
