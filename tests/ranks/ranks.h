/*
 * Cases that run on real ranks, under mpirun. A program has a table of cases and is started as
 * `mpirun -n R program CASE`; a rank whose check fails says so and ends the whole job.
 */
#pragma once

#include "comm/net.h"

typedef struct ag_rank_case {
    const char *name;
    void (*fn)(ag_net_t *net);
} ag_rank_case_t;

/** What main() returns: opens MPI, runs the case that argv names, closes MPI. */
int ag_ranks_main(int argc, char **argv, const ag_rank_case_t *cases, size_t n_cases);

/** Say what was to be true and end the job; used by AG_CHECK. Does not return. */
void ag_ranks_fail(ag_net_t *net, const char *file, int line, const char *what, ...)
    __attribute__((format(printf, 4, 5), noreturn));

/* A condition, and what to say where it is false, as for printf. */
#define AG_CHECK(net, condition, ...)                                                              \
    ((condition) ? (void)0 : ag_ranks_fail((net), __FILE__, __LINE__, __VA_ARGS__))

/** Bytes that depend on who sends them, and on each one's place: no two messages look alike. */
void ag_ranks_fill(unsigned char *bytes, size_t n_bytes, int from, uint32_t channel);
