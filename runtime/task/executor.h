/*
 * Runs dags of tasks on the calling thread: the compute thread is the executor. A dependency across
 * streams is a comparison of two counters. Several runs may be in flight: each stream takes them in
 * the order they were posted in, so that they also end in it.
 */
#pragma once

#include "runtime/task/dag.h"
#include "runtime/task/trace.h"

enum { AG_MAX_TASK_KINDS = 32 };

typedef struct ag_execution ag_execution_t;

/* What all tasks of one run are handed. */
typedef struct ag_run {
    const void *step;          /* what this execution works on; the binder knows its type */
    uint32_t slot;             /* which copy of the activation memory */
    ag_execution_t *execution; /* for ag_execution_poll() from inside a long task; set by the run */
} ag_run_t;

/* An operation made executable, one per operation of the dag, same index. */
typedef struct ag_task {
    const char *name; /* for the trace */
    uint32_t detail;
    uint32_t kind; /* below AG_MAX_TASK_KINDS: what the time spent waiting for it counts as */
    ag_status_t (*start)(void *arg,
                         const ag_run_t *run); /* AG_OK: complete; AG_PENDING: see test */
    ag_status_t (*test)(void *arg,
                        const ag_run_t *run); /* NULL where start never leaves work over */
    void *arg;
} ag_task_t;

/* What to do while nothing can go on; the one place where a rank waits. */
typedef struct ag_wait {
    void (*idle)(void *arg, uint64_t waited_ns); /* NULL: spin */
    void *arg;
} ag_wait_t;

typedef struct ag_execution_opts {
    ag_clock_t clock;
    ag_wait_t wait;
    ag_trace_t *trace;       /* NULL: none */
    uint32_t compute_stream; /* what keeps its head from going on is what is waited for */
    uint32_t long_streams;   /* bits: whose tasks may run long, never started from
                                ag_execution_poll(); their time is computing. 0: the compute stream */
    uint32_t n_slots;        /* most runs in flight; 0 = 1 */
} ag_execution_opts_t;

/** An execution can run any dag. */
ag_status_t ag_execution_create(const ag_execution_opts_t *opts, ag_execution_t **execution_p);
void ag_execution_destroy(ag_execution_t *execution); /* NULL is allowed */

/**
 * Put a run behind those that are in flight.
 * @param tasks  (operations of the dag) borrowed with it until the run is complete, and in no other
 *               run meanwhile.
 * @param run    copied.
 * @return AG_OK; AG_ERR_INVALID: as many as there are slots are in flight.
 */
ag_status_t ag_execution_post(ag_execution_t *execution, const ag_dag_t *dag,
                              const ag_task_t *tasks, const ag_run_t *run);

/** Runs complete since the execution was made, and those that were posted. */
uint64_t ag_execution_n_ended(const ag_execution_t *execution);
uint64_t ag_execution_n_posted(const ag_execution_t *execution);

/**
 * Run tasks until something is true: the one loop in which a rank waits.
 * @param until  asked again and again; AG_OK: it is true; AG_PENDING; else the failure.
 * @return AG_OK, until's failure, or the first failing task's status, its name before the record:
 *         then no run is in flight any more.
 */
ag_status_t ag_execution_wait(ag_execution_t *execution, ag_status_t (*until)(void *arg),
                              void *arg);

/** Run tasks until so many runs are complete. */
ag_status_t ag_execution_finish(ag_execution_t *execution, uint64_t n_ended);

/** Post a run and wait for it: every task once, in an order that the dag allows. */
ag_status_t ag_execution_run(ag_execution_t *execution, const ag_dag_t *dag, const ag_task_t *tasks,
                             const ag_run_t *run);

/** Time spent in tasks of the long streams since the execution was made. */
uint64_t ag_execution_compute_ns(const ag_execution_t *execution);

/**
 * Time since the execution was made in which nothing could go on, by the kind of the task that the
 * compute stream waited for: (AG_MAX_TASK_KINDS).
 */
const uint64_t *ag_execution_waits_ns(const ag_execution_t *execution);

/** From inside a task of a long stream: let the others go on. Errors come out of the wait. */
void ag_execution_poll(ag_execution_t *execution);
