#include "comm/net_mpi.h"

#include <mpi.h>
#include <stdbool.h>
#include <stdlib.h>

/* MPI counts are ints: longer messages go in pieces, posted one after the other. */
enum { PIECE_BYTES = 1 << 30 };

typedef struct mpi_net {
    ag_net_t base;
    MPI_Comm comm;
} mpi_net_t;

typedef struct mpi_message {
    MPI_Request request;
    unsigned char *data;
    size_t bytes; /* still to be posted or under way */
    size_t piece; /* under way */
    int32_t peer;
    uint32_t channel;
    bool sends;
} mpi_message_t;

_Static_assert(sizeof(mpi_message_t) <= sizeof(ag_net_request_t), "a request holds a message");

static ag_status_t fail_mpi(const ag_net_t *net, int peer, const char *doing, int error)
{
    char text[MPI_MAX_ERROR_STRING];
    int n_chars;

    MPI_Error_string(error, text, &n_chars);
    return ag_fail(AG_ERR_PEER, "rank %d %s rank %d: %s", net->rank, doing, peer, text);
}

static ag_status_t post_piece(ag_net_t *net, mpi_message_t *message)
{
    MPI_Comm comm = ((mpi_net_t *)net)->comm;
    int error;

    message->piece = message->bytes < PIECE_BYTES ? message->bytes : PIECE_BYTES;
    error = message->sends ? MPI_Isend(message->data, (int)message->piece, MPI_BYTE, message->peer,
                                       (int)message->channel, comm, &message->request)
                           : MPI_Irecv(message->data, (int)message->piece, MPI_BYTE, message->peer,
                                       (int)message->channel, comm, &message->request);
    return error == MPI_SUCCESS ? AG_OK
                                : fail_mpi(net, message->peer,
                                           message->sends ? "sending to" : "receiving from", error);
}

static ag_status_t mpi_post_send(ag_net_t *net, int peer, uint32_t channel, const void *data,
                                 size_t bytes, ag_net_request_t *request)
{
    mpi_message_t *message = (mpi_message_t *)(void *)request;

    *message = (mpi_message_t){.data = (unsigned char *)data,
                               .bytes = bytes,
                               .peer = peer,
                               .channel = channel,
                               .sends = true};
    return post_piece(net, message);
}

static ag_status_t mpi_post_recv(ag_net_t *net, int peer, uint32_t channel, void *data,
                                 size_t bytes, ag_net_request_t *request)
{
    mpi_message_t *message = (mpi_message_t *)(void *)request;

    *message = (mpi_message_t){.data = data, .bytes = bytes, .peer = peer, .channel = channel};
    return post_piece(net, message);
}

static ag_status_t mpi_test(ag_net_t *net, ag_net_request_t *request)
{
    mpi_message_t *message = (mpi_message_t *)(void *)request;
    MPI_Status mpi_status;
    int done, count, error;

    for (;;) {
        error = MPI_Test(&message->request, &done, &mpi_status);
        if (error != MPI_SUCCESS) {
            return fail_mpi(net, message->peer, message->sends ? "sending to" : "receiving from",
                            error);
        }
        if (!done) {
            return AG_PENDING;
        }
        if (!message->sends) {
            MPI_Get_count(&mpi_status, MPI_BYTE, &count);
            if ((size_t)count != message->piece) {
                return ag_fail(AG_ERR_PEER, "rank %d expects %zu bytes from rank %d, which sent %d",
                               net->rank, message->piece, message->peer, count);
            }
        }
        message->data += message->piece;
        message->bytes -= message->piece;
        if (message->bytes == 0) {
            return AG_OK;
        }
        ag_status_t status = post_piece(net, message);
        if (status != AG_OK) {
            return status;
        }
    }
}

static void mpi_close(ag_net_t *net)
{
    MPI_Comm_free(&((mpi_net_t *)net)->comm);
    MPI_Finalize();
    free(net);
}

static void mpi_abort(ag_net_t *net, int exit_code)
{
    MPI_Abort(((mpi_net_t *)net)->comm, exit_code);
}

static const ag_net_ops_t mpi_ops = {
    .name = "mpi",
    .close = mpi_close,
    .post_send = mpi_post_send,
    .post_recv = mpi_post_recv,
    .test = mpi_test,
    .abort = mpi_abort,
};

ag_status_t ag_net_mpi_open(ag_net_t **net_p)
{
    mpi_net_t *net = calloc(1, sizeof(*net));
    int level;

    if (net == NULL) {
        return ag_fail_nomem("opening MPI", sizeof(*net));
    }
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level) != MPI_SUCCESS ||
        level < MPI_THREAD_FUNNELED || MPI_Comm_dup(MPI_COMM_WORLD, &net->comm) != MPI_SUCCESS) {
        free(net);
        return ag_fail(AG_ERR_PEER, "MPI does not start: is it the mpirun of the library that "
                                    "argosy was built with?");
    }
    MPI_Comm_set_errhandler(net->comm, MPI_ERRORS_RETURN);
    net->base.ops = &mpi_ops;
    MPI_Comm_rank(net->comm, &net->base.rank);
    MPI_Comm_size(net->comm, &net->base.n_ranks);
    *net_p = &net->base;
    return AG_OK;
}
