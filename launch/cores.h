/* Which cores the threads of the ranks of one machine stand on. */
#pragma once

#include <stdint.h>

#include "launch/host.h"

/**
 * Cores for n threads.
 * @param own     (n_own) those that the process may use; at least one.
 * @param before  threads of the machine's ranks before this one: each rank goes on where they end,
 *                around where threads outnumber cores.
 * @param cores   out: (n).
 */
void ag_cores_pick(const int *own, uint32_t n_own, uint32_t before, uint32_t n, int *cores);

/**
 * Let this thread onto other cores, where it may.
 * @param before_p  out: for ag_cores_go_back(), in any case.
 */
void ag_cores_move(const ag_cores_t *cores, ag_cores_t *before_p);

/**
 * Let this rank alone onto one core of its machine while messages are timed: of two ranks that spin
 * on one core each finds the other's message only when its turn is over. Does nothing where it is
 * alone, where ranks outnumber cores, or where it is bound to some: there it stays.
 * @param before_p  out: as ag_cores_move().
 */
void ag_cores_stand_apart(const ag_host_t *host, ag_cores_t *before_p);

/** Back to where it was; nothing where it was not moved. */
void ag_cores_go_back(const ag_cores_t *before);
