/* Parts of the look around, for tests to hold against made-up machines. */
#pragma once

#include "launch/host.h"

/**
 * Memory that may still be taken: MemAvailable, or less where a cgroup (version 1 or 2) or one of
 * its parents leaves less; file pages count as free, since the kernel drops them.
 * @param root  put before /proc and /sys; "" for this machine.
 */
uint64_t ag_host_available_bytes(const char *root);

/** Cores that the CPU quotas of the cgroups leave of n: rounded up, at least one. */
uint32_t ag_host_quota_cores(const char *root, uint32_t n);

/** Whether the user chose a binding, as far as mpirun's environment tells (a rankfile leaves no
 * trace). */
bool ag_host_binding_is_asked(void);
