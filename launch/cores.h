/* Which cores the threads of the ranks of one machine stand on. */
#pragma once

#include <stdint.h>

/**
 * Cores for n threads.
 * @param own     (n_own) those that the process may use; at least one.
 * @param before  threads of the machine's ranks before this one: each rank goes on where they end,
 *                around where threads outnumber cores.
 * @param cores   out: (n).
 */
void ag_cores_pick(const int *own, uint32_t n_own, uint32_t before, uint32_t n, int *cores);
