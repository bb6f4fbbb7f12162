/* Point-to-point over MPI: the fallback between hosts, and today's only net between processes. */
#pragma once

#include "comm/net.h"

/**
 * MPI_Init_thread(FUNNELED) on the calling thread, which is from then on the only one to use the
 * net. Errors are returned, not fatal. Closing finalizes MPI.
 */
ag_status_t ag_net_mpi_open(ag_net_t **net_p);
