/*
 * An ALL_TO_ALL by host: of all that goes from one host to another one rank on either side, their
 * carriers, makes one message. All ranks know all counts, so that each can tell what is in what it
 * passes on. Four phases, and each host's carriers are dealt out over its ranks:
 *
 *     pack      what is for a host lies side by side, for its carrier
 *     gather    to the carriers of one's own host, and to its ranks what is for them; carriers put
 *               it in the order of those whom it is for
 *     cross     carriers to carriers
 *     hand out  to the ranks of the host, who put it where it belongs
 *
 * Ranks of a host come in their order in the group, hosts in theirs.
 */
#include "comm/list_priv.h"

/* Where the next host's lies, in staging; each phase goes over the hosts in one order. */
typedef struct areas {
    uint64_t packed;   /* mine for other hosts, but those that I carry to */
    uint64_t gathered; /* this host's other ranks', for the hosts that I carry to: by sender */
    uint64_t sorted;   /* all of this host for those: by receiver, then by sender */
    uint64_t crossed;  /* of those hosts for all of this: by receiver, then by sender */
    uint64_t handed;   /* of other hosts for me, but those that I carry from: by sender */
} areas_t;

static uint64_t count_of(const ag_list_t *list, uint32_t from, uint32_t to)
{
    return list->shape->all_counts[(uint64_t)from * list->shape->n_ranks + to];
}

/* The first rank of a host from `rank` on; n_ranks: there is none. */
static uint32_t on_host(const ag_list_t *list, uint32_t host, uint32_t rank)
{
    while (rank < list->shape->n_ranks && list->hosts != NULL && list->hosts[rank] != host) {
        rank++;
    }
    return rank;
}

/* For each rank of a host, in order. */
#define EACH_ON(list, host, rank)                                                                  \
    uint32_t rank = on_host(list, host, 0);                                                        \
    rank < (list)->shape->n_ranks;                                                                 \
    rank = on_host(list, host, rank + 1)

static uint64_t sum_for_host(const ag_list_t *list, uint32_t from, uint32_t host)
{
    uint64_t sum = 0;

    for (EACH_ON(list, host, to)) {
        sum += count_of(list, from, to);
    }
    return sum;
}

static uint64_t sum_of_host(const ag_list_t *list, uint32_t host, uint32_t to)
{
    uint64_t sum = 0;

    for (EACH_ON(list, host, from)) {
        sum += count_of(list, from, to);
    }
    return sum;
}

static uint64_t sum_between(const ag_list_t *list, uint32_t host, uint32_t other)
{
    uint64_t sum = 0;

    for (EACH_ON(list, host, from)) {
        sum += sum_for_host(list, from, other);
    }
    return sum;
}

/* The rank of a host that deals with another one. */
static uint32_t carrier(const ag_list_t *list, uint32_t host, uint32_t other)
{
    return ag_list_rank_at(list, host, other % ag_list_host_size(list, host));
}

static bool i_carry(const ag_list_t *list, uint32_t other)
{
    return carrier(list, list->host, other) == list->me;
}

static areas_t keep_areas(ag_list_t *list)
{
    areas_t n = {0};

    for (uint32_t host = 0; host < list->n_hosts; host++) {
        uint64_t mine = sum_for_host(list, list->me, host);

        if (host == list->host) {
            continue;
        }
        if (i_carry(list, host)) {
            n.gathered += sum_between(list, list->host, host) - mine;
            n.sorted += sum_between(list, list->host, host);
            n.crossed += sum_between(list, host, list->host);
        } else {
            n.packed += mine;
            n.handed += sum_of_host(list, host, list->me);
        }
    }
    return (areas_t){.packed = ag_list_keep(list, n.packed).begin,
                     .gathered = ag_list_keep(list, n.gathered).begin,
                     .sorted = ag_list_keep(list, n.sorted).begin,
                     .crossed = ag_list_keep(list, n.crossed).begin,
                     .handed = ag_list_keep(list, n.handed).begin};
}

static ag_range_t take(uint64_t *at, uint64_t n)
{
    ag_range_t range = {.begin = *at, .n = n};

    *at += n;
    return range;
}

static void pack(ag_list_t *list, uint64_t packed)
{
    ag_list_work(list, AG_TRANSFER_COPY, AG_AREA_INPUT,
                 ag_list_packed(list->shape->send_counts, list->me), AG_AREA_BUFFER,
                 ag_list_packed(list->shape->recv_counts, list->me).begin);
    for (uint32_t host = 0; host < list->n_hosts; host++) {
        if (host == list->host || i_carry(list, host)) {
            continue;
        }
        for (EACH_ON(list, host, to)) {
            ag_range_t mine = ag_list_packed(list->shape->send_counts, to);

            ag_list_work(list, AG_TRANSFER_COPY, AG_AREA_INPUT, mine, AG_AREA_STAGING, packed);
            packed += mine.n;
        }
    }
    ag_list_end_phase(list);
}

/* Where in staging begins what a rank of this host has gathered here for one of another. */
static uint64_t gathered_for(const ag_list_t *list, uint64_t gathered, uint32_t host, uint32_t from,
                             uint32_t to)
{
    for (EACH_ON(list, list->host, rank)) {
        if (rank == from) {
            break;
        }
        gathered += rank != list->me ? sum_for_host(list, rank, host) : 0;
    }
    for (EACH_ON(list, host, rank)) {
        if (rank == to) {
            break;
        }
        gathered += count_of(list, from, rank);
    }
    return gathered;
}

static void sort(ag_list_t *list, uint32_t host, uint64_t gathered, uint64_t sorted)
{
    for (EACH_ON(list, host, to)) {
        for (EACH_ON(list, list->host, from)) {
            bool is_mine = from == list->me;
            ag_range_t range =
                is_mine ? ag_list_packed(list->shape->send_counts, to)
                        : (ag_range_t){.begin = gathered_for(list, gathered, host, from, to),
                                       .n = count_of(list, from, to)};

            ag_list_work(list, AG_TRANSFER_COPY, is_mine ? AG_AREA_INPUT : AG_AREA_STAGING, range,
                         AG_AREA_STAGING, sorted);
            sorted += range.n;
        }
    }
}

static void gather(ag_list_t *list, areas_t at)
{
    for (EACH_ON(list, list->host, mate)) {
        if (mate != list->me) {
            ag_list_send(list, mate, AG_AREA_INPUT, ag_list_packed(list->shape->send_counts, mate));
            ag_list_receive(list, mate, AG_AREA_BUFFER,
                            ag_list_packed(list->shape->recv_counts, mate));
        }
    }
    for (uint32_t host = 0; host < list->n_hosts; host++) {
        uint64_t gathered = at.gathered;

        if (host == list->host) {
            continue;
        }
        if (!i_carry(list, host)) {
            ag_list_send(list, carrier(list, list->host, host), AG_AREA_STAGING,
                         take(&at.packed, sum_for_host(list, list->me, host)));
            continue;
        }
        for (EACH_ON(list, list->host, mate)) {
            if (mate != list->me) {
                ag_list_receive(list, mate, AG_AREA_STAGING,
                                take(&at.gathered, sum_for_host(list, mate, host)));
            }
        }
        sort(list, host, gathered, take(&at.sorted, sum_between(list, list->host, host)).begin);
    }
    ag_list_end_phase(list);
}

static void cross(ag_list_t *list, areas_t at)
{
    for (uint32_t host = 0; host < list->n_hosts; host++) {
        if (host != list->host && i_carry(list, host)) {
            uint32_t peer = carrier(list, host, list->host);

            ag_list_send(list, peer, AG_AREA_STAGING,
                         take(&at.sorted, sum_between(list, list->host, host)));
            ag_list_receive(list, peer, AG_AREA_STAGING,
                            take(&at.crossed, sum_between(list, host, list->host)));
        }
    }
    ag_list_end_phase(list);
}

/* What the ranks of a host have for me, in their order. */
static void unpack(ag_list_t *list, uint32_t host, ag_range_t staged)
{
    for (EACH_ON(list, host, from)) {
        ag_range_t place = ag_list_packed(list->shape->recv_counts, from);

        ag_list_work(list, AG_TRANSFER_COPY, AG_AREA_STAGING, take(&staged.begin, place.n),
                     AG_AREA_BUFFER, place.begin);
    }
}

static void hand_out(ag_list_t *list, areas_t at)
{
    for (uint32_t host = 0; host < list->n_hosts; host++) {
        ag_range_t mine;

        if (host == list->host) {
            continue;
        }
        if (!i_carry(list, host)) {
            mine = take(&at.handed, sum_of_host(list, host, list->me));
            ag_list_receive(list, carrier(list, list->host, host), AG_AREA_STAGING, mine);
            unpack(list, host, mine);
            continue;
        }
        for (EACH_ON(list, list->host, mate)) {
            mine = take(&at.crossed, sum_of_host(list, host, mate));
            if (mate == list->me) {
                unpack(list, host, mine);
            } else {
                ag_list_send(list, mate, AG_AREA_STAGING, mine);
            }
        }
    }
    ag_list_end_phase(list);
}

void ag_list_exchange_by_host(ag_list_t *list)
{
    areas_t areas = keep_areas(list);

    pack(list, areas.packed);
    gather(list, areas);
    cross(list, areas);
    hand_out(list, areas);
}
