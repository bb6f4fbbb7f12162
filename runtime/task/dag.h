/* Operations on FIFO streams and their dependencies: what the checker proves, the executor runs. */
#pragma once

#include <stdint.h>

#include "runtime/base/status.h"

enum { AG_MAX_STREAMS = 8 };

/* Immutable. Operations of one stream run in index order; deps add order between streams. */
typedef struct ag_dag {
    uint32_t n_ops;
    uint32_t n_streams;
    uint8_t *streams;       /* (n_ops) the stream of each operation */
    uint32_t *positions;    /* (n_ops) its place in that stream */
    uint32_t *dep_begin;    /* (n_ops + 1) deps of operation i: deps[dep_begin[i]] .. */
    uint32_t *deps;         /* operations that must be complete before */
    uint32_t *stream_begin; /* (n_streams + 1) stream s: stream_ops[stream_begin[s]] .. */
    uint32_t *stream_ops;   /* (n_ops) */
} ag_dag_t;

/**
 * @param streams    (n_ops) copied, each below n_streams.
 * @param dep_begin  (n_ops + 1) copied; begins with 0. @param deps copied, each below n_ops.
 * @return AG_OK, AG_ERR_INVALID, AG_ERR_NOMEM. A cycle is not looked for: that is the checker's.
 */
ag_status_t ag_dag_init(uint32_t n_ops, uint32_t n_streams, const uint8_t *streams,
                        const uint32_t *dep_begin, const uint32_t *deps, ag_dag_t *dag_p);
void ag_dag_fini(ag_dag_t *dag);
