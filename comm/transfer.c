#include "comm/transfer.h"

#include "comm/list_priv.h"

static uint32_t others(uint32_t n_ranks)
{
    return n_ranks - 1;
}

static uint32_t once(uint32_t n_ranks)
{
    (void)n_ranks;
    return 1;
}

static uint32_t doublings(uint32_t n_ranks)
{
    uint32_t n = 0;

    while (n_ranks >> (n + 1) != 0) {
        n++;
    }
    return n + ((n_ranks & (n_ranks - 1)) != 0 ? 2 : 0);
}

/*
 * One row per collective and algorithm, in the order of preference: the first that applies is
 * chosen. Adding one adds a row and a function.
 */
typedef struct row {
    ag_collective_t collective;
    ag_algorithm_t algorithm;
    void (*list)(ag_list_t *list);
    /* What makes it too slow: it is chosen while a rank sends the buffer so often and at most so
     * many bytes in all. */
    uint32_t (*n_times)(uint32_t n_ranks);
    uint64_t most_bytes;
} row_t;

static const row_t rows[] = {
    {AG_ALL_REDUCE, AG_DIRECT, ag_list_reduce_direct, others, 64 << 10},
    {AG_ALL_REDUCE, AG_DOUBLING, ag_list_reduce_doubling, doublings, 128 << 10},
    {AG_ALL_REDUCE, AG_BY_HOST, ag_list_all_reduce_rings, once, UINT64_MAX},
    {AG_ALL_REDUCE, AG_RING, ag_list_all_reduce_rings, once, UINT64_MAX},
    {AG_REDUCE_SCATTER, AG_DIRECT, ag_list_reduce_direct, once, 64 << 10},
    {AG_REDUCE_SCATTER, AG_BY_HOST, ag_list_reduce_scatter_rings, once, UINT64_MAX},
    {AG_REDUCE_SCATTER, AG_RING, ag_list_reduce_scatter_rings, once, UINT64_MAX},
    {AG_ALL_GATHER, AG_DIRECT, ag_list_gather_direct, once, 64 << 10},
    {AG_ALL_GATHER, AG_BY_HOST, ag_list_gather_rings, once, UINT64_MAX},
    {AG_ALL_GATHER, AG_RING, ag_list_gather_rings, once, UINT64_MAX},
    {AG_ALL_TO_ALL, AG_BY_HOST, ag_list_exchange_by_host, once, 64 << 10},
    {AG_ALL_TO_ALL, AG_PAIRWISE, ag_list_exchange_pairwise, once, UINT64_MAX},
    {AG_BROADCAST, AG_TREE, ag_list_broadcast_tree, doublings, 64 << 10},
    {AG_BROADCAST, AG_BY_HOST, ag_list_broadcast_tree, doublings, 1 << 20},
    {AG_BROADCAST, AG_RING, ag_list_broadcast_ring, once, UINT64_MAX},
};

enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };

static const row_t *find_row(ag_collective_t collective, ag_algorithm_t algorithm)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        if (rows[i].collective == collective && rows[i].algorithm == algorithm) {
            return &rows[i];
        }
    }
    return NULL;
}

bool ag_transfer_is_offered(ag_collective_t collective, ag_algorithm_t algorithm)
{
    return find_row(collective, algorithm) != NULL;
}

/* Elements up to which a row is chosen. */
static uint64_t most_elements(const ag_transfer_shape_t *shape, const row_t *row)
{
    return row->most_bytes / row->n_times(shape->n_ranks) / shape->element_bytes;
}

/* Does the row's way make a difference here? */
static bool applies(const ag_transfer_shape_t *shape, const row_t *row)
{
    uint32_t n_hosts = ag_list_count_hosts(shape->hosts, shape->n_ranks);

    return row->collective == shape->collective &&
           (row->algorithm != AG_BY_HOST || (n_hosts > 1 && n_hosts < shape->n_ranks));
}

/* Elements of the buffer; of an ALL_TO_ALL those that a rank sends in the mean. */
static uint64_t elements_of(const ag_transfer_shape_t *shape)
{
    uint64_t p = shape->n_ranks, sum = 0;

    if (shape->collective != AG_ALL_TO_ALL) {
        return shape->n;
    }
    if (shape->all_counts == NULL) {
        return UINT64_MAX;
    }
    for (uint64_t i = 0; i < p * p; i++) {
        sum += shape->all_counts[i];
    }
    return (sum + p - 1) / p;
}

ag_algorithm_t ag_transfer_choose(const ag_transfer_shape_t *shape)
{
    uint64_t n = elements_of(shape);
    size_t last = 0;

    for (size_t i = 0; i < N_ROWS; i++) {
        if (applies(shape, &rows[i])) {
            last = i;
            if (shape->n_ranks == 1 || n <= most_elements(shape, &rows[i])) {
                break;
            }
        }
    }
    return rows[last].algorithm;
}

static ag_list_t build(const ag_transfer_shape_t *shape, uint32_t me, ag_array_t *transfers)
{
    ag_list_t list = ag_list_begin(shape, me, transfers);

    find_row(shape->collective, shape->algorithm)->list(&list);
    return list;
}

static ag_status_t check_exchange(const ag_transfer_shape_t *shape, uint32_t me)
{
    if (shape->send_counts[me] != shape->recv_counts[me]) {
        return ag_fail(
            AG_ERR_INVALID, "an all-to-all sends %llu elements to itself and receives %llu",
            (unsigned long long)shape->send_counts[me], (unsigned long long)shape->recv_counts[me]);
    }
    if (shape->all_counts == NULL) {
        return shape->algorithm != AG_BY_HOST
                   ? AG_OK
                   : ag_fail(AG_ERR_INVALID, "an all-to-all by host has not all counts");
    }
    for (uint64_t r = 0, p = shape->n_ranks; r < p; r++) {
        if (shape->all_counts[me * p + r] != shape->send_counts[r] ||
            shape->all_counts[r * p + me] != shape->recv_counts[r]) {
            return ag_fail(AG_ERR_INVALID,
                           "an all-to-all has other counts between ranks %u and %u than all know",
                           me, (unsigned)r);
        }
    }
    return AG_OK;
}

static ag_status_t check_counts(const ag_transfer_shape_t *shape, uint32_t me)
{
    ag_range_t end;

    if (shape->collective == AG_ALL_TO_ALL) {
        return check_exchange(shape, me);
    }
    if (shape->counts == NULL) {
        return AG_OK;
    }
    end = ag_list_packed(shape->counts, shape->n_ranks - 1);
    return end.begin + end.n == shape->n
               ? AG_OK
               : ag_fail(AG_ERR_INVALID, "a collective of %llu elements has parts of %llu",
                         (unsigned long long)shape->n, (unsigned long long)(end.begin + end.n));
}

static ag_status_t check_shape(const ag_transfer_shape_t *shape, uint32_t me)
{
    bool sums = shape->collective == AG_ALL_REDUCE || shape->collective == AG_REDUCE_SCATTER;

    if (!ag_transfer_is_offered(shape->collective, shape->algorithm)) {
        return ag_fail(AG_ERR_UNSUPPORTED, "collective %d does not go by algorithm %d",
                       (int)shape->collective, (int)shape->algorithm);
    }
    if (me >= shape->n_ranks || shape->root >= shape->n_ranks) {
        return ag_fail(AG_ERR_INVALID, "a collective of %u ranks has no rank %u", shape->n_ranks,
                       me >= shape->n_ranks ? me : shape->root);
    }
    if (shape->element_bytes == 0 || (sums && shape->element_bytes % sizeof(float) != 0)) {
        return ag_fail(AG_ERR_INVALID, "%u bytes are no element of a collective",
                       shape->element_bytes);
    }
    for (uint32_t host = 0; host < ag_list_count_hosts(shape->hosts, shape->n_ranks); host++) {
        if (ag_list_host_size(&(ag_list_t){.shape = shape, .hosts = shape->hosts}, host) == 0) {
            return ag_fail(AG_ERR_INVALID, "a collective has no rank on host %u", host);
        }
    }
    return check_counts(shape, me);
}

ag_status_t ag_transfer_list(const ag_transfer_shape_t *shape, uint32_t my_index,
                             ag_array_t *transfers)
{
    ag_status_t status = check_shape(shape, my_index);

    return status == AG_OK ? build(shape, my_index, transfers).status : status;
}

uint64_t ag_transfer_stage_elements(const ag_transfer_shape_t *shape, uint32_t my_index)
{
    return build(shape, my_index, NULL).most_staged;
}

/* An ALL_TO_ALL by host stages twice, at most, what a rank passes on. */
static uint64_t most_staged(const ag_transfer_shape_t *shape, uint32_t my_index)
{
    if (shape->collective == AG_ALL_TO_ALL) {
        return shape->algorithm == AG_BY_HOST ? 2 * shape->n_ranks * shape->n : 0;
    }
    return ag_transfer_stage_elements(shape, my_index);
}

uint64_t ag_transfer_most_stage_elements(const ag_transfer_shape_t *shape, uint32_t my_index)
{
    uint64_t most = 0;

    for (size_t i = 0; i < N_ROWS && shape->n_ranks > 1; i++) {
        ag_transfer_shape_t largest = *shape;
        uint64_t needed;

        if (!applies(shape, &rows[i])) {
            continue;
        }
        largest.algorithm = rows[i].algorithm;
        if (largest.n > most_elements(shape, &rows[i])) {
            largest.n = most_elements(shape, &rows[i]);
        }
        needed = most_staged(&largest, my_index);
        most = needed > most ? needed : most;
    }
    return most;
}
