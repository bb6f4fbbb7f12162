/* What the scheduler (turns.c) and the net of its ranks (turns_net.c) share. */
#pragma once

#include "runtime/base/array.h"
#include "turns.h"

typedef struct turns_net turns_net_t;

enum { MAX_DEATH_TEXT = 64 };

/* Draws of one purpose, one after the other. */
typedef struct draws {
    uint64_t seed, stream, n;
} draws_t;

/** Below n. */
uint64_t turns_draw(draws_t *draws, uint64_t n);

/* The scheduler, as the net sees it. */
typedef struct turns_host {
    void *arg;
    uint64_t now_ns;
    void (*tell)(void *arg, int rank);  /* there is news for a rank: it may go on */
    void (*pause)(void *arg, int rank); /* the rank lets others go first */
    /** A rank calls its net. @return false: it is dead, and reaches nobody. */
    bool (*call)(void *arg, int rank);
} turns_host_t;

/** Make the nets of all ranks; nets_p[r] is rank r's, closed before turns_net_destroy(). */
turns_net_t *turns_net_create(turns_host_t *host, uint32_t n_ranks, uint64_t seed,
                              ag_net_t **nets_p);
void turns_net_destroy(turns_net_t *net);

/** When the next piece moves; UINT64_MAX: none is under way. */
uint64_t turns_net_next_ns(const turns_net_t *net);

/** Move what is due by host->now_ns. */
void turns_net_deliver(turns_net_t *net);

/** A rank dies now: what it has not sent is lost; the others are told later. */
void turns_net_die(turns_net_t *net, int rank);

/** Nobody can go on: from now on every call that waits fails, with what all wait for. */
void turns_net_give_up(turns_net_t *net);

/** Did a call of the rank fail because of a death? */
bool turns_net_is_told(const turns_net_t *net, int rank);
