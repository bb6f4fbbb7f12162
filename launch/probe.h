/* The measurements behind the limits. */
#pragma once

#include "launch/limits.h"

/**
 * Fill the four rates for one thread and for all cores: 1 to 2 s on a quiet machine. To be called
 * in a process of its own, for what it takes of memory. It stays on the cores that are its own.
 * @return AG_OK, AG_ERR_NOMEM, or what a product of oneDNN fails with.
 */
ag_status_t ag_probe_rates(uint32_t n_cores, ag_limits_t *limits);

/**
 * Hold what ag_probe_rates() takes against what there is.
 * @return AG_OK; AG_ERR_BUDGET: names both, and how many threads would do.
 */
ag_status_t ag_probe_check(uint32_t n_threads, uint64_t available_bytes);

/* One pass over memory. */
typedef struct ag_probe_pass {
    size_t n_bytes; /* that were read: whole pages of each thread; 0: there was no memory for it */
    double seconds;
    bool alone; /* nobody else had the threads' cores meanwhile */
} ag_probe_pass_t;

/** A team reads memory that is there: each thread its part, in so many streams. */
ag_probe_pass_t ag_probe_read_pass(ag_team_t *team, const void *bytes, size_t n_bytes,
                                   unsigned n_streams);

/**
 * What `argosy measure-process` does: everything a process of ours loads before its work, so that
 * its peak memory is the base of every plan.
 */
ag_status_t ag_probe_process(bool with_mpi);
