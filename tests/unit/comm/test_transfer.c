/*
 * The lists of all ranks, interpreted on sets of contributions: every element ends, on every rank,
 * as the sum of each rank's own exactly once; messages match; staging suffices. No process, no net.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "comm/transfer.h"
#include "runtime/base/philox.h"

enum { MAX_RANKS = 17 };

/* What an element holds: how often each rank's contribution is in it. */
typedef struct contents {
    unsigned char times[MAX_RANKS];
} contents_t;

typedef struct rank_world {
    ag_array_t transfers;
    contents_t *buffer, *staging;
    size_t at; /* where its list stands */
    bool done;
} rank_world_t;

typedef struct world {
    const ag_transfer_shape_t *shape;
    uint64_t n, n_stage;
    rank_world_t ranks[MAX_RANKS];
} world_t;

static const ag_transfer_t *transfer_at(const rank_world_t *rank, size_t i)
{
    return &AG_ITEMS(&rank->transfers, ag_transfer_t)[i];
}

static size_t phase_end(const rank_world_t *rank)
{
    size_t end = rank->at;

    while (end < rank->transfers.n_items &&
           transfer_at(rank, end)->phase == transfer_at(rank, rank->at)->phase) {
        end++;
    }
    return end;
}

/* A message between two ranks on its way: its contents at the time it was posted. */
typedef struct message {
    uint32_t from, to;
    uint64_t n;
    contents_t *items;
    bool taken;
} message_t;

static void post_sends(world_t *world, uint32_t r, ag_array_t *messages)
{
    rank_world_t *rank = &world->ranks[r];

    for (size_t i = rank->at; i < phase_end(rank); i++) {
        const ag_transfer_t *t = transfer_at(rank, i);
        message_t message = {.from = r, .to = (uint32_t)t->peer, .n = t->end - t->begin};

        if (t->kind != AG_TRANSFER_SEND) {
            continue;
        }
        cr_assert_leq(t->end, world->n);
        message.items = malloc(message.n * sizeof(contents_t));
        memcpy(message.items, rank->buffer + t->begin, message.n * sizeof(contents_t));
        cr_assert_eq(ag_array_append(messages, &message, 1), AG_OK);
    }
}

/* The oldest message for a receive; NULL where none has come. */
static message_t *find_message(ag_array_t *messages, uint32_t from, uint32_t to)
{
    for (size_t i = 0; i < messages->n_items; i++) {
        message_t *message = &AG_ITEMS(messages, message_t)[i];

        if (!message->taken && message->from == from && message->to == to) {
            return message;
        }
    }
    return NULL;
}

static bool can_receive(world_t *world, uint32_t r, ag_array_t *messages)
{
    const rank_world_t *rank = &world->ranks[r];

    for (size_t i = rank->at; i < phase_end(rank); i++) {
        const ag_transfer_t *t = transfer_at(rank, i);
        bool receives = t->kind == AG_TRANSFER_RECV || t->kind == AG_TRANSFER_RECV_STAGED;

        if (receives && find_message(messages, (uint32_t)t->peer, r) == NULL) {
            return false;
        }
    }
    return true;
}

static void apply(world_t *world, uint32_t r, const ag_transfer_t *t, ag_array_t *messages)
{
    rank_world_t *rank = &world->ranks[r];
    uint64_t n = t->end - t->begin;
    message_t *message;

    if (t->kind != AG_TRANSFER_SEND && t->kind != AG_TRANSFER_RECV &&
        t->kind != AG_TRANSFER_CLEAR) {
        cr_assert_leq(t->stage_begin + n, world->n_stage, "staging is too small");
    }
    switch (t->kind) {
    case AG_TRANSFER_RECV:
    case AG_TRANSFER_RECV_STAGED:
        message = find_message(messages, (uint32_t)t->peer, r);
        cr_assert_eq(message->n, n, "a message of %lu elements where %lu are expected",
                     (unsigned long)message->n, (unsigned long)n);
        memcpy(t->kind == AG_TRANSFER_RECV ? rank->buffer + t->begin
                                           : rank->staging + t->stage_begin,
               message->items, n * sizeof(contents_t));
        free(message->items);
        message->taken = true;
        break;
    case AG_TRANSFER_REDUCE:
        for (uint64_t i = 0; i < n * MAX_RANKS; i++) {
            rank->buffer[t->begin + i / MAX_RANKS].times[i % MAX_RANKS] +=
                rank->staging[t->stage_begin + i / MAX_RANKS].times[i % MAX_RANKS];
        }
        break;
    case AG_TRANSFER_STAGE:
        memcpy(rank->staging + t->stage_begin, rank->buffer + t->begin, n * sizeof(contents_t));
        break;
    case AG_TRANSFER_CLEAR:
        memset(rank->buffer + t->begin, 0, n * sizeof(contents_t));
        break;
    default:
        break;
    }
}

static void run_world(world_t *world)
{
    ag_array_t messages = AG_ARRAY(message_t);
    uint32_t p = world->shape->n_ranks;
    bool moved = true;

    for (uint32_t r = 0; r < p; r++) {
        post_sends(world, r, &messages);
    }
    while (moved) {
        moved = false;
        for (uint32_t r = 0; r < p; r++) {
            rank_world_t *rank = &world->ranks[r];
            size_t end = phase_end(rank);

            if (rank->at == rank->transfers.n_items || !can_receive(world, r, &messages)) {
                continue;
            }
            for (size_t i = rank->at; i < end; i++) {
                apply(world, r, transfer_at(rank, i), &messages);
            }
            rank->at = end;
            post_sends(world, r, &messages);
            moved = true;
        }
    }
    for (uint32_t r = 0; r < p; r++) {
        cr_expect_eq(world->ranks[r].at, world->ranks[r].transfers.n_items, "rank %u waits", r);
    }
    for (size_t i = 0; i < messages.n_items; i++) {
        cr_expect(AG_ITEMS(&messages, message_t)[i].taken, "a message that nobody takes");
    }
    ag_array_fini(&messages);
}

/* owner: whose element it is in an all-gather; -1: everybody contributes. */
static void check_shape(const ag_transfer_shape_t *shape, uint64_t n, const int *owners)
{
    world_t world = {.shape = shape, .n = n, .n_stage = ag_transfer_stage_elements(shape)};

    for (uint32_t r = 0; r < shape->n_ranks; r++) {
        rank_world_t *rank = &world.ranks[r];

        rank->transfers = AG_ARRAY(ag_transfer_t);
        cr_assert_eq(ag_transfer_list(shape, r, &rank->transfers), AG_OK);
        rank->buffer = calloc(n + 1, sizeof(contents_t));
        rank->staging = calloc(world.n_stage + 1, sizeof(contents_t));
        for (uint64_t i = 0; i < n; i++) {
            rank->buffer[i].times[r] = owners == NULL || owners[i] == (int)r;
        }
    }
    run_world(&world);
    for (uint32_t r = 0; r < shape->n_ranks; r++) {
        for (uint64_t i = 0; i < n; i++) {
            for (uint32_t from = 0; from < shape->n_ranks; from++) {
                unsigned wanted = owners == NULL || owners[i] == (int)from;

                cr_assert_eq(world.ranks[r].buffer[i].times[from], wanted,
                             "%d of %u ranks, %lu elements: rank %u has rank %u's element %lu %u "
                             "times",
                             shape->collective, shape->n_ranks, (unsigned long)n, r, from,
                             (unsigned long)i, world.ranks[r].buffer[i].times[from]);
            }
        }
        free(world.ranks[r].buffer);
        free(world.ranks[r].staging);
        ag_array_fini(&world.ranks[r].transfers);
    }
}

Test(transfer, all_reduces_sum_each_rank_once)
{
    static const uint64_t sizes[] = {0, 1, 2, 5, 16, 17, 63, 100};

    for (uint32_t p = 1; p <= MAX_RANKS; p++) {
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            for (int c = AG_ALL_REDUCE_DIRECT; c <= AG_ALL_REDUCE_RING; c++) {
                check_shape(&(ag_transfer_shape_t){.collective = (ag_collective_t)c,
                                                   .n_ranks = p,
                                                   .n = sizes[i]},
                            sizes[i], NULL);
            }
        }
    }
}

Test(transfer, all_gather_brings_uneven_and_empty_parts_to_everybody)
{
    for (uint64_t seed = 0; seed < 100; seed++) {
        uint32_t p = 1 + (uint32_t)(ag_philox_uniform(seed, 0, 0) * MAX_RANKS);
        uint64_t counts[MAX_RANKS], n = 0;
        int owners[MAX_RANKS * 8];

        for (uint32_t r = 0; r < p; r++) {
            counts[r] = (uint64_t)(ag_philox_uniform(seed, 1, r) * 8);
            for (uint64_t i = 0; i < counts[r]; i++) {
                owners[n++] = (int)r;
            }
        }
        check_shape(&(ag_transfer_shape_t){.collective = AG_ALL_GATHER_RING,
                                           .n_ranks = p,
                                           .counts = counts},
                    n, owners);
    }
}

Test(transfer, staging_for_any_size_up_to_a_bound_is_enough)
{
    for (uint32_t p = 2; p <= MAX_RANKS; p++) {
        for (uint64_t n = 0; n < 40000; n += 97) {
            ag_transfer_shape_t shape = {
                .collective = ag_all_reduce_choose(n, p), .n_ranks = p, .n = n};

            cr_assert_leq(ag_transfer_stage_elements(&shape),
                          ag_all_reduce_stage_elements(40000, p));
        }
    }
}
