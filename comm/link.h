/* What a link between two ranks can do. */
#pragma once

#include "comm/agree.h"
#include "runtime/base/clock.h"

typedef struct ag_link_rates {
    double latency_s;   /* half a round trip of 8 bytes */
    double bytes_per_s; /* one way, in messages of 1 MiB */
} ag_link_rates_t;

/**
 * Measure the link between two ranks, which both call this, as nobody else does: the best of
 * several rounds, some milliseconds.
 * @param peer  the other one.
 */
ag_status_t ag_link_measure(ag_net_t *net, const ag_idle_t *idle, int peer, const ag_clock_t *clock,
                            ag_link_rates_t *rates_p);
