/* Preloaded into ranks: on the rank that BROKEN_RANK names, sending fails after some steps. */
#include <mpi.h>
#include <stdlib.h>
#include <string.h>

int MPI_Isend(const void *data, int n, MPI_Datatype type, int peer, int tag, MPI_Comm comm,
              MPI_Request *request)
{
    static int n_sent;
    const char *broken = getenv("BROKEN_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");

    /* tags below 2 are not the program's */
    if (tag >= 2 && broken != NULL && rank != NULL && strcmp(broken, rank) == 0 && ++n_sent > 100) {
        return MPI_ERR_OTHER;
    }
    return PMPI_Isend(data, n, type, peer, tag, comm, request);
}
