#include "collectives.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/philox.h"

/* What is drawn for what. */
enum { DRAW_KIND, DRAW_COUNT, DRAW_HOST, DRAW_ROOT, DRAW_ELEMENT, DRAW_DATA };

static uint64_t draw(uint64_t seed, uint64_t stream, uint64_t i, uint64_t n)
{
    return (uint64_t)(ag_philox_uniform(seed, stream, i) * (double)n);
}

static bool sums(const ag_drawn_t *drawn)
{
    return drawn->shape.collective == AG_ALL_REDUCE || drawn->shape.collective == AG_REDUCE_SCATTER;
}

static uint64_t draw_count(uint64_t seed, uint64_t i, uint64_t most)
{
    bool is_none = draw(seed, DRAW_KIND, 0, 10) == 0 || draw(seed, DRAW_KIND, 3 + i, 3) == 0;

    return is_none ? 0 : draw(seed, DRAW_COUNT, i, most + 1);
}

/* One host, one a rank, or some; each has a rank at least. */
static void draw_hosts(ag_drawn_t *drawn)
{
    uint32_t p = drawn->shape.n_ranks, n_hosts = 1 + (uint32_t)draw(drawn->seed, DRAW_HOST, 0, p);
    uint64_t kind = draw(drawn->seed, DRAW_HOST, 1, 5);

    n_hosts = kind == 0 ? 1 : kind == 1 ? p : n_hosts;
    for (uint32_t r = 0; r < p; r++) {
        drawn->hosts[r] = r < n_hosts ? r : (uint32_t)draw(drawn->seed, DRAW_HOST, 2 + r, n_hosts);
    }
    for (uint32_t r = p; r > 1; r--) { /* shuffled: hosts are not runs of ranks */
        uint32_t other = (uint32_t)draw(drawn->seed, DRAW_HOST, 2 + p + r, r);
        uint32_t host = drawn->hosts[r - 1];

        drawn->hosts[r - 1] = drawn->hosts[other];
        drawn->hosts[other] = host;
    }
    drawn->has_hosts = kind != 2;
}

ag_drawn_t ag_drawn_make(uint64_t seed, ag_collective_t collective, ag_algorithm_t algorithm,
                         uint32_t n_ranks, uint64_t most)
{
    static const uint32_t element_bytes[] = {4, 12, 1, 7};
    ag_drawn_t drawn = {.seed = seed,
                        .is_even = draw(seed, DRAW_KIND, 1, 3) == 0,
                        .shape = {.collective = collective,
                                  .algorithm = algorithm,
                                  .n_ranks = n_ranks,
                                  .root = collective == AG_BROADCAST
                                              ? (uint32_t)draw(seed, DRAW_ROOT, 0, n_ranks)
                                              : 0}};

    drawn.shape.element_bytes = element_bytes[draw(seed, DRAW_ELEMENT, 0, sums(&drawn) ? 2 : 4)];
    draw_hosts(&drawn);
    for (uint32_t r = 0; r < n_ranks; r++) {
        drawn.counts[r] = draw_count(seed, r, most);
        drawn.shape.n += collective == AG_ALL_TO_ALL ? 0 : drawn.counts[r];
        for (uint32_t to = 0; to < n_ranks && collective == AG_ALL_TO_ALL; to++) {
            drawn.sends[r * n_ranks + to] = drawn.recvs[to * n_ranks + r] =
                draw_count(seed, r * n_ranks + to, most);
        }
    }
    for (uint32_t r = 0; r < n_ranks && drawn.is_even; r++) {
        drawn.counts[r] = drawn.shape.n / n_ranks + (r < drawn.shape.n % n_ranks);
    }
    return drawn;
}

ag_transfer_shape_t ag_drawn_shape(const ag_drawn_t *drawn, uint32_t rank)
{
    ag_transfer_shape_t shape = drawn->shape;

    shape.hosts = drawn->has_hosts ? drawn->hosts : NULL;
    if (shape.collective == AG_ALL_TO_ALL) {
        shape.send_counts = drawn->sends + (size_t)rank * shape.n_ranks;
        shape.recv_counts = drawn->recvs + (size_t)rank * shape.n_ranks;
        shape.all_counts = shape.algorithm == AG_BY_HOST ? drawn->sends : NULL;
    } else if (!drawn->is_even) {
        shape.counts = drawn->counts;
    }
    return shape;
}

static uint64_t total(const uint64_t *counts, uint32_t n)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        sum += counts[i];
    }
    return sum;
}

/* Whose element i is, where counts lie one after the other. */
static uint32_t owner(const uint64_t *counts, uint64_t i)
{
    uint32_t r = 0;

    while (i >= counts[r]) {
        i -= counts[r++];
    }
    return r;
}

uint64_t ag_drawn_elements(const ag_drawn_t *drawn, uint32_t rank, ag_transfer_area_t area)
{
    uint32_t p = drawn->shape.n_ranks;

    if (area == AG_AREA_INPUT) {
        return total(drawn->sends + (size_t)rank * p, p);
    }
    return drawn->shape.collective == AG_ALL_TO_ALL ? total(drawn->recvs + (size_t)rank * p, p)
                                                    : drawn->shape.n;
}

bool ag_drawn_brings(const ag_drawn_t *drawn, uint32_t rank, uint64_t i)
{
    switch (drawn->shape.collective) {
    case AG_ALL_GATHER:
        return owner(drawn->counts, i) == rank;
    case AG_BROADCAST:
        return drawn->shape.root == rank;
    default:
        return true;
    }
}

bool ag_drawn_is_result(const ag_drawn_t *drawn, uint32_t rank, uint64_t i)
{
    return drawn->shape.collective != AG_REDUCE_SCATTER || owner(drawn->counts, i) == rank;
}

bool ag_drawn_has(const ag_drawn_t *drawn, uint32_t rank, uint64_t i, uint32_t from,
                  uint64_t *index_p)
{
    *index_p = i;
    if (drawn->shape.collective == AG_ALL_TO_ALL) {
        uint32_t p = drawn->shape.n_ranks;
        const uint64_t *sends = drawn->sends + (size_t)from * p;
        const uint64_t *recvs = drawn->recvs + (size_t)rank * p;

        *index_p += total(sends, rank) - total(recvs, from);
        return owner(recvs, i) == from;
    }
    return ag_drawn_brings(drawn, from, i);
}

/* Number k of an element, where they are added: of very different sizes, so that a sum in another
 * order has other bits. */
static float number(const ag_drawn_t *drawn, uint32_t from, uint64_t i, uint32_t k)
{
    static const float scales[] = {1e-4f, 1, 3e3f, 1e7f};
    uint64_t at = i * (drawn->shape.element_bytes / sizeof(float)) + k;

    return ((float)ag_philox_uniform(drawn->seed, DRAW_DATA + from, at) - 0.5f) *
           scales[(at + from) % 4];
}

/* What a rank brings as its element i. */
static void fill(const ag_drawn_t *drawn, uint32_t from, uint64_t i, unsigned char *element)
{
    uint32_t bytes = drawn->shape.element_bytes;

    for (uint32_t k = 0; k < bytes / sizeof(float) && sums(drawn); k++) {
        ((float *)(void *)element)[k] = number(drawn, from, i, k);
    }
    for (uint32_t k = 0; k < bytes && !sums(drawn); k++) {
        element[k] =
            (unsigned char)((i * 31 + k * 7 + from * 101 + drawn->seed) * 11400714819323198485u >>
                            56);
    }
}

static ag_status_t finish(ag_collective_request_t *request, const ag_idle_t *idle)
{
    ag_status_t status;

    while ((status = ag_group_test(request)) == AG_PENDING) {
        if (idle != NULL) {
            idle->fn(idle->arg);
        } else {
            sched_yield();
        }
    }
    return status;
}

ag_status_t ag_drawn_run(const ag_drawn_t *drawn, uint32_t rank, ag_group_t *group,
                         const ag_idle_t *idle, unsigned char **result_p)
{
    ag_transfer_shape_t shape = ag_drawn_shape(drawn, rank), of_group = ag_group_shape(group);
    size_t bytes = shape.element_bytes;
    bool is_apart = shape.collective == AG_ALL_TO_ALL;
    uint64_t n_brought = ag_drawn_elements(drawn, rank, is_apart ? AG_AREA_INPUT : AG_AREA_BUFFER);
    unsigned char *input = malloc(n_brought * bytes), *buffer = input;
    unsigned char *staging = malloc(ag_transfer_stage_elements(&shape, rank) * bytes);
    ag_collective_request_t *request;
    ag_status_t status;

    shape.n_ranks = of_group.n_ranks;
    shape.hosts = of_group.hosts;
    for (uint64_t i = 0; i < n_brought; i++) {
        memset(input + i * bytes, 0xff, bytes);
        if (ag_drawn_brings(drawn, rank, i)) {
            fill(drawn, rank, i, input + i * bytes);
        }
    }
    if (is_apart) {
        buffer = malloc(ag_drawn_elements(drawn, rank, AG_AREA_BUFFER) * bytes);
    }
    status =
        ag_group_post(group, &shape,
                      &(ag_collective_memory_t){
                          .buffer = buffer, .input = is_apart ? input : NULL, .staging = staging},
                      &request);
    status = status == AG_OK ? finish(request, idle) : status;
    free(staging);
    if (is_apart) {
        free(input);
    }
    *result_p = buffer;
    return status;
}

static const char *check_sums(const ag_drawn_t *drawn, uint64_t i, const unsigned char *element)
{
    for (uint32_t k = 0; k < drawn->shape.element_bytes / sizeof(float); k++) {
        double wanted = 0, size = 0, got = (double)((const float *)(const void *)element)[k];

        for (uint32_t from = 0; from < drawn->shape.n_ranks; from++) {
            double x = (double)number(drawn, from, i, k);

            wanted += x;
            size += x < 0 ? -x : x;
        }
        if (!(wanted - 2e-6 * size <= got && got <= wanted + 2e-6 * size)) {
            return "a sum is off";
        }
    }
    return NULL;
}

static const char *check_bytes(const ag_drawn_t *drawn, uint32_t rank, uint64_t i,
                               const unsigned char *element)
{
    unsigned char wanted[16];
    uint64_t index;

    for (uint32_t from = 0; from < drawn->shape.n_ranks; from++) {
        if (ag_drawn_has(drawn, rank, i, from, &index)) {
            fill(drawn, from, index, wanted);
            return memcmp(wanted, element, drawn->shape.element_bytes) == 0
                       ? NULL
                       : "an element is not what was sent";
        }
    }
    return "an element is of no rank";
}

const char *ag_drawn_check(const ag_drawn_t *drawn, uint32_t rank, const unsigned char *result)
{
    uint64_t n = ag_drawn_elements(drawn, rank, AG_AREA_BUFFER);
    const char *complaint = NULL;

    for (uint64_t i = 0; i < n && complaint == NULL; i++) {
        const unsigned char *element = result + i * drawn->shape.element_bytes;

        if (ag_drawn_is_result(drawn, rank, i)) {
            complaint =
                sums(drawn) ? check_sums(drawn, i, element) : check_bytes(drawn, rank, i, element);
        }
    }
    return complaint;
}
