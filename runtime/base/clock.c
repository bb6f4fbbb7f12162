#include "runtime/base/clock.h"

#include <time.h>

static uint64_t monotonic_now_ns(void *arg)
{
    struct timespec now;

    (void)arg;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

ag_clock_t ag_clock_monotonic(void)
{
    return (ag_clock_t){.now_ns = monotonic_now_ns, .arg = NULL};
}
