/* This process's place on its machine: cores, memory, the ranks beside it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/status.h"

/* Cores, a bit each, as the system numbers them: a cpu_set_t's bits. */
typedef struct ag_cores {
    uint64_t bits[16];
} ag_cores_t;

typedef struct ag_host {
    bool under_mpirun;
    uint32_t local_rank, n_local; /* among the ranks of this machine */
    uint32_t n_cores;             /* that all ranks here may use together, the quota counted */
    ag_cores_t cores;             /* which ones, the quota not counted */
    uint32_t n_own_cores;     /* that this rank may use: fewer where mpirun was asked to bind it */
    uint64_t available_bytes; /* what the machine, or the cgroup, leaves to all ranks here */
} ag_host_t;

/**
 * Look around. A binding to cores that nobody asked for (mpirun's default for one and two ranks) is
 * undone: to be called before threads are started, which inherit it. Reads the environment that
 * mpirun sets.
 */
ag_status_t ag_host_init(ag_host_t *host);

/**
 * Threads of this rank: its share of the host's cores (the remainder goes to the lower ranks), no
 * more than it is bound to, at least one.
 */
uint32_t ag_host_threads(const ag_host_t *host);

/** This process's peak of resident memory so far. */
uint64_t ag_process_peak_bytes(void);
