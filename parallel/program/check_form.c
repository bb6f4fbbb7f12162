/* Every number in the program stands for something that is there. The other checks rely on it. */
#include <stdlib.h>
#include <string.h>

#include "parallel/program/check_priv.h"

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const ag_buffer_t *const *)a)->name, (*(const ag_buffer_t *const *)b)->name);
}

/* Lines of text tell buffers apart by their names. */
static ag_status_t check_names(const ag_rank_program_t *rank, uint32_t r)
{
    size_t n = rank->buffers.n_items;
    const ag_buffer_t **sorted = malloc((n + 1) * sizeof(*sorted));
    ag_status_t status = AG_OK;

    if (sorted == NULL) {
        return ag_fail_nomem("checking a program", n * sizeof(*sorted));
    }
    for (size_t i = 0; i < n; i++) {
        sorted[i] = &AG_ITEMS(&rank->buffers, ag_buffer_t)[i];
    }
    qsort(sorted, n, sizeof(const ag_buffer_t *), by_name);
    for (size_t i = 1; i < n && status == AG_OK; i++) {
        if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0) {
            status =
                ag_fail(AG_ERR_INVALID, "rank %u: two buffers are named %s", r, sorted[i]->name);
        }
    }
    free(sorted);
    return status;
}

static ag_status_t check_buffer(const ag_program_t *program, uint32_t r, const ag_buffer_t *buffer)
{
    if (buffer->counter >= AG_N_SIZE_COUNTERS) {
        return ag_fail(AG_ERR_INVALID, "rank %u: buffer %s counts what is not there", r,
                       buffer->name);
    }
    return buffer->bytes >= buffer->unit_bytes * program->bounds[buffer->counter]
               ? AG_OK
               : ag_check_fail_buffer(buffer, r, "a buffer smaller than a step may fill it");
}

static bool are_uses_sound(const ag_rank_program_t *rank, const ag_op_t *op)
{
    for (uint32_t i = 0; i < op->n_uses; i++) {
        const ag_use_t *use = &ag_op_uses(rank, op)[i];

        if (use->buffer >= rank->buffers.n_items || !ag_use_mode_is_sound(use->mode)) {
            return false;
        }
    }
    return true;
}

static bool are_deps_sound(const ag_rank_program_t *rank, const ag_op_t *op)
{
    for (uint32_t i = 0; i < op->n_deps; i++) {
        if (AG_ITEMS(&rank->deps, uint32_t)[op->first_dep + i] >= rank->ops.n_items) {
            return false;
        }
    }
    return true;
}

static bool has_subject(const ag_program_t *program, const ag_rank_program_t *rank,
                        const ag_op_t *op)
{
    if (op->kind == AG_OP_SEGMENT) {
        return op->subject < rank->segments.n_items &&
               AG_ITEMS(&rank->segments, ag_segment_t)[op->subject].parts.n_items > 0;
    }
    return !ag_op_infos[op->kind].is_collective || op->subject < program->groups.n_items;
}

static bool counts_rows(uint32_t counter)
{
    return counter == AG_SIZE_SENT || counter == AG_SIZE_RECEIVED;
}

/* Numbers for numbers, or rows for rows of the same width with the numbers of both. */
static bool exchanges_alike(const ag_op_t *op, const ag_buffer_t *const *moved)
{
    if (op->n_uses == 2) {
        return moved[0]->counter == AG_SIZE_ONE && moved[1]->counter == AG_SIZE_ONE;
    }
    return counts_rows(moved[0]->counter) && counts_rows(moved[1]->counter) &&
           moved[0]->counter != moved[1]->counter && moved[1]->unit_bytes == op->unit_bytes &&
           moved[2]->counter == AG_SIZE_ONE && moved[3]->counter == AG_SIZE_ONE;
}

/* What a message or a collective moves is its first buffer; the others are as its kind has them. */
static bool moves_its_buffers(const ag_rank_program_t *rank, const ag_op_t *op)
{
    const ag_op_info_t *info = &ag_op_infos[op->kind];
    const ag_buffer_t *moved[AG_MAX_MOVED];

    if (op->n_uses != info->n_least && op->n_uses != info->n_uses) {
        return false;
    }
    for (uint32_t i = 0; i < op->n_uses; i++) {
        const ag_use_t *use = &ag_op_uses(rank, op)[i];

        if (use->mode != info->uses[i]) {
            return false;
        }
        moved[i] = &AG_ITEMS(&rank->buffers, ag_buffer_t)[use->buffer];
    }
    return moved[0]->counter == op->counter && moved[0]->unit_bytes == op->unit_bytes &&
           (op->n_uses == 1 || exchanges_alike(op, moved));
}

/* Some of its rows are what an operation works on, and what is its own. A rank's share of them is
 * used as such. */
static bool is_half_sound(const ag_rank_program_t *rank, const ag_op_t *op)
{
    bool is_share = op->half == AG_ROWS_SHARE;

    for (uint32_t i = 0; i < op->n_uses && op->half != AG_HALF_BOTH; i++) {
        const ag_use_t *use = &ag_op_uses(rank, op)[i];
        uint32_t counter = AG_ITEMS(&rank->buffers, ag_buffer_t)[use->buffer].counter;

        if ((counter != AG_SIZE_TOKENS && (counter != AG_SIZE_ONE || op->kind != AG_OP_SEGMENT)) ||
            (is_share && counter == AG_SIZE_TOKENS && !(use->mode & AG_USE_SHARE))) {
            return false;
        }
    }
    return op->half == AG_HALF_BOTH ||
           (is_share ? op->kind == AG_OP_SEGMENT : ag_op_infos[op->kind].has_halves);
}

/* A buffer of one size, of which each rank of the group has a share, and all of them all of it; or
 * one of rows. */
static bool are_shares_sound(const ag_program_t *program, const ag_op_t *op)
{
    const ag_program_shares_t *shares = ag_op_shares(program, op);
    uint64_t n = 0;

    if (shares == NULL) {
        return op->kind != AG_OP_REDUCE_SCATTER || op->counter == AG_SIZE_TOKENS;
    }
    for (uint32_t i = 0; i < shares->n_ranks; i++) {
        n += shares->floats[i];
    }
    return (op->kind == AG_OP_REDUCE_SCATTER || op->kind == AG_OP_ALL_GATHER) &&
           shares->n_ranks == AG_ITEMS(&program->groups, ag_program_group_t)[op->subject].n_ranks &&
           op->counter == AG_SIZE_ONE && op->unit_bytes == n * sizeof(float);
}

static ag_status_t check_op(const ag_program_t *program, uint32_t r, uint32_t op)
{
    const ag_rank_program_t *rank = &program->ranks[r];
    const ag_op_t *o = &ag_rank_ops(rank)[op];

    if (o->kind >= AG_N_OP_KINDS || o->stream >= AG_N_STREAMS || o->counter >= AG_N_SIZE_COUNTERS ||
        o->half >= AG_N_HALVES || (uint64_t)o->first_use + o->n_uses > rank->uses.n_items ||
        (uint64_t)o->first_dep + o->n_deps > rank->deps.n_items || !are_uses_sound(rank, o) ||
        !are_deps_sound(rank, o) || !has_subject(program, rank, o) ||
        o->shares > program->shares.n_items) {
        return ag_fail(AG_ERR_INVALID, "rank %u: operation %u names what is not there", r, op);
    }
    if (!is_half_sound(rank, o)) {
        return ag_check_fail_at(program, r, op, "half of what has no rows");
    }
    if (o->kind == AG_OP_SEGMENT) {
        return AG_OK;
    }
    if (ag_op_infos[o->kind].is_message &&
        (o->peer < 0 || (uint32_t)o->peer >= program->n_ranks || (uint32_t)o->peer == r)) {
        return ag_check_fail_at(program, r, op, "a message to nobody");
    }
    if (ag_op_infos[o->kind].is_collective) {
        const ag_program_group_t *group =
            &AG_ITEMS(&program->groups, ag_program_group_t)[o->subject];

        if (o->channel != group->channel || !ag_program_is_member(program, o->subject, r)) {
            return ag_check_fail_at(program, r, op, "the group's channel is another, or its ranks");
        }
    }
    if (!are_shares_sound(program, o)) {
        return ag_check_fail_at(program, r, op, "the ranks' shares do not make up what it moves");
    }
    return moves_its_buffers(rank, o)
               ? AG_OK
               : ag_check_fail_at(program, r, op, "what it moves does not fit its buffer");
}

/* With whom an operation meets: a peer on a channel, one way, or a group, in whatever it does. */
static bool meets_alike(const ag_op_t *a, const ag_op_t *b)
{
    bool both_groups = ag_op_infos[a->kind].is_collective && ag_op_infos[b->kind].is_collective;

    return (a->kind == b->kind || both_groups) && a->channel == b->channel && a->peer == b->peer;
}

/*
 * What meets alike stands on one stream. Streams keep the order of operations and of the instances
 * of a program that are in flight, so that what meets is always what was meant to: a program that
 * runs to its end alone does so behind others.
 */
static ag_status_t check_streams(const ag_program_t *program, uint32_t r)
{
    const ag_rank_program_t *rank = &program->ranks[r];
    ag_array_t firsts = AG_ARRAY(uint32_t); /* the first operation of each kind of meeting */
    ag_status_t status = AG_OK;

    for (uint32_t op = 0; op < rank->ops.n_items && status == AG_OK; op++) {
        const ag_op_t *o = &ag_rank_ops(rank)[op], *first = NULL;

        for (size_t i = 0; i < firsts.n_items && first == NULL; i++) {
            const ag_op_t *other = &ag_rank_ops(rank)[AG_ITEMS(&firsts, uint32_t)[i]];

            first = meets_alike(other, o) ? other : NULL;
        }
        if (first == NULL && o->kind != AG_OP_SEGMENT) {
            status = ag_array_append(&firsts, &op, 1);
        } else if (first != NULL && first->stream != o->stream) {
            status = ag_check_fail_at(program, r, op,
                                      "meets what another stream meets, in no certain order");
        }
    }
    ag_array_fini(&firsts);
    return status;
}

ag_status_t ag_check_form(const ag_program_t *program, uint32_t rank)
{
    const ag_rank_program_t *r = &program->ranks[rank];
    ag_status_t status = check_names(r, rank);

    for (size_t i = 0; i < r->buffers.n_items && status == AG_OK; i++) {
        status = check_buffer(program, rank, &AG_ITEMS(&r->buffers, ag_buffer_t)[i]);
    }
    for (uint32_t op = 0; op < r->ops.n_items && status == AG_OK; op++) {
        status = check_op(program, rank, op);
    }
    return status == AG_OK ? check_streams(program, rank) : status;
}

static ag_status_t check_group(const ag_program_t *program, const ag_program_group_t *groups,
                               size_t at, bool *seen)
{
    memset(seen, 0, program->n_ranks * sizeof(*seen));
    for (uint32_t i = 0; i < groups[at].n_ranks; i++) {
        uint32_t rank = groups[at].ranks[i];

        if (rank >= program->n_ranks || seen[rank]) {
            return ag_fail(AG_ERR_INVALID, "group %zu: rank %u is %s", at, rank,
                           rank >= program->n_ranks ? "not there" : "in it twice");
        }
        seen[rank] = true;
    }
    for (size_t i = 0; i < at; i++) {
        if (groups[i].channel == groups[at].channel) {
            return ag_fail(AG_ERR_INVALID, "groups %zu and %zu share channel %u", i, at,
                           groups[at].channel);
        }
    }
    return groups[at].channel == AG_LINK_CHANNEL || groups[at].channel == AG_BACK_CHANNEL
               ? ag_fail(AG_ERR_INVALID, "group %zu is on the messages' channel", at)
               : AG_OK;
}

ag_status_t ag_check_groups(const ag_program_t *program)
{
    const ag_program_group_t *groups = AG_ITEMS(&program->groups, ag_program_group_t);
    bool *seen = calloc((size_t)program->n_ranks + 1, sizeof(*seen));
    ag_status_t status =
        seen == NULL ? ag_fail_nomem("checking a program", program->n_ranks) : AG_OK;

    for (size_t i = 0; i < program->groups.n_items && status == AG_OK; i++) {
        status = check_group(program, groups, i, seen);
    }
    free(seen);
    return status;
}
