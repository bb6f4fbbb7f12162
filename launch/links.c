#include "launch/links.h"

static ag_link_t *find(ag_array_t *links, uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < links->n_items; i++) {
        ag_link_t *link = &AG_ITEMS(links, ag_link_t)[i];

        if (link->from == from && link->to == to) {
            return link;
        }
    }
    return NULL;
}

/* A message of so many bytes for each that a step counts. */
static ag_status_t add(ag_array_t *links, uint32_t from, uint32_t to, const ag_op_t *op,
                       uint32_t counter, double unit_bytes)
{
    ag_link_t *link = find(links, from, to);

    if (link == NULL) {
        ag_link_t fresh = {.from = from, .to = to, .of_sums = ag_op_infos[op->kind].is_collective};
        ag_status_t status = ag_array_append(links, &fresh, 1);

        if (status != AG_OK) {
            return status;
        }
        link = find(links, from, to);
    }
    link->n_messages += 1;
    link->unit_bytes[counter] += unit_bytes;
    return AG_OK;
}

/* Of the rows of a step, how many copies a rank sends another one's experts where routers choose
 * all experts alike. Both by their places in the stage. */
static double copies_between(const ag_build_t *build, const ag_expert_shard_t *experts,
                             uint32_t n_ranks, uint32_t to)
{
    ag_expert_counts_t counts = ag_spec_experts(build->model->spec);
    uint32_t first = 0;
    double share = 0; /* of an expert's rows, for all experts */

    for (uint32_t r = 0; r < to; r++) {
        first += experts->n_held_of[r];
    }
    for (uint32_t e = 0; e < counts.n; e++) {
        uint32_t n_there = 0;

        for (uint32_t i = experts->place_begin[e]; i < experts->place_begin[e + 1]; i++) {
            n_there +=
                experts->places[i] >= first && experts->places[i] < first + experts->n_held_of[to];
        }
        share += (double)n_there / (experts->place_begin[e + 1] - experts->place_begin[e]);
    }
    return share * counts.n_used / counts.n / n_ranks;
}

/* Numbers of rows for each expert that the other has, those rows, or their results. */
static ag_status_t add_exchange(const ag_build_t *build, const ag_program_group_t *group,
                                uint32_t from, const ag_op_t *op, ag_array_t *links)
{
    const ag_expert_shard_t *mine = &build->ranks[group->ranks[from]].shard.experts;
    ag_status_t status = AG_OK;

    for (uint32_t to = 0; to < group->n_ranks && status == AG_OK; to++) {
        const ag_expert_shard_t *theirs = &build->ranks[group->ranks[to]].shard.experts;
        double numbers = mine->n_held_of[to] * (double)sizeof(uint32_t);
        double copies = op->counter == AG_SIZE_RECEIVED
                            ? copies_between(build, theirs, group->n_ranks, from)
                            : copies_between(build, mine, group->n_ranks, to);

        if (to == from || copies <= 0) {
            continue;
        }
        status = op->counter == AG_SIZE_ONE
                     ? add(links, group->ranks[from], group->ranks[to], op, AG_COUNT_ONE, numbers)
                     : add(links, group->ranks[from], group->ranks[to], op, AG_COUNT_TOKENS,
                           copies * op->unit_bytes);
    }
    return status;
}

static ag_status_t add_op(const ag_build_t *build, const ag_program_t *program, uint32_t rank,
                          const ag_op_t *op, ag_array_t *links)
{
    double unit_bytes = (double)op->unit_bytes / (ag_is_half(op->half) ? 2 : 1);
    const ag_program_group_t *group;
    const ag_program_shares_t *shares = ag_op_shares(program, op);
    uint32_t i = 0, next;

    if (op->kind == AG_OP_SEND) {
        return add(links, rank, (uint32_t)op->peer, op, op->counter, unit_bytes);
    }
    if (!ag_op_infos[op->kind].is_collective) {
        return AG_OK;
    }
    group = &AG_ITEMS(&program->groups, ag_program_group_t)[op->subject];
    while (i < group->n_ranks && group->ranks[i] != rank) {
        i++;
    }
    if (i == group->n_ranks || group->n_ranks == 1) {
        return AG_OK;
    }
    if (op->kind == AG_OP_ALL_TO_ALL) {
        return add_exchange(build, group, i, op, links);
    }
    next = (i + 1) % group->n_ranks;
    if (shares != NULL) {
        unit_bytes =
            (double)shares->floats[op->kind == AG_OP_ALL_GATHER ? i : next] * (double)sizeof(float);
    } else if (op->kind == AG_OP_ALL_GATHER || op->kind == AG_OP_REDUCE_SCATTER) {
        unit_bytes /= group->n_ranks;
    }
    return add(links, rank, group->ranks[next], op, op->counter, unit_bytes);
}

ag_status_t ag_links_of(const ag_build_t *build, const ag_program_t *program, ag_array_t *links)
{
    ag_status_t status = AG_OK;

    for (uint32_t rank = 0; rank < program->n_ranks; rank++) {
        const ag_rank_program_t *r = &program->ranks[rank];

        for (size_t op = 0; op < r->ops.n_items && status == AG_OK; op++) {
            status = add_op(build, program, rank, &ag_rank_ops(r)[op], links);
        }
    }
    return status;
}

ag_status_t ag_links_measure(ag_net_t *net, const ag_idle_t *idle, const ag_clock_t *clock,
                             ag_array_t *links)
{
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < links->n_items && status == AG_OK; i++) {
        ag_link_t *link = &AG_ITEMS(links, ag_link_t)[i];
        const ag_link_t *back = find(links, link->to, link->from);
        bool takes_part = net->rank == (int)link->from || net->rank == (int)link->to;

        if (back != NULL && back < link) { /* measured both ways */
            link->rates = back->rates;
            continue;
        }
        if (takes_part) {
            status = ag_link_measure(net, idle, (int)(link->from + link->to) - net->rank, clock,
                                     &link->rates);
        }
        status = ag_agree(net, idle, status, NULL);
        if (status == AG_OK) { /* of each pair rank `from` tells */
            status =
                ag_agree_broadcast(net, idle, (int)link->from, &link->rates, sizeof(link->rates));
        }
    }
    return status;
}

double ag_link_seconds(const ag_link_t *link, const double counts[AG_N_COUNTERS])
{
    double bytes = 0;

    for (int i = 0; i < AG_N_COUNTERS; i++) {
        bytes += link->unit_bytes[i] * counts[i];
    }
    return link->n_messages * link->rates.latency_s +
           (link->rates.bytes_per_s > 0 ? bytes / link->rates.bytes_per_s : 0);
}
