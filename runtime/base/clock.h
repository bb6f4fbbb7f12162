/* Time comes from a clock that is passed down, so that a test can hold its own. */
#pragma once

#include <stdint.h>

typedef struct ag_clock {
    uint64_t (*now_ns)(void *arg);
    void *arg;
} ag_clock_t;

/** The machine's monotonic clock. */
ag_clock_t ag_clock_monotonic(void);

static inline uint64_t ag_clock_now_ns(const ag_clock_t *clock)
{
    return clock->now_ns(clock->arg);
}
