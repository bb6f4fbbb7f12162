#include "runtime/task/executor.h"

#include <stdlib.h>
#include <string.h>

/* A run that was posted. */
typedef struct in_flight {
    const ag_dag_t *dag;
    const ag_task_t *tasks;
    ag_run_t run;
    uint32_t n_done[AG_MAX_STREAMS]; /* of each stream: its published position */
    uint32_t n_left;                 /* operations, of all */
} in_flight_t;

typedef struct stream_state {
    uint64_t at;  /* number of the run that it works on */
    bool started; /* the operation at its head has been started and is pending */
    uint64_t begin_ns;
} stream_state_t;

struct ag_execution {
    ag_execution_opts_t opts;
    ag_status_t status; /* the first failure */
    uint64_t n_posted, n_ended;
    uint64_t compute_ns;
    uint64_t waits_ns[AG_MAX_TASK_KINDS];
    stream_state_t streams[AG_MAX_STREAMS];
    in_flight_t *runs; /* (n_slots) run i at i mod n_slots */
};

ag_status_t ag_execution_create(const ag_execution_opts_t *opts, ag_execution_t **execution_p)
{
    ag_execution_t *execution = calloc(1, sizeof(*execution));
    uint32_t n_slots = opts->n_slots > 0 ? opts->n_slots : 1;

    if (execution != NULL) {
        execution->runs = calloc(n_slots, sizeof(*execution->runs));
    }
    if (execution == NULL || execution->runs == NULL) {
        free(execution);
        return ag_fail_nomem("making an executor", n_slots * sizeof(in_flight_t));
    }
    execution->opts = *opts;
    execution->opts.n_slots = n_slots;
    execution->opts.long_streams |= 1u << opts->compute_stream;
    *execution_p = execution;
    return AG_OK;
}

void ag_execution_destroy(ag_execution_t *execution)
{
    if (execution == NULL) {
        return;
    }
    free(execution->runs);
    free(execution);
}

static in_flight_t *run_at(const ag_execution_t *execution, uint64_t number)
{
    return &execution->runs[number % execution->opts.n_slots];
}

static uint32_t length_of(const ag_dag_t *dag, uint32_t s)
{
    return s < dag->n_streams ? dag->stream_begin[s + 1] - dag->stream_begin[s] : 0;
}

static bool is_done(const in_flight_t *flight, uint32_t op)
{
    return flight->n_done[flight->dag->streams[op]] > flight->dag->positions[op];
}

static bool deps_are_done(const in_flight_t *flight, uint32_t op)
{
    const ag_dag_t *dag = flight->dag;

    for (uint32_t i = dag->dep_begin[op]; i < dag->dep_begin[op + 1]; i++) {
        if (!is_done(flight, dag->deps[i])) {
            return false;
        }
    }
    return true;
}

/* The run that a stream works on, past those in which it has nothing left; NULL: none is in flight.
 */
static in_flight_t *run_of(ag_execution_t *execution, uint32_t s)
{
    stream_state_t *stream = &execution->streams[s];

    while (stream->at < execution->n_posted) {
        in_flight_t *flight = run_at(execution, stream->at);

        if (stream->at >= execution->n_ended && flight->n_done[s] < length_of(flight->dag, s)) {
            return flight;
        }
        stream->at++;
    }
    return NULL;
}

static void finish_op(ag_execution_t *execution, in_flight_t *flight, uint32_t s, uint32_t op)
{
    const ag_task_t *task = &flight->tasks[op];
    stream_state_t *stream = &execution->streams[s];
    uint64_t end_ns = ag_clock_now_ns(&execution->opts.clock);

    execution->compute_ns += execution->opts.long_streams >> s & 1 ? end_ns - stream->begin_ns : 0;
    ag_trace_add(execution->opts.trace, &(ag_trace_event_t){.name = task->name,
                                                            .track = s,
                                                            .detail = task->detail,
                                                            .begin_ns = stream->begin_ns,
                                                            .end_ns = end_ns});
    stream->started = false;
    flight->n_done[s]++;
    flight->n_left--;
    while (execution->n_ended < execution->n_posted &&
           run_at(execution, execution->n_ended)->n_left == 0) {
        execution->n_ended++;
    }
}

/* Try to move one stream by one operation; true when something happened. */
static bool advance_stream(ag_execution_t *execution, uint32_t s)
{
    in_flight_t *flight = execution->status == AG_OK ? run_of(execution, s) : NULL;
    stream_state_t *stream = &execution->streams[s];
    const ag_task_t *task;
    ag_status_t status;
    uint32_t op;

    if (flight == NULL) {
        return false;
    }
    op = flight->dag->stream_ops[flight->dag->stream_begin[s] + flight->n_done[s]];
    task = &flight->tasks[op];
    if (stream->started) {
        status = task->test(task->arg, &flight->run);
        if (status == AG_PENDING) {
            return false;
        }
    } else {
        if (!deps_are_done(flight, op)) {
            return false;
        }
        stream->begin_ns = ag_clock_now_ns(&execution->opts.clock);
        stream->started = true;
        status = task->start(task->arg, &flight->run);
        if (status == AG_PENDING) {
            return true;
        }
    }
    if (status != AG_OK) {
        execution->status = ag_fail_context(status, "%s", task->name);
        return true;
    }
    finish_op(execution, flight, s, op);
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

uint64_t ag_execution_n_ended(const ag_execution_t *execution)
{
    return execution->n_ended;
}

uint64_t ag_execution_n_posted(const ag_execution_t *execution)
{
    return execution->n_posted;
}

/* The operation of a run at the head of a stream; n_ops where the stream has none left there. */
static uint32_t head_of(const in_flight_t *flight, uint32_t s)
{
    const ag_dag_t *dag = flight->dag;

    return flight->n_done[s] < length_of(dag, s)
               ? dag->stream_ops[dag->stream_begin[s] + flight->n_done[s]]
               : dag->n_ops;
}

/*
 * What keeps an operation of a run from going on: the head of the stream that it waits for, and so
 * on. As long as the dag has no cycle each stream is passed once.
 */
static uint32_t what_blocks(const ag_execution_t *execution, const in_flight_t *flight, uint32_t op)
{
    const ag_dag_t *dag = flight->dag;

    for (uint32_t n = 0; n < dag->n_streams; n++) {
        uint32_t i = dag->dep_begin[op], s = dag->streams[op];

        if (execution->streams[s].started &&
            run_at(execution, execution->streams[s].at) == flight) {
            return op;
        }
        while (i < dag->dep_begin[op + 1] && is_done(flight, dag->deps[i])) {
            i++;
        }
        if (i == dag->dep_begin[op + 1]) {
            return op;
        }
        op = head_of(flight, dag->streams[dag->deps[i]]);
    }
    return op;
}

/*
 * Which kind of task is being waited for: the compute stream's obstacle, in the first run where it
 * has one, or what is left of the oldest run when there is none.
 */
static uint32_t waited_kind(const ag_execution_t *execution)
{
    const in_flight_t *flight = NULL;
    uint32_t op = 0;

    for (uint64_t i = execution->n_ended; i < execution->n_posted; i++) {
        flight = run_at(execution, i);
        op = head_of(flight, execution->opts.compute_stream);
        if (op < flight->dag->n_ops) {
            return flight->tasks[what_blocks(execution, flight, op)].kind;
        }
    }
    flight = run_at(execution, execution->n_ended);
    op = flight->dag->n_ops;
    for (uint32_t s = 0; s < flight->dag->n_streams && op == flight->dag->n_ops; s++) {
        op = head_of(flight, s);
    }
    return flight->tasks[what_blocks(execution, flight, op)].kind;
}

void ag_execution_poll(ag_execution_t *execution)
{
    for (uint32_t s = 0; s < AG_MAX_STREAMS; s++) {
        if (!(execution->opts.long_streams >> s & 1)) {
            advance_stream(execution, s);
        }
    }
}

ag_status_t ag_execution_post(ag_execution_t *execution, const ag_dag_t *dag,
                              const ag_task_t *tasks, const ag_run_t *run)
{
    in_flight_t *flight = run_at(execution, execution->n_posted);

    if (execution->n_posted - execution->n_ended == execution->opts.n_slots) {
        return ag_fail(AG_ERR_INVALID, "%u runs are in flight, as many as there are slots",
                       execution->opts.n_slots);
    }
    if (execution->n_posted == execution->n_ended) { /* what failed before is forgotten */
        execution->status = AG_OK;
    }
    *flight = (in_flight_t){.dag = dag, .tasks = tasks, .run = *run, .n_left = dag->n_ops};
    flight->run.execution = execution;
    execution->n_posted++;
    if (dag->n_ops == 0 && execution->n_ended + 1 == execution->n_posted) {
        execution->n_ended++;
    }
    return AG_OK;
}

/* Nothing of what is in flight will go on. */
static ag_status_t give_up(ag_execution_t *execution)
{
    execution->n_ended = execution->n_posted;
    for (uint32_t s = 0; s < AG_MAX_STREAMS; s++) {
        execution->streams[s] = (stream_state_t){.at = execution->n_posted};
    }
    return execution->status;
}

ag_status_t ag_execution_wait(ag_execution_t *execution, ag_status_t (*until)(void *arg), void *arg)
{
    uint64_t idle_since_ns = 0, now_ns;
    uint32_t kind = AG_MAX_TASK_KINDS;
    ag_status_t status;

    while ((status = until(arg)) == AG_PENDING) {
        bool moved = false;

        for (uint32_t s = 0; s < AG_MAX_STREAMS; s++) {
            moved |= advance_stream(execution, s);
        }
        if (execution->status != AG_OK) {
            return give_up(execution);
        }
        if (moved && idle_since_ns == 0) {
            continue;
        }
        now_ns = ag_clock_now_ns(&execution->opts.clock);
        if (moved) {
            execution->waits_ns[kind % AG_MAX_TASK_KINDS] +=
                kind < AG_MAX_TASK_KINDS ? now_ns - idle_since_ns : 0;
            idle_since_ns = 0;
            continue;
        }
        if (idle_since_ns == 0) {
            idle_since_ns = now_ns;
            kind = execution->n_ended < execution->n_posted ? waited_kind(execution)
                                                            : AG_MAX_TASK_KINDS;
        }
        if (execution->opts.wait.idle != NULL) {
            execution->opts.wait.idle(execution->opts.wait.arg, now_ns - idle_since_ns);
        }
    }
    return status;
}

typedef struct wanted {
    const ag_execution_t *execution;
    uint64_t n_ended;
} wanted_t;

static ag_status_t have_ended(void *arg)
{
    const wanted_t *wanted = arg;

    return wanted->execution->n_ended >= wanted->n_ended ? AG_OK : AG_PENDING;
}

ag_status_t ag_execution_finish(ag_execution_t *execution, uint64_t n_ended)
{
    return ag_execution_wait(execution, have_ended, &(wanted_t){execution, n_ended});
}

ag_status_t ag_execution_run(ag_execution_t *execution, const ag_dag_t *dag, const ag_task_t *tasks,
                             const ag_run_t *run)
{
    ag_status_t status = ag_execution_post(execution, dag, tasks, run);

    return status == AG_OK ? ag_execution_finish(execution, execution->n_posted) : status;
}
