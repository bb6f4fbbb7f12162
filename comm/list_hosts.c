/* Lists along rings and trees, of all ranks alike or of those of hosts and of their like. */
#include "comm/list_priv.h"

/*
 * Hosts and places on them make a table of ranks, and so of parts; a smaller host has gaps. Column
 * l is looked after, on each host, by the rank in place l modulo the host's size. So the table is
 * covered by rings of two kinds, and one rank is on several of either:
 *   near  the ranks of this host, for as many parts of one host from column `column` on;
 *   far   the ranks that look after a column, for its parts.
 * A sum goes along all near rings, then along all far ones, and lies with its part's own rank; a
 * gather goes the way back. With one host that is one near ring: the usual algorithm.
 */
typedef struct ring {
    bool is_far;
    uint32_t host; /* near: whose parts */
    uint32_t column;
    uint32_t n, me; /* its ranks; my place among them */
} ring_t;

static uint32_t ring_rank(const ag_list_t *list, const ring_t *ring, uint32_t i)
{
    i %= ring->n;
    return ring->is_far ? ag_list_rank_at(list, i, ring->column % ag_list_host_size(list, i))
                        : ag_list_rank_at(list, list->host, i);
}

static ag_range_t ring_part(const ag_list_t *list, const ring_t *ring, uint32_t i)
{
    i %= ring->n;
    return ag_list_part(list, ring->is_far ? ag_list_rank_at(list, i, ring->column)
                                           : ag_list_rank_at(list, ring->host, ring->column + i));
}

typedef void (*ring_step_t)(ag_list_t *list, const ring_t *ring, uint32_t step);

/* Part i's sum starts at the rank after i's and grows along the ring. */
static void ring_reduce(ag_list_t *list, const ring_t *ring, uint32_t step)
{
    uint32_t at = ring->me + 2 * ring->n - step;

    ag_list_send(list, ring_rank(list, ring, ring->me + 1), AG_AREA_BUFFER,
                 ring_part(list, ring, at - 1));
    ag_list_receive_and_reduce(list, ring_rank(list, ring, ring->me + ring->n - 1),
                               ring_part(list, ring, at - 2));
}

static void ring_gather(ag_list_t *list, const ring_t *ring, uint32_t step)
{
    uint32_t at = ring->me + 2 * ring->n - step;

    ag_list_send(list, ring_rank(list, ring, ring->me + 1), AG_AREA_BUFFER,
                 ring_part(list, ring, at));
    ag_list_receive(list, ring_rank(list, ring, ring->me + ring->n - 1), AG_AREA_BUFFER,
                    ring_part(list, ring, at - 1));
}

/* One step of all rings takes one phase; a smaller host waits for the larger ones. */
static void run_near(ag_list_t *list, ring_step_t step_fn)
{
    for (uint32_t step = 0; step + 1 < list->most_local; step++) {
        for (uint32_t host = 0; host < list->n_hosts && step + 1 < list->n_local; host++) {
            uint32_t n_parts = ag_list_host_size(list, host);

            for (uint32_t column = 0; column < n_parts; column += list->n_local) {
                step_fn(list,
                        &(ring_t){
                            .host = host, .column = column, .n = list->n_local, .me = list->local},
                        step);
            }
        }
        ag_list_end_phase(list);
    }
}

static void run_far(ag_list_t *list, ring_step_t step_fn)
{
    for (uint32_t step = 0; step + 1 < list->n_hosts; step++) {
        for (uint32_t column = list->local; column < list->most_local; column += list->n_local) {
            step_fn(
                list,
                &(ring_t){.is_far = true, .column = column, .n = list->n_hosts, .me = list->host},
                step);
        }
        ag_list_end_phase(list);
    }
}

void ag_list_reduce_scatter_rings(ag_list_t *list)
{
    run_near(list, ring_reduce);
    run_far(list, ring_reduce);
}

void ag_list_gather_rings(ag_list_t *list)
{
    run_far(list, ring_gather);
    run_near(list, ring_gather);
}

void ag_list_all_reduce_rings(ag_list_t *list)
{
    ag_list_reduce_scatter_rings(list);
    ag_list_gather_rings(list);
}

/* A host's rank that hears of other hosts: the root on its own, else the first. */
static uint32_t leader(const ag_list_t *list, uint32_t host)
{
    uint32_t root = list->shape->root;

    return list->hosts == NULL || list->hosts[root] == host ? root : ag_list_rank_at(list, host, 0);
}

/* Whoever has the buffer hands it on, at distances 1, 2, 4… from the root: to leaders if far, else
 * on this host. */
static void run_tree(ag_list_t *list, bool is_far, uint32_t n, uint32_t root, uint32_t me)
{
    bool is_in = !is_far || list->me == leader(list, list->host);
    uint32_t at = (me + n - root) % n;

    for (uint32_t distance = 1; distance < n; distance *= 2) {
        uint32_t other = (at < distance ? me + distance : me + n - distance) % n;
        uint32_t peer = is_far ? leader(list, other) : ag_list_rank_at(list, list->host, other);

        if (is_in && at < distance && at + distance < n) {
            ag_list_send(list, peer, AG_AREA_BUFFER, ag_list_whole(list));
        } else if (is_in && at >= distance && at < 2 * distance) {
            ag_list_receive(list, peer, AG_AREA_BUFFER, ag_list_whole(list));
        }
        ag_list_end_phase(list);
    }
}

void ag_list_broadcast_tree(ag_list_t *list)
{
    uint32_t mine = leader(list, list->host);

    run_tree(list, true, list->n_hosts, list->hosts == NULL ? 0 : list->hosts[list->shape->root],
             list->host);
    run_tree(list, false, list->n_local, ag_list_place_of(list, mine), list->local);
}

/* The root deals the parts out, and they go round (van de Geijn's scatter and all-gather). */
void ag_list_broadcast_ring(ag_list_t *list)
{
    uint32_t root = list->shape->root;

    for (uint32_t i = 1; i < list->shape->n_ranks && list->me == root; i++) {
        ag_list_send(list, ag_list_next(list, i), AG_AREA_BUFFER,
                     ag_list_part(list, ag_list_next(list, i)));
    }
    if (list->me != root) {
        ag_list_receive(list, root, AG_AREA_BUFFER, ag_list_part(list, list->me));
    }
    ag_list_end_phase(list);
    ag_list_gather_rings(list);
}
