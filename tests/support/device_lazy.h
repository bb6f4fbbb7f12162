/*
 * A device of the other kind than the CPU: its streams defer their work, which runs in any order
 * that they allow, drawn from a seed; and nobody but that work may touch its memory, which is
 * protected meanwhile. So a wait that is missing gives wrong numbers, and a look from the host ends
 * the process. The kernels are the CPU's.
 */
#pragma once

#include "runtime/device/device.h"

typedef struct ag_device_lazy_opts {
    uint64_t seed;
    /**
     * Called when work was done, or is waited for; NULL: nobody is told. Who schedules ranks hears
     * of it that this one is not stuck.
     */
    void (*on_work)(void *arg);
    void *arg;
    /* Bits: streams that are always late: each has as little done as may be. 0: any one is, or
     * none. */
    uint32_t late;
    /* The so-manieth time, from 1, that something has to wait, it does not: a stream for another,
     * or the host for a stream. 0: never. */
    uint64_t forgotten;
} ag_device_lazy_opts_t;

/**
 * @param team    borrowed, as the ledger; regions run on it.
 * @param opts    NULL for defaults.
 */
ag_status_t ag_device_lazy_open(ag_team_t *team, ag_ledger_t *ledger,
                                const ag_device_lazy_opts_t *opts, ag_device_t **device_p);

/** How often something had to wait so far. */
uint64_t ag_device_lazy_waits(const ag_device_t *device);
