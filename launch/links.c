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

static ag_status_t add(ag_array_t *links, uint32_t from, uint32_t to, const ag_op_t *op)
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
    link->unit_bytes[op->counter] += (double)op->unit_bytes / (op->half == AG_HALF_BOTH ? 1 : 2);
    return AG_OK;
}

static ag_status_t add_op(const ag_program_t *program, uint32_t rank, const ag_op_t *op,
                          ag_array_t *links)
{
    const ag_program_group_t *group;

    if (op->kind == AG_OP_SEND) {
        return add(links, rank, (uint32_t)op->peer, op);
    }
    if (!ag_op_infos[op->kind].is_collective) {
        return AG_OK;
    }
    group = &AG_ITEMS(&program->groups, ag_program_group_t)[op->subject];
    for (uint32_t i = 0; i < group->n_ranks && group->n_ranks > 1; i++) {
        if (group->ranks[i] == rank) {
            return add(links, rank, group->ranks[(i + 1) % group->n_ranks], op);
        }
    }
    return AG_OK;
}

ag_status_t ag_links_of(const ag_program_t *program, ag_array_t *links)
{
    ag_status_t status = AG_OK;

    for (uint32_t rank = 0; rank < program->n_ranks; rank++) {
        const ag_rank_program_t *r = &program->ranks[rank];

        for (size_t op = 0; op < r->ops.n_items && status == AG_OK; op++) {
            status = add_op(program, rank, &ag_rank_ops(r)[op], links);
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
