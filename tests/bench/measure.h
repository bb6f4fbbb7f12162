/* What the benches of kernels measure with. */
#pragma once

#include <stddef.h>

#include "runtime/base/status.h"
#include "runtime/base/team.h"

/** Memory on huge pages, as ag_region_map() has it; ends the program where there is none. */
void *take(size_t n_bytes);

/** End the program with the error's words. */
void check(ag_status_t status);

/**
 * Nanoseconds of a region, the best of runs for 60 ms, two at least, behind one that builds
 * primitives and touches pages.
 * @param before  called ahead of each run that counts; NULL: nothing is.
 */
double best_of(ag_team_t *team, ag_region_fn_t region, void *arg, void (*before)(void *arg));
