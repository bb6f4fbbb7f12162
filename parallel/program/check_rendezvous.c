/*
 * All ranks run together, greedily, every message a rendezvous: completion only ever enables, so if
 * this run ends, every run does.
 */
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check_priv.h"
#include "parallel/program/text.h"

enum { LINE_BYTES = 512, MAX_QUOTED = 4, NONE = -1 };

typedef struct world {
    const ag_program_t *program;
    ag_dag_t *dags;   /* (ranks) */
    uint32_t *n_done; /* (ranks, AG_N_STREAMS) operations complete on each stream */
} world_t;

static uint32_t *done_of(const world_t *world, uint32_t rank)
{
    return world->n_done + (size_t)rank * AG_N_STREAMS;
}

/* The operation at a stream's head, or NONE at its end. */
static int64_t head_of(const world_t *world, uint32_t rank, uint32_t stream)
{
    const ag_dag_t *dag = &world->dags[rank];
    uint32_t at = dag->stream_begin[stream] + done_of(world, rank)[stream];

    return at < dag->stream_begin[stream + 1] ? (int64_t)dag->stream_ops[at] : NONE;
}

static bool deps_done(const world_t *world, uint32_t rank, uint32_t op)
{
    const ag_dag_t *dag = &world->dags[rank];

    for (uint32_t i = dag->dep_begin[op]; i < dag->dep_begin[op + 1]; i++) {
        if (done_of(world, rank)[dag->streams[dag->deps[i]]] <= dag->positions[dag->deps[i]]) {
            return false;
        }
    }
    return true;
}

static const ag_op_t *op_of(const world_t *world, uint32_t rank, int64_t op)
{
    return &ag_rank_ops(&world->program->ranks[rank])[op];
}

/* The head of some stream of rank that is ready and is this kind on this channel with this peer. */
static int64_t ready_partner(const world_t *world, uint32_t rank, uint8_t kind, uint32_t channel,
                             int32_t peer)
{
    for (uint32_t s = 0; s < AG_N_STREAMS; s++) {
        int64_t op = head_of(world, rank, s);

        if (op != NONE && op_of(world, rank, op)->kind == kind &&
            op_of(world, rank, op)->channel == channel && op_of(world, rank, op)->peer == peer &&
            deps_done(world, rank, (uint32_t)op)) {
            return op;
        }
    }
    return NONE;
}

static ag_status_t check_agree(const world_t *world, uint32_t a_rank, int64_t a, uint32_t b_rank,
                               int64_t b)
{
    const ag_op_t *x = op_of(world, a_rank, a), *y = op_of(world, b_rank, b);
    char first[LINE_BYTES], second[LINE_BYTES];

    if (x->unit_bytes == y->unit_bytes && x->counter == y->counter &&
        x->micro_batch == y->micro_batch) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_INVALID, "ranks %u and %u disagree on what they exchange:\n%s\n%s",
                   a_rank, b_rank,
                   ag_op_text(world->program, a_rank, (uint32_t)a, first, sizeof(first)),
                   ag_op_text(world->program, b_rank, (uint32_t)b, second, sizeof(second)));
}

static void complete(const world_t *world, uint32_t rank, int64_t op)
{
    done_of(world, rank)[op_of(world, rank, op)->stream]++;
}

static ag_status_t try_message(const world_t *world, uint32_t rank, int64_t op, bool *moved_p)
{
    const ag_op_t *o = op_of(world, rank, op);
    uint8_t partner_kind = o->kind == AG_OP_SEND ? AG_OP_RECV : AG_OP_SEND;
    uint32_t peer = (uint32_t)o->peer;
    int64_t partner = ready_partner(world, peer, partner_kind, o->channel, (int32_t)rank);
    ag_status_t status;

    if (partner == NONE) {
        return AG_OK;
    }
    status = check_agree(world, rank, op, peer, partner);
    if (status == AG_OK) {
        complete(world, rank, op);
        complete(world, peer, partner);
        *moved_p = true;
    }
    return status;
}

static ag_status_t try_collective(const world_t *world, uint32_t rank, int64_t op, bool *moved_p)
{
    const ag_op_t *o = op_of(world, rank, op);
    const ag_program_group_t *group =
        &AG_ITEMS(&world->program->groups, ag_program_group_t)[o->subject];

    for (uint32_t i = 0; i < group->n_ranks; i++) {
        int64_t theirs = ready_partner(world, group->ranks[i], o->kind, group->channel, -1);
        ag_status_t status;

        if (theirs == NONE) {
            return AG_OK;
        }
        status = check_agree(world, rank, op, group->ranks[i], theirs);
        if (status != AG_OK) {
            return status;
        }
    }
    for (uint32_t i = 0; i < group->n_ranks; i++) {
        complete(world, group->ranks[i],
                 ready_partner(world, group->ranks[i], o->kind, group->channel, -1));
    }
    *moved_p = true;
    return AG_OK;
}

static ag_status_t try_head(const world_t *world, uint32_t rank, uint32_t stream, bool *moved_p)
{
    int64_t op = head_of(world, rank, stream);
    uint8_t kind;

    if (op == NONE || !deps_done(world, rank, (uint32_t)op)) {
        return AG_OK;
    }
    kind = op_of(world, rank, op)->kind;
    if (ag_op_infos[kind].is_message) {
        return try_message(world, rank, op, moved_p);
    }
    if (ag_op_infos[kind].is_collective) {
        return try_collective(world, rank, op, moved_p);
    }
    complete(world, rank, op);
    *moved_p = true;
    return AG_OK;
}

/* Quote up to MAX_QUOTED heads of streams; only those that wait for another rank where ready_only.
 */
static uint32_t quote_heads(const world_t *world, bool ready_only, char *text, size_t n_bytes)
{
    uint32_t n_quoted = 0;

    for (uint32_t r = 0; r < world->program->n_ranks; r++) {
        for (uint32_t s = 0; s < AG_N_STREAMS && n_quoted < MAX_QUOTED; s++) {
            int64_t op = head_of(world, r, s);
            char line[LINE_BYTES];
            size_t n_chars = strlen(text);

            if (op == NONE || (ready_only && !deps_done(world, r, (uint32_t)op))) {
                continue;
            }
            snprintf(text + n_chars, n_bytes - n_chars, "\nrank %u: %s", r,
                     ag_op_text(world->program, r, (uint32_t)op, line, sizeof(line)));
            n_quoted++;
        }
    }
    return n_quoted;
}

/* Nothing moves: fine when all is done. */
static ag_status_t check_ended(const world_t *world)
{
    char text[MAX_QUOTED * (LINE_BYTES + 24)] = "";

    if (quote_heads(world, true, text, sizeof(text)) == 0 &&
        quote_heads(world, false, text, sizeof(text)) == 0) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_INVALID, "deadlock: these wait for each other:%s", text);
}

static ag_status_t run_world(const world_t *world)
{
    bool moved = true;

    while (moved) {
        moved = false;
        for (uint32_t r = 0; r < world->program->n_ranks; r++) {
            for (uint32_t s = 0; s < AG_N_STREAMS; s++) {
                ag_status_t status = try_head(world, r, s, &moved);

                if (status != AG_OK) {
                    return status;
                }
            }
        }
    }
    return check_ended(world);
}

ag_status_t ag_check_rendezvous(const ag_program_t *program)
{
    uint32_t n_ranks = program->n_ranks;
    world_t world = {.program = program,
                     .dags = calloc((size_t)n_ranks + 1, sizeof(ag_dag_t)),
                     .n_done = calloc((size_t)n_ranks * AG_N_STREAMS + 1, sizeof(uint32_t))};
    ag_status_t status = AG_OK;

    if (world.dags == NULL || world.n_done == NULL) {
        status = ag_fail_nomem("checking a program", n_ranks * sizeof(ag_dag_t));
    }
    for (uint32_t r = 0; r < n_ranks && status == AG_OK; r++) {
        status = ag_program_dag(program, r, &world.dags[r]);
    }
    if (status == AG_OK) {
        status = run_world(&world);
    }
    for (uint32_t r = 0; r < n_ranks && world.dags != NULL; r++) {
        ag_dag_fini(&world.dags[r]);
    }
    free(world.dags);
    free(world.n_done);
    return status;
}
