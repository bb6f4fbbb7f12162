/* What the generators of transfer lists share. */
#include "comm/list_priv.h"

uint32_t ag_list_count_hosts(const uint32_t *hosts, uint32_t n_ranks)
{
    uint32_t n = 1;

    for (uint32_t r = 0; hosts != NULL && r < n_ranks; r++) {
        n = hosts[r] >= n ? hosts[r] + 1 : n;
    }
    return n;
}

uint32_t ag_list_host_size(const ag_list_t *list, uint32_t host)
{
    uint32_t n = list->hosts == NULL ? list->shape->n_ranks : 0;

    for (uint32_t r = 0; list->hosts != NULL && r < list->shape->n_ranks; r++) {
        n += list->hosts[r] == host;
    }
    return n;
}

uint32_t ag_list_rank_at(const ag_list_t *list, uint32_t host, uint32_t place)
{
    uint32_t p = list->shape->n_ranks;

    if (list->hosts == NULL) {
        return place < p ? place : p;
    }
    for (uint32_t r = 0; r < p; r++) {
        if (list->hosts[r] == host && place-- == 0) {
            return r;
        }
    }
    return p;
}

uint32_t ag_list_place_of(const ag_list_t *list, uint32_t rank)
{
    uint32_t place = 0;

    for (uint32_t r = 0; r < rank; r++) {
        place += list->hosts == NULL || list->hosts[r] == list->hosts[rank];
    }
    return place;
}

ag_list_t ag_list_begin(const ag_transfer_shape_t *shape, uint32_t me, ag_array_t *transfers)
{
    ag_list_t list = {.shape = shape,
                      .hosts = shape->algorithm == AG_BY_HOST ? shape->hosts : NULL,
                      .me = me,
                      .transfers = transfers,
                      .status = AG_OK};

    list.n_hosts = ag_list_count_hosts(list.hosts, shape->n_ranks);
    list.host = list.hosts != NULL ? list.hosts[me] : 0;
    list.local = ag_list_place_of(&list, me);
    list.n_local = ag_list_host_size(&list, list.host);
    for (uint32_t host = 0; host < list.n_hosts; host++) {
        uint32_t size = ag_list_host_size(&list, host);

        list.most_local = size > list.most_local ? size : list.most_local;
    }
    return list;
}

static void add(ag_list_t *list, const ag_transfer_t *transfer)
{
    ag_transfer_t own = *transfer;

    own.phase = list->phase;
    if (own.n > 0 && list->transfers != NULL && list->status == AG_OK) {
        list->status = ag_array_append(list->transfers, &own, 1);
    }
}

void ag_list_send(ag_list_t *list, uint32_t peer, ag_transfer_area_t area, ag_range_t range)
{
    add(list, &(ag_transfer_t){.kind = AG_TRANSFER_SEND,
                               .peer = peer,
                               .from_area = (uint8_t)area,
                               .from = range.begin,
                               .n = range.n});
}

void ag_list_receive(ag_list_t *list, uint32_t peer, ag_transfer_area_t area, ag_range_t range)
{
    add(list, &(ag_transfer_t){.kind = AG_TRANSFER_RECV,
                               .peer = peer,
                               .to_area = (uint8_t)area,
                               .to = range.begin,
                               .n = range.n});
}

void ag_list_work(ag_list_t *list, ag_transfer_kind_t kind, ag_transfer_area_t from_area,
                  ag_range_t from, ag_transfer_area_t to_area, uint64_t to)
{
    add(list, &(ag_transfer_t){.kind = (uint8_t)kind,
                               .from_area = (uint8_t)from_area,
                               .from = from.begin,
                               .to_area = (uint8_t)to_area,
                               .to = to,
                               .n = from.n});
}

ag_range_t ag_list_stage(ag_list_t *list, uint64_t n)
{
    ag_range_t range = {.begin = list->n_staged, .n = n};

    list->n_staged += n;
    list->most_staged = list->n_staged > list->most_staged ? list->n_staged : list->most_staged;
    return range;
}

ag_range_t ag_list_keep(ag_list_t *list, uint64_t n)
{
    ag_range_t range = ag_list_stage(list, n);

    list->n_kept = list->n_staged;
    return range;
}

void ag_list_receive_and_reduce(ag_list_t *list, uint32_t peer, ag_range_t range)
{
    ag_range_t staged = ag_list_stage(list, range.n);

    ag_list_receive(list, peer, AG_AREA_STAGING, staged);
    ag_list_work(list, AG_TRANSFER_REDUCE, AG_AREA_STAGING, staged, AG_AREA_BUFFER, range.begin);
}

void ag_list_end_phase(ag_list_t *list)
{
    list->phase++;
    list->n_staged = list->n_kept;
}

ag_range_t ag_list_whole(const ag_list_t *list)
{
    return (ag_range_t){.n = list->shape->n};
}

ag_range_t ag_list_packed(const uint64_t *counts, uint32_t i)
{
    ag_range_t range = {.n = counts[i]};

    for (uint32_t before = 0; before < i; before++) {
        range.begin += counts[before];
    }
    return range;
}

ag_range_t ag_list_part(const ag_list_t *list, uint32_t rank)
{
    uint32_t p = list->shape->n_ranks;
    uint64_t each = list->shape->n / p, more = list->shape->n % p;

    if (rank == p) {
        return (ag_range_t){0};
    }
    if (list->shape->counts != NULL) {
        return ag_list_packed(list->shape->counts, rank);
    }
    return (ag_range_t){.begin = each * rank + (rank < more ? rank : more),
                        .n = each + (rank < more)};
}

uint32_t ag_list_next(const ag_list_t *list, uint32_t distance)
{
    return (list->me + distance) % list->shape->n_ranks;
}

uint32_t ag_list_before(const ag_list_t *list, uint32_t distance)
{
    return (list->me + list->shape->n_ranks - distance) % list->shape->n_ranks;
}
