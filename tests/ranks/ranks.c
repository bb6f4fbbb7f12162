#include "ranks.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/net_mpi.h"

int ag_ranks_main(int argc, char **argv, const ag_rank_case_t *cases, size_t n_cases)
{
    ag_net_t *net;

    for (size_t i = 0; argc == 2 && i < n_cases; i++) {
        if (strcmp(argv[1], cases[i].name) == 0) {
            if (ag_net_mpi_open(&net) != AG_OK) {
                fprintf(stderr, "%s\n", ag_error());
                return 1;
            }
            cases[i].fn(net);
            ag_net_close(net);
            return 0;
        }
    }
    fprintf(stderr, "usage: mpirun -n R %s CASE; the cases are:\n", argv[0]);
    for (size_t i = 0; i < n_cases; i++) {
        fprintf(stderr, "    %s\n", cases[i].name);
    }
    return 2;
}

void ag_ranks_fail(ag_net_t *net, const char *file, int line, const char *what, ...)
{
    va_list args;

    fprintf(stderr, "%s:%d: rank %d of %d: ", file, line, net->rank, net->n_ranks);
    va_start(args, what);
    vfprintf(stderr, what, args);
    va_end(args);
    fprintf(stderr, " (last error: %s)\n", ag_error());
    net->ops->abort(net, 1);
    exit(1);
}

void ag_ranks_fill(unsigned char *bytes, size_t n_bytes, int from, uint32_t channel)
{
    uint32_t x = 2654435761u * (uint32_t)(from + 1) + 40503u * channel + 1;

    for (size_t i = 0; i < n_bytes; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (unsigned char)(x >> 24);
    }
}
