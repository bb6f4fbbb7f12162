/*
 * All ranks run together, greedily, every message a rendezvous: completion only ever enables, so if
 * this run ends, every run does. And by the clock, where segments take their time: each operation
 * begins as soon as what it waits for, and whom it meets, let it, whatever order the run takes.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check_priv.h"
#include "parallel/program/text.h"
#include "parallel/program/timing.h"
#include "runtime/base/line.h"

enum { LINE_BYTES = 512, MOST_QUOTED = 8, NONE = -1 };

/* When operations end. */
typedef struct times {
    double (*seconds)(void *arg, uint32_t rank, const ag_op_t *op);
    void *arg;
    double **ends; /* (ranks) (operations) */
    ag_rank_time_t *times;
} times_t;

typedef struct world {
    const ag_program_t *program;
    times_t *clock;   /* NULL: nobody asks */
    ag_dag_t *dags;   /* (ranks) */
    uint32_t *n_done; /* (ranks, AG_N_STREAMS) operations complete on each stream */
    uint16_t *first;  /* (ranks) of the micro-batches in whose rows a rank takes part */
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

/* The least micro-batch that a rank exchanges rows of. */
static uint16_t first_exchanged(const ag_rank_program_t *rank)
{
    uint16_t first = UINT16_MAX;

    for (size_t i = 0; i < rank->ops.n_items; i++) {
        const ag_op_t *op = &ag_rank_ops(rank)[i];

        first = op->kind == AG_OP_ALL_TO_ALL && op->micro_batch < first ? op->micro_batch : first;
    }
    return first;
}

/* What meets is of one micro-batch; where ranks of several replicas exchange rows, of each
 * replica's in turn. */
static bool are_of_one_turn(const world_t *world, uint32_t a, const ag_op_t *x, uint32_t b,
                            const ag_op_t *y)
{
    return x->kind == AG_OP_ALL_TO_ALL
               ? x->micro_batch - world->first[a] == y->micro_batch - world->first[b]
               : x->micro_batch == y->micro_batch;
}

/* What ranks sum or gather together has one name on all: two of one size must not be mistaken for
 * each other. Rows that are exchanged may come to lie in another slot on each. */
static bool are_of_one_buffer(const world_t *world, uint32_t a, const ag_op_t *x, uint32_t b,
                              const ag_op_t *y)
{
    const ag_rank_program_t *ranks = world->program->ranks;
    const ag_buffer_t *first = AG_ITEMS(&ranks[a].buffers, ag_buffer_t);
    const ag_buffer_t *second = AG_ITEMS(&ranks[b].buffers, ag_buffer_t);

    return !ag_op_infos[x->kind].is_collective || x->kind == AG_OP_ALL_TO_ALL ||
           strcmp(first[ag_op_uses(&ranks[a], x)[0].buffer].name,
                  second[ag_op_uses(&ranks[b], y)[0].buffer].name) == 0;
}

static ag_status_t check_agree(const world_t *world, uint32_t a_rank, int64_t a, uint32_t b_rank,
                               int64_t b)
{
    const ag_op_t *x = op_of(world, a_rank, a), *y = op_of(world, b_rank, b);
    char first[LINE_BYTES], second[LINE_BYTES];

    if (x->unit_bytes == y->unit_bytes && x->counter == y->counter &&
        are_of_one_turn(world, a_rank, x, b_rank, y) && x->half == y->half &&
        x->shares == y->shares && are_of_one_buffer(world, a_rank, x, b_rank, y)) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_INVALID, "ranks %u and %u disagree on what they exchange:\n%s\n%s",
                   a_rank, b_rank,
                   ag_op_text(world->program, a_rank, (uint32_t)a, first, sizeof(first)),
                   ag_op_text(world->program, b_rank, (uint32_t)b, second, sizeof(second)));
}

/* When an operation that is ready may begin. */
static double ready_at(const world_t *world, uint32_t rank, int64_t op)
{
    const ag_dag_t *dag = &world->dags[rank];
    double at = 0;

    if (world->clock == NULL) {
        return 0;
    }
    if (dag->positions[op] > 0) {
        uint32_t stream = dag->streams[op];

        at = world->clock
                 ->ends[rank][dag->stream_ops[dag->stream_begin[stream] + dag->positions[op] - 1]];
    }
    for (uint32_t i = dag->dep_begin[op]; i < dag->dep_begin[op + 1]; i++) {
        at = fmax(at, world->clock->ends[rank][dag->deps[i]]);
    }
    return at;
}

/* @param begin  when it and all whom it meets are ready. */
static void complete(const world_t *world, uint32_t rank, int64_t op, double begin)
{
    const ag_op_t *o = op_of(world, rank, op);

    done_of(world, rank)[o->stream]++;
    if (world->clock != NULL) {
        const times_t *clock = world->clock;
        double seconds = o->kind == AG_OP_SEGMENT ? clock->seconds(clock->arg, rank, o) : 0;

        clock->ends[rank][op] = begin + seconds;
        clock->times[rank].busy_s += seconds;
        clock->times[rank].end_s = fmax(clock->times[rank].end_s, begin + seconds);
    }
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
        double begin = fmax(ready_at(world, rank, op), ready_at(world, peer, partner));

        complete(world, rank, op, begin);
        complete(world, peer, partner, begin);
        *moved_p = true;
    }
    return status;
}

/* What each sends the others receive: of numbers of rows, which have a place for every expert that
 * any rank holds, each rank receives its part from all. */
static ag_status_t check_numbers(const world_t *world, const ag_program_group_t *group,
                                 uint32_t rank, int64_t op)
{
    const ag_op_t *o = op_of(world, rank, op);
    uint64_t received = 0;

    if (o->kind != AG_OP_ALL_TO_ALL || o->counter != AG_SIZE_ONE) {
        return AG_OK;
    }
    for (uint32_t i = 0; i < group->n_ranks; i++) {
        const ag_rank_program_t *r = &world->program->ranks[group->ranks[i]];
        int64_t theirs = ready_partner(world, group->ranks[i], o->kind, group->channel, -1);
        const ag_use_t *uses = ag_op_uses(r, &ag_rank_ops(r)[theirs]);

        received += AG_ITEMS(&r->buffers, ag_buffer_t)[uses[1].buffer].unit_bytes;
    }
    return received == (uint64_t)o->unit_bytes * group->n_ranks
               ? AG_OK
               : ag_check_fail_at(world->program, rank, (uint32_t)op,
                                  "what the ranks send and what they receive differ in size");
}

static ag_status_t try_collective(const world_t *world, uint32_t rank, int64_t op, bool *moved_p)
{
    const ag_op_t *o = op_of(world, rank, op);
    const ag_program_group_t *group =
        &AG_ITEMS(&world->program->groups, ag_program_group_t)[o->subject];
    double begin = 0;
    ag_status_t status;

    for (uint32_t i = 0; i < group->n_ranks; i++) {
        int64_t theirs = ready_partner(world, group->ranks[i], o->kind, group->channel, -1);

        if (theirs == NONE) {
            return AG_OK;
        }
        begin = fmax(begin, ready_at(world, group->ranks[i], theirs));
        status = check_agree(world, rank, op, group->ranks[i], theirs);
        if (status != AG_OK) {
            return status;
        }
    }
    status = check_numbers(world, group, rank, op);
    if (status != AG_OK) {
        return status;
    }
    for (uint32_t i = 0; i < group->n_ranks; i++) {
        complete(world, group->ranks[i],
                 ready_partner(world, group->ranks[i], o->kind, group->channel, -1), begin);
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
    complete(world, rank, op, ready_at(world, rank, op));
    *moved_p = true;
    return AG_OK;
}

/* An operation that is not complete, of a rank. */
typedef struct place {
    uint32_t rank;
    int64_t op; /* NONE: nothing */
} place_t;

/* The first operation of another rank that could meet this one and has not met any. */
static place_t partner_of(const world_t *world, place_t place, uint32_t partner_rank)
{
    const ag_op_t *op = op_of(world, place.rank, place.op);
    uint8_t kind = op->kind == AG_OP_SEND   ? AG_OP_RECV
                   : op->kind == AG_OP_RECV ? AG_OP_SEND
                                            : op->kind;
    int32_t peer = ag_op_infos[kind].is_message ? (int32_t)place.rank : -1;
    const ag_dag_t *dag = &world->dags[partner_rank];

    for (uint32_t i = 0; i < dag->n_ops; i++) {
        const ag_op_t *other = op_of(world, partner_rank, i);

        if (other->kind == kind && other->channel == op->channel && other->peer == peer &&
            dag->positions[i] >= done_of(world, partner_rank)[other->stream]) {
            return (place_t){partner_rank, i};
        }
    }
    return (place_t){partner_rank, NONE};
}

static bool is_ready(const world_t *world, place_t place)
{
    return head_of(world, place.rank, op_of(world, place.rank, place.op)->stream) == place.op &&
           deps_done(world, place.rank, (uint32_t)place.op);
}

/* What an operation that is ready waits for: another rank's, or that there is none. */
static place_t awaited_partner(const world_t *world, place_t place)
{
    const ag_op_t *op = op_of(world, place.rank, place.op);
    const ag_program_group_t *group;
    place_t partner = {0, NONE};

    if (ag_op_infos[op->kind].is_message) {
        return partner_of(world, place, (uint32_t)op->peer);
    }
    group = &AG_ITEMS(&world->program->groups, ag_program_group_t)[op->subject];
    for (uint32_t i = 0; i < group->n_ranks; i++) {
        partner = partner_of(world, place, group->ranks[i]);
        if (partner.op == NONE || !is_ready(world, partner)) {
            break;
        }
    }
    return partner;
}

/* What an operation waits for: what stands before it, what it comes after, or whom it meets. */
static place_t awaited(const world_t *world, place_t place)
{
    const ag_op_t *op = op_of(world, place.rank, place.op);
    const ag_dag_t *dag = &world->dags[place.rank];
    int64_t head = head_of(world, place.rank, op->stream);

    if (head != place.op) {
        return (place_t){place.rank, head};
    }
    for (uint32_t i = dag->dep_begin[place.op]; i < dag->dep_begin[place.op + 1]; i++) {
        uint32_t dep = dag->deps[i];

        if (done_of(world, place.rank)[dag->streams[dep]] <= dag->positions[dep]) {
            return (place_t){place.rank, dep};
        }
    }
    return awaited_partner(world, place);
}

static void quote(const world_t *world, place_t place, char *text, size_t n_bytes)
{
    char line[LINE_BYTES];

    ag_line_append(text, n_bytes, "\nrank %u: %s", place.rank,
                   ag_op_text(world->program, place.rank, (uint32_t)place.op, line, sizeof(line)));
}

static ag_status_t fail_circle(const world_t *world, place_t first)
{
    char text[MOST_QUOTED * (LINE_BYTES + 24)] = "";
    uint32_t n_lines = 0;
    place_t place = first;

    do {
        if (n_lines < MOST_QUOTED) {
            quote(world, place, text, sizeof(text));
        }
        n_lines++;
        place = awaited(world, place);
    } while (place.rank != first.rank || place.op != first.op);
    return ag_fail(AG_ERR_INVALID,
                   "deadlock: each of %u lines waits for the next, the last for the first:%s%s",
                   n_lines, text, n_lines > MOST_QUOTED ? "\n..." : "");
}

/* Who waits for whom leads into a circle, or to one that nobody meets: Floyd's tortoise and hare.
 */
static ag_status_t fail_deadlock(const world_t *world, place_t stuck)
{
    place_t slow = stuck, fast = stuck;
    char text[LINE_BYTES + 24] = "";

    do {
        for (int i = 0; i < 2; i++) {
            place_t next = awaited(world, fast);

            if (next.op == NONE) {
                quote(world, fast, text, sizeof(text));
                return ag_fail(AG_ERR_INVALID, "deadlock: nothing of rank %u ever meets this:%s",
                               next.rank, text);
            }
            fast = next;
        }
        slow = awaited(world, slow);
    } while (slow.rank != fast.rank || slow.op != fast.op);
    return fail_circle(world, slow);
}

/* Nothing moves: fine when all is done. */
static ag_status_t check_ended(const world_t *world)
{
    for (uint32_t r = 0; r < world->program->n_ranks; r++) {
        for (uint32_t s = 0; s < AG_N_STREAMS; s++) {
            int64_t op = head_of(world, r, s);

            if (op != NONE) {
                return fail_deadlock(world, (place_t){r, op});
            }
        }
    }
    return AG_OK;
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

static ag_status_t run(const ag_program_t *program, times_t *clock)
{
    uint32_t n_ranks = program->n_ranks;
    world_t world = {.program = program,
                     .clock = clock,
                     .dags = calloc((size_t)n_ranks + 1, sizeof(ag_dag_t)),
                     .n_done = calloc((size_t)n_ranks * AG_N_STREAMS + 1, sizeof(uint32_t)),
                     .first = calloc((size_t)n_ranks + 1, sizeof(uint16_t))};
    ag_status_t status = AG_OK;

    if (world.dags == NULL || world.n_done == NULL || world.first == NULL) {
        status = ag_fail_nomem("checking a program", n_ranks * sizeof(ag_dag_t));
    }
    for (uint32_t r = 0; r < n_ranks && status == AG_OK; r++) {
        world.first[r] = first_exchanged(&program->ranks[r]);
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
    free(world.first);
    return status;
}

ag_status_t ag_check_rendezvous(const ag_program_t *program)
{
    return run(program, NULL);
}

ag_status_t ag_program_time(const ag_program_t *program,
                            double (*seconds)(void *arg, uint32_t rank, const ag_op_t *op),
                            void *arg, ag_rank_time_t *times)
{
    times_t clock = {seconds, arg, calloc((size_t)program->n_ranks + 1, sizeof(double *)), times};
    ag_status_t status = clock.ends != NULL ? AG_OK : ag_fail_nomem("timing a program", 0);

    for (uint32_t r = 0; r < program->n_ranks && status == AG_OK; r++) {
        times[r] = (ag_rank_time_t){0};
        clock.ends[r] = calloc(program->ranks[r].ops.n_items + 1, sizeof(double));
        status = clock.ends[r] != NULL ? AG_OK : ag_fail_nomem("timing a program", 0);
    }
    if (status == AG_OK) {
        status = run(program, &clock);
    }
    for (uint32_t r = 0; r < program->n_ranks && clock.ends != NULL; r++) {
        free(clock.ends[r]);
    }
    free(clock.ends);
    return status;
}
