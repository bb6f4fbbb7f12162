/* All ranks in one process, for tests and for a job of one rank. */
#pragma once

#include "comm/net.h"

/**
 * Make the nets of n_ranks ranks that reach each other; nets_p[r] is rank r's. Messages are
 * rendezvous: a send completes when its bytes were copied into the matching receive. The last net
 * closed frees what they share. Single-threaded.
 */
ag_status_t ag_net_loop_create(int n_ranks, ag_net_t **nets_p);
