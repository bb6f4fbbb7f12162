#include "runtime/task/dag.h"

#include <stdlib.h>
#include <string.h>

static void *copy_of(const void *items, size_t n_bytes)
{
    void *copy = malloc(n_bytes > 0 ? n_bytes : 1);

    if (copy != NULL && n_bytes > 0) {
        memcpy(copy, items, n_bytes);
    }
    return copy;
}

static void sort_into_streams(ag_dag_t *dag)
{
    uint32_t next[AG_MAX_STREAMS];

    for (uint32_t i = 0; i < dag->n_ops; i++) {
        dag->positions[i] = dag->stream_begin[dag->streams[i] + 1]++;
    }
    for (uint32_t s = 0; s < dag->n_streams; s++) {
        dag->stream_begin[s + 1] += dag->stream_begin[s];
        next[s] = dag->stream_begin[s];
    }
    for (uint32_t i = 0; i < dag->n_ops; i++) {
        dag->stream_ops[next[dag->streams[i]]++] = i;
    }
}

static ag_status_t check(const ag_dag_t *dag, const uint8_t *streams, const uint32_t *dep_begin,
                         const uint32_t *deps)
{
    if (dag->n_streams == 0 || dag->n_streams > AG_MAX_STREAMS) {
        return ag_fail(AG_ERR_INVALID, "a dag of %u streams (1 to %d can be had)", dag->n_streams,
                       AG_MAX_STREAMS);
    }
    if (dep_begin[0] != 0) {
        return ag_fail(AG_ERR_INVALID, "the dependencies of a dag begin at %u", dep_begin[0]);
    }
    for (uint32_t i = 0; i < dag->n_ops; i++) {
        if (streams[i] >= dag->n_streams) {
            return ag_fail(AG_ERR_INVALID, "operation %u of a dag is on stream %u of %u", i,
                           streams[i], dag->n_streams);
        }
        if (dep_begin[i] > dep_begin[i + 1]) {
            return ag_fail(AG_ERR_INVALID,
                           "the dependencies of operation %u of a dag end before they begin", i);
        }
    }
    for (uint32_t i = 0; i < dag->n_ops; i++) {
        for (uint32_t d = dep_begin[i]; d < dep_begin[i + 1]; d++) {
            if (deps[d] >= dag->n_ops) {
                return ag_fail(AG_ERR_INVALID, "operation %u of a dag of %u waits for operation %u",
                               i, dag->n_ops, deps[d]);
            }
        }
    }
    return AG_OK;
}

ag_status_t ag_dag_init(uint32_t n_ops, uint32_t n_streams, const uint8_t *streams,
                        const uint32_t *dep_begin, const uint32_t *deps, ag_dag_t *dag_p)
{
    ag_dag_t dag = {.n_ops = n_ops, .n_streams = n_streams};
    ag_status_t status = check(&dag, streams, dep_begin, deps);

    if (status != AG_OK) {
        return status;
    }
    dag.streams = copy_of(streams, n_ops);
    dag.dep_begin = copy_of(dep_begin, ((size_t)n_ops + 1) * sizeof(*dep_begin));
    dag.deps = copy_of(deps, dep_begin[n_ops] * sizeof(*deps));
    dag.positions = calloc((size_t)n_ops + 1, sizeof(*dag.positions));
    dag.stream_begin = calloc((size_t)n_streams + 1, sizeof(*dag.stream_begin));
    dag.stream_ops = calloc((size_t)n_ops + 1, sizeof(*dag.stream_ops));
    if (dag.streams == NULL || dag.dep_begin == NULL || dag.deps == NULL || dag.positions == NULL ||
        dag.stream_begin == NULL || dag.stream_ops == NULL) {
        ag_dag_fini(&dag);
        return ag_fail_nomem("building a dag", (size_t)n_ops * 16);
    }
    sort_into_streams(&dag);
    *dag_p = dag;
    return AG_OK;
}

void ag_dag_fini(ag_dag_t *dag)
{
    free(dag->streams);
    free(dag->positions);
    free(dag->dep_begin);
    free(dag->deps);
    free(dag->stream_begin);
    free(dag->stream_ops);
    *dag = (ag_dag_t){0};
}
