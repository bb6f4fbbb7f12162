/* The links that a job's programs use: what goes over each in a step, and what it can do. */
#pragma once

#include "comm/link.h"
#include "parallel/pass/build.h"
#include "runtime/kernel/step.h"

/* One direction between two ranks. */
typedef struct ag_link {
    uint32_t from, to;
    bool of_sums;                     /* between ranks of a stage; else between stages */
    double n_messages;                /* of a step */
    double unit_bytes[AG_N_COUNTERS]; /* times the step's counts */
    ag_link_rates_t rates;
} ag_link_t;

/**
 * Every link that has something to carry, in one order on all ranks. Of a sum each rank sends its
 * neighbour all once at the least: just that where it is sent directly, 2 (n - 1) / n of it around
 * a ring of n ranks (Patarasuk and Yuan 2009); of what is gathered, its own; of what is
 * summed in shares, the neighbour's. Rows go straight to
 * their experts, which a step's rows choose all alike in the mean.
 * @param build  that the program was made with.
 * @param links  ag_link_t items are appended.
 */
ag_status_t ag_links_of(const ag_build_t *build, const ag_program_t *program, ag_array_t *links);

/** Measure them, pair after pair; all ranks call it alike. */
ag_status_t ag_links_measure(ag_net_t *net, const ag_idle_t *idle, const ag_clock_t *clock,
                             ag_array_t *links);

/** Seconds that a link takes at least for a step of these counts. */
double ag_link_seconds(const ag_link_t *link, const double counts[AG_N_COUNTERS]);
