#include "runtime/task/executor.h"

#include <stdlib.h>
#include <string.h>

typedef struct stream_state {
    uint32_t n_done; /* operations of the stream that are complete: its published position */
    bool started;    /* the one at n_done has been started and is pending */
    uint64_t begin_ns;
} stream_state_t;

struct ag_execution {
    ag_execution_opts_t opts;
    const ag_dag_t *dag;
    const ag_task_t *tasks;
    ag_run_t run;
    ag_status_t status; /* the first failure of this run */
    uint64_t compute_ns;
    uint64_t waits_ns[AG_MAX_TASK_KINDS];
    stream_state_t streams[AG_MAX_STREAMS];
};

ag_status_t ag_execution_create(const ag_execution_opts_t *opts, ag_execution_t **execution_p)
{
    ag_execution_t *execution = calloc(1, sizeof(*execution));

    if (execution == NULL) {
        return ag_fail_nomem("making an executor", sizeof(*execution));
    }
    execution->opts = *opts;
    *execution_p = execution;
    return AG_OK;
}

void ag_execution_destroy(ag_execution_t *execution)
{
    free(execution);
}

static bool deps_are_done(const ag_execution_t *execution, uint32_t op)
{
    const ag_dag_t *dag = execution->dag;

    for (uint32_t i = dag->dep_begin[op]; i < dag->dep_begin[op + 1]; i++) {
        uint32_t dep = dag->deps[i];

        if (execution->streams[dag->streams[dep]].n_done <= dag->positions[dep]) {
            return false;
        }
    }
    return true;
}

/* Try to move one stream by one operation; true when something happened. */
static bool advance_stream(ag_execution_t *execution, uint32_t s)
{
    const ag_dag_t *dag = execution->dag;
    stream_state_t *stream = &execution->streams[s];
    uint32_t n_ops = dag->stream_begin[s + 1] - dag->stream_begin[s];
    const ag_task_t *task;
    ag_status_t status;
    uint64_t end_ns;
    uint32_t op;

    if (stream->n_done == n_ops || execution->status != AG_OK) {
        return false;
    }
    op = dag->stream_ops[dag->stream_begin[s] + stream->n_done];
    task = &execution->tasks[op];
    if (stream->started) {
        status = task->test(task->arg, &execution->run);
        if (status == AG_PENDING) {
            return false;
        }
    } else {
        if (!deps_are_done(execution, op)) {
            return false;
        }
        stream->begin_ns = ag_clock_now_ns(&execution->opts.clock);
        stream->started = true;
        status = task->start(task->arg, &execution->run);
        if (status == AG_PENDING) {
            return true;
        }
    }
    if (status != AG_OK) {
        execution->status = ag_fail_context(status, "%s", task->name);
        return true;
    }
    end_ns = ag_clock_now_ns(&execution->opts.clock);
    execution->compute_ns += s == execution->opts.compute_stream ? end_ns - stream->begin_ns : 0;
    ag_trace_add(execution->opts.trace, &(ag_trace_event_t){.name = task->name,
                                                            .track = s,
                                                            .detail = task->detail,
                                                            .begin_ns = stream->begin_ns,
                                                            .end_ns = end_ns});
    stream->started = false;
    stream->n_done++;
    return true;
}

uint64_t ag_execution_compute_ns(const ag_execution_t *execution)
{
    return execution->compute_ns;
}

const uint64_t *ag_execution_waits_ns(const ag_execution_t *execution)
{
    return execution->waits_ns;
}

/* The operation at the head of a stream; n_ops where the stream is done. */
static uint32_t head_of(const ag_execution_t *execution, uint32_t s)
{
    const ag_dag_t *dag = execution->dag;
    uint32_t at = dag->stream_begin[s] + execution->streams[s].n_done;

    return at < dag->stream_begin[s + 1] ? dag->stream_ops[at] : dag->n_ops;
}

/*
 * What keeps a stream from going on: the head of the stream that its own head waits for, and so on.
 * As long as the dag has no cycle each stream is passed once.
 */
static uint32_t what_blocks(const ag_execution_t *execution, uint32_t op)
{
    const ag_dag_t *dag = execution->dag;

    for (uint32_t n = 0; n < dag->n_streams; n++) {
        uint32_t i = dag->dep_begin[op];

        if (execution->streams[dag->streams[op]].started) {
            return op;
        }
        while (i < dag->dep_begin[op + 1] && execution->streams[dag->streams[dag->deps[i]]].n_done >
                                                 dag->positions[dag->deps[i]]) {
            i++;
        }
        if (i == dag->dep_begin[op + 1]) {
            return op;
        }
        op = head_of(execution, dag->streams[dag->deps[i]]);
    }
    return op;
}

/* Which kind of task is being waited for: the compute stream's obstacle, or what is left when that
 * is done. */
static uint32_t waited_kind(const ag_execution_t *execution)
{
    const ag_dag_t *dag = execution->dag;
    uint32_t op = dag->n_ops;

    if (execution->opts.compute_stream < dag->n_streams) {
        op = head_of(execution, execution->opts.compute_stream);
    }
    for (uint32_t s = 0; s < dag->n_streams && op == dag->n_ops; s++) {
        op = head_of(execution, s);
    }
    return execution->tasks[what_blocks(execution, op)].kind;
}

void ag_execution_poll(ag_execution_t *execution)
{
    for (uint32_t s = 0; s < execution->dag->n_streams; s++) {
        if (s != execution->opts.compute_stream) {
            advance_stream(execution, s);
        }
    }
}

static bool all_done(const ag_execution_t *execution)
{
    const ag_dag_t *dag = execution->dag;

    for (uint32_t s = 0; s < dag->n_streams; s++) {
        if (execution->streams[s].n_done < dag->stream_begin[s + 1] - dag->stream_begin[s]) {
            return false;
        }
    }
    return true;
}

ag_status_t ag_execution_run(ag_execution_t *execution, const ag_dag_t *dag, const ag_task_t *tasks,
                             const ag_run_t *run)
{
    uint64_t idle_since_ns = 0, now_ns;
    uint32_t kind = 0;

    execution->dag = dag;
    execution->tasks = tasks;
    execution->run = *run;
    execution->run.execution = execution;
    execution->status = AG_OK;
    memset(execution->streams, 0, sizeof(execution->streams));
    while (execution->status == AG_OK && !all_done(execution)) {
        bool moved = false;

        for (uint32_t s = 0; s < dag->n_streams; s++) {
            moved |= advance_stream(execution, s);
        }
        if (moved && idle_since_ns == 0) {
            continue;
        }
        now_ns = ag_clock_now_ns(&execution->opts.clock);
        if (moved) {
            execution->waits_ns[kind] += now_ns - idle_since_ns;
            idle_since_ns = 0;
            continue;
        }
        if (idle_since_ns == 0) {
            idle_since_ns = now_ns;
            kind = waited_kind(execution);
        }
        if (execution->opts.wait.idle != NULL) {
            execution->opts.wait.idle(execution->opts.wait.arg, now_ns - idle_since_ns);
        }
    }
    return execution->status;
}
