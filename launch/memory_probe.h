/* How fast memory is read in the course of a run. */
#pragma once

#include "launch/probe.h"

enum { AG_MAX_KEPT_PASSES = 256, AG_LEAST_PASSES = 3 };

/* Rates of passes over memory; of more passes the last ones are kept. */
typedef struct ag_pass_rates {
    double rates[AG_MAX_KEPT_PASSES]; /* bytes/s, of passes that had the cores to themselves */
    uint32_t n_alone, n_disturbed;
} ag_pass_rates_t;

void ag_pass_rates_add(ag_pass_rates_t *rates, const ag_probe_pass_t *pass);

/** Bytes/s of the fastest undisturbed pass that is kept; 0: there was none. */
double ag_pass_rates_best(const ag_pass_rates_t *rates);

/** Bytes/s, the median of undisturbed passes; 0: fewer than AG_LEAST_PASSES were. */
double ag_pass_rates_median(const ag_pass_rates_t *rates);

/*
 * Reads the weights themselves, with the threads that compute. A virtual machine's memory may be
 * twice as fast in one second as in the next, so that what was measured before a run says little of
 * it.
 */
typedef struct ag_memory_probe {
    ag_team_t *team;
    const unsigned char *bytes;
    size_t n_bytes, at; /* 0: there is nothing to be read */
    unsigned n_streams;
    ag_pass_rates_t rates;
} ag_memory_probe_t;

/** Borrow the memory, and find in how many streams it is read fastest. */
void ag_memory_probe_init(ag_memory_probe_t *probe, ag_team_t *team, const void *bytes,
                          size_t n_bytes);

/** One pass over the next part of it. */
void ag_memory_probe_pass(ag_memory_probe_t *probe);
