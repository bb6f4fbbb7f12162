/* Lists in which each rank deals with each, or with ever farther ones, itself. */
#include "comm/list_priv.h"

/* An ALL_TO_ALL has so many partners at once: some hide each other's latency, all clog a switch. */
enum { PAIRS_AT_ONCE = 8 };

/*
 * All others' elements of a range lie in staging, in the order of the ranks; one's own are in the
 * buffer. The sum grows in rank 0's place.
 */
static void reduce_in_rank_order(ag_list_t *list, ag_range_t range, uint64_t staged)
{
    ag_range_t first = {.begin = staged, .n = range.n};
    ag_transfer_area_t area = list->me == 0 ? AG_AREA_BUFFER : AG_AREA_STAGING;
    uint64_t sum = list->me == 0 ? range.begin : staged;

    for (uint32_t r = 1; r < list->shape->n_ranks; r++) {
        ag_range_t place = {.begin = staged + (r < list->me ? r : r - 1) * range.n, .n = range.n};

        ag_list_work(list, AG_TRANSFER_REDUCE, r == list->me ? AG_AREA_BUFFER : AG_AREA_STAGING,
                     r == list->me ? range : place, area, sum);
    }
    if (list->me != 0) {
        ag_list_work(list, AG_TRANSFER_COPY, AG_AREA_STAGING, first, AG_AREA_BUFFER, range.begin);
    }
}

/* Everybody sends to each what it needs for its sum, and sums in rank order. */
void ag_list_reduce_direct(ag_list_t *list)
{
    bool scatters = list->shape->collective == AG_REDUCE_SCATTER;
    ag_range_t mine = scatters ? ag_list_part(list, list->me) : ag_list_whole(list);
    uint64_t staged = ag_list_stage(list, mine.n * (list->shape->n_ranks - 1)).begin;

    for (uint32_t i = 1; i < list->shape->n_ranks; i++) {
        uint32_t to = ag_list_next(list, i), from = ag_list_before(list, i);

        ag_list_send(list, to, AG_AREA_BUFFER,
                     scatters ? ag_list_part(list, to) : ag_list_whole(list));
        ag_list_receive(list, from, AG_AREA_STAGING,
                        (ag_range_t){.begin = staged + (from < list->me ? from : from - 1) * mine.n,
                                     .n = mine.n});
    }
    reduce_in_rank_order(list, mine, staged);
    ag_list_end_phase(list);
}

void ag_list_gather_direct(ag_list_t *list)
{
    for (uint32_t i = 1; i < list->shape->n_ranks; i++) {
        ag_list_send(list, ag_list_next(list, i), AG_AREA_BUFFER, ag_list_part(list, list->me));
        ag_list_receive(list, ag_list_before(list, i), AG_AREA_BUFFER,
                        ag_list_part(list, ag_list_before(list, i)));
    }
    ag_list_end_phase(list);
}

void ag_list_exchange_pairwise(ag_list_t *list)
{
    const ag_transfer_shape_t *shape = list->shape;

    ag_list_work(list, AG_TRANSFER_COPY, AG_AREA_INPUT,
                 ag_list_packed(shape->send_counts, list->me), AG_AREA_BUFFER,
                 ag_list_packed(shape->recv_counts, list->me).begin);
    for (uint32_t i = 1; i < shape->n_ranks; i++) {
        ag_list_send(list, ag_list_next(list, i), AG_AREA_INPUT,
                     ag_list_packed(shape->send_counts, ag_list_next(list, i)));
        ag_list_receive(list, ag_list_before(list, i), AG_AREA_BUFFER,
                        ag_list_packed(shape->recv_counts, ag_list_before(list, i)));
        if (i % PAIRS_AT_ONCE == 0) {
            ag_list_end_phase(list);
        }
    }
}

/*
 * A power of two of ranks is active and doubles what it has summed: rank of place a with that of
 * place a ^ 1, a ^ 2, a ^ 4… Where p is no such power, the first ranks are active by twos: the even
 * one hands its buffer to the odd one and gets the sum back.
 */
void ag_list_reduce_doubling(ag_list_t *list)
{
    uint32_t p = list->shape->n_ranks, active = 1, extra, place;
    bool rests, doubled;

    while (2 * active <= p) {
        active *= 2;
    }
    extra = p - active;
    doubled = list->me < 2 * extra;
    rests = doubled && list->me % 2 == 0;
    place = doubled ? list->me / 2 : list->me - extra;
    if (rests) {
        ag_list_send(list, list->me + 1, AG_AREA_BUFFER, ag_list_whole(list));
    } else if (doubled) {
        ag_list_receive_and_reduce(list, list->me - 1, ag_list_whole(list));
    }
    ag_list_end_phase(list);
    for (uint32_t distance = 1; distance < active; distance *= 2) {
        uint32_t other = place ^ distance, peer = other < extra ? 2 * other + 1 : other + extra;

        if (!rests) {
            ag_list_send(list, peer, AG_AREA_BUFFER, ag_list_whole(list));
            ag_list_receive_and_reduce(list, peer, ag_list_whole(list));
        }
        ag_list_end_phase(list);
    }
    if (rests) {
        ag_list_receive(list, list->me + 1, AG_AREA_BUFFER, ag_list_whole(list));
    } else if (doubled) {
        ag_list_send(list, list->me - 1, AG_AREA_BUFFER, ag_list_whole(list));
    }
    ag_list_end_phase(list);
}
