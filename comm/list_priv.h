/* How a transfer list is made: what its generators share, and the generators. */
#pragma once

#include "comm/transfer.h"

/* Elements of an area. */
typedef struct ag_range {
    uint64_t begin, n;
} ag_range_t;

/* A list in the making, on one rank. */
typedef struct ag_list {
    const ag_transfer_shape_t *shape;
    const uint32_t *hosts; /* NULL: all ranks are taken as of one host */
    uint32_t me;
    uint32_t n_hosts, most_local;   /* hosts; ranks of the largest */
    uint32_t host, local, n_local;  /* mine; my place on it; its ranks */
    ag_array_t *transfers;          /* NULL: only staging is measured */
    uint32_t phase;                 /* under way */
    uint64_t n_staged, most_staged; /* elements of staging: of this phase; of any */
    uint64_t n_kept;                /* of those from the first on, until the list's end */
    ag_status_t status;             /* of the appends */
} ag_list_t;

/** A list without transfers, in its first phase. */
ag_list_t ag_list_begin(const ag_transfer_shape_t *shape, uint32_t me, ag_array_t *transfers);

/** Append to the phase under way; nothing where there are no elements. */
void ag_list_send(ag_list_t *list, uint32_t peer, ag_transfer_area_t area, ag_range_t range);
void ag_list_receive(ag_list_t *list, uint32_t peer, ag_transfer_area_t area, ag_range_t range);
void ag_list_work(ag_list_t *list, ag_transfer_kind_t kind, ag_transfer_area_t from_area,
                  ag_range_t from, ag_transfer_area_t to_area, uint64_t to);

/** Receive what is added to a range of the buffer at the end of the phase. */
void ag_list_receive_and_reduce(ag_list_t *list, uint32_t peer, ag_range_t range);

/** Room in staging until the end of the phase. */
ag_range_t ag_list_stage(ag_list_t *list, uint64_t n);

/** The same until the end of the list; while nothing is staged in the phase. */
ag_range_t ag_list_keep(ag_list_t *list, uint64_t n);

void ag_list_end_phase(ag_list_t *list);

/** All of the buffer; a rank's part of it, empty for n_ranks, which is nobody. */
ag_range_t ag_list_whole(const ag_list_t *list);
ag_range_t ag_list_part(const ag_list_t *list, uint32_t rank);

/** Item i of counts, where all lie one after the other. */
ag_range_t ag_list_packed(const uint64_t *counts, uint32_t i);

/** The rank so far after mine, or before it. */
uint32_t ag_list_next(const ag_list_t *list, uint32_t distance);
uint32_t ag_list_before(const ag_list_t *list, uint32_t distance);

/** Hosts; ranks of one; the rank in a place on it, n_ranks where there is none; a rank's place. */
uint32_t ag_list_count_hosts(const uint32_t *hosts, uint32_t n_ranks);
uint32_t ag_list_host_size(const ag_list_t *list, uint32_t host);
uint32_t ag_list_rank_at(const ag_list_t *list, uint32_t host, uint32_t place);
uint32_t ag_list_place_of(const ag_list_t *list, uint32_t rank);

/* The generators; the phase under way is an empty one, before and after. */
void ag_list_reduce_direct(ag_list_t *list); /* ALL_REDUCE or REDUCE_SCATTER */
void ag_list_gather_direct(ag_list_t *list);
void ag_list_exchange_pairwise(ag_list_t *list);
void ag_list_exchange_by_host(ag_list_t *list);
void ag_list_reduce_doubling(ag_list_t *list);
void ag_list_reduce_scatter_rings(ag_list_t *list);
void ag_list_gather_rings(ag_list_t *list);
void ag_list_all_reduce_rings(ag_list_t *list);
void ag_list_broadcast_tree(ag_list_t *list);
void ag_list_broadcast_ring(ag_list_t *list);
