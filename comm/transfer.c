#include "comm/transfer.h"

/* Below this many float32 elements one exchange with everybody beats a ring's 2 (p - 1) steps. */
enum { DIRECT_ELEMENTS = 16384 };

ag_collective_t ag_all_reduce_choose(uint64_t n, uint32_t n_ranks)
{
    return n * (n_ranks - 1) <= DIRECT_ELEMENTS ? AG_ALL_REDUCE_DIRECT : AG_ALL_REDUCE_RING;
}

uint64_t ag_all_reduce_stage_elements(uint64_t n, uint32_t n_ranks)
{
    uint64_t direct, ring;

    if (n_ranks <= 1) {
        return 0;
    }
    direct = n < DIRECT_ELEMENTS / (n_ranks - 1) ? n : DIRECT_ELEMENTS / (n_ranks - 1);
    ring = n / n_ranks + 1;
    return direct * n_ranks > ring ? direct * n_ranks : ring;
}

static ag_status_t add(ag_array_t *transfers, ag_transfer_kind_t kind, uint32_t peer,
                       uint32_t phase, uint64_t begin, uint64_t end, uint64_t stage_begin)
{
    ag_transfer_t transfer = {.kind = (uint8_t)kind,
                              .peer = (int32_t)peer,
                              .phase = phase,
                              .begin = begin,
                              .end = end,
                              .stage_begin = stage_begin};

    return begin < end ? ag_array_append(transfers, &transfer, 1) : AG_OK;
}

/*
 * Everybody sends all to everybody. The sum is taken in rank order on every rank, so one's own part
 * has to be set aside and added in its turn: place r of the staging area is rank r's.
 */
static ag_status_t list_direct(const ag_transfer_shape_t *shape, uint32_t me, ag_array_t *transfers)
{
    uint64_t n = shape->n;
    ag_status_t status = AG_OK;

    for (uint32_t i = 1; i < shape->n_ranks && status == AG_OK; i++) {
        uint32_t to = (me + i) % shape->n_ranks;
        uint32_t from = (me + shape->n_ranks - i) % shape->n_ranks;

        status = add(transfers, AG_TRANSFER_SEND, to, 0, 0, n, 0);
        if (status == AG_OK) {
            status = add(transfers, AG_TRANSFER_RECV_STAGED, from, 0, 0, n, from * n);
        }
    }
    if (status == AG_OK) {
        status = add(transfers, AG_TRANSFER_STAGE, me, 0, 0, n, me * n);
    }
    if (status == AG_OK) {
        status = add(transfers, AG_TRANSFER_CLEAR, me, 0, 0, n, 0);
    }
    for (uint32_t r = 0; r < shape->n_ranks && status == AG_OK; r++) {
        status = add(transfers, AG_TRANSFER_REDUCE, r, 0, 0, n, r * n);
    }
    return status;
}

static uint64_t chunk_begin(const ag_transfer_shape_t *shape, uint32_t chunk)
{
    return shape->n / shape->n_ranks * chunk +
           (chunk < shape->n % shape->n_ranks ? chunk : shape->n % shape->n_ranks);
}

/* Chunk c's sum starts at rank c and grows along the ring; then whole chunks go round once more. */
static ag_status_t list_ring(const ag_transfer_shape_t *shape, uint32_t me, ag_array_t *transfers)
{
    uint32_t p = shape->n_ranks, to = (me + 1) % p, from = (me + p - 1) % p;
    ag_status_t status = AG_OK;

    for (uint32_t step = 0; step < 2 * (p - 1) && status == AG_OK; step++) {
        bool reduces = step < p - 1;
        uint32_t sent = (me + 2 * p - step) % p, received = (me + 2 * p - step - 1) % p;
        uint64_t begin = chunk_begin(shape, received), end = chunk_begin(shape, received + 1);

        status = add(transfers, AG_TRANSFER_SEND, to, step, chunk_begin(shape, sent),
                     chunk_begin(shape, sent + 1), 0);
        if (status == AG_OK) {
            status = add(transfers, reduces ? AG_TRANSFER_RECV_STAGED : AG_TRANSFER_RECV, from,
                         step, begin, end, 0);
        }
        if (status == AG_OK && reduces) {
            status = add(transfers, AG_TRANSFER_REDUCE, from, step, begin, end, 0);
        }
    }
    return status;
}

static ag_status_t list_gather(const ag_transfer_shape_t *shape, uint32_t me, ag_array_t *transfers)
{
    uint32_t p = shape->n_ranks, to = (me + 1) % p, from = (me + p - 1) % p;
    ag_status_t status = AG_OK;

    for (uint32_t step = 0; step + 1 < p && status == AG_OK; step++) {
        uint32_t sent = (me + p - step) % p, received = (me + 2 * p - step - 1) % p;
        uint64_t sent_begin = 0, received_begin = 0;

        for (uint32_t r = 0; r < p; r++) {
            sent_begin += r < sent ? shape->counts[r] : 0;
            received_begin += r < received ? shape->counts[r] : 0;
        }
        status = add(transfers, AG_TRANSFER_SEND, to, step, sent_begin,
                     sent_begin + shape->counts[sent], 0);
        if (status == AG_OK) {
            status = add(transfers, AG_TRANSFER_RECV, from, step, received_begin,
                         received_begin + shape->counts[received], 0);
        }
    }
    return status;
}

/* One row per collective: adding one adds a row and a function. */
static ag_status_t (*const lists[AG_N_COLLECTIVES])(const ag_transfer_shape_t *shape, uint32_t me,
                                                    ag_array_t *transfers) = {
    [AG_ALL_REDUCE_DIRECT] = list_direct,
    [AG_ALL_REDUCE_RING] = list_ring,
    [AG_ALL_GATHER_RING] = list_gather,
};

ag_status_t ag_transfer_list(const ag_transfer_shape_t *shape, uint32_t my_index,
                             ag_array_t *transfers)
{
    if (shape->n_ranks == 1) {
        return AG_OK;
    }
    return lists[shape->collective](shape, my_index, transfers);
}

uint64_t ag_transfer_stage_elements(const ag_transfer_shape_t *shape)
{
    if (shape->n_ranks == 1) {
        return 0;
    }
    switch (shape->collective) {
    case AG_ALL_REDUCE_DIRECT:
        return shape->n * shape->n_ranks;
    case AG_ALL_REDUCE_RING:
        return chunk_begin(shape, 1);
    default:
        return 0;
    }
}
