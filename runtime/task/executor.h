/*
 * Runs a dag of tasks on the calling thread: the compute thread is the executor. A dependency
 * across streams is a comparison of two counters.
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
    uint32_t compute_stream; /* whose tasks may run long: never started from ag_execution_poll() */
} ag_execution_opts_t;

/** An execution can run any dag; one at a time. */
ag_status_t ag_execution_create(const ag_execution_opts_t *opts, ag_execution_t **execution_p);
void ag_execution_destroy(ag_execution_t *execution); /* NULL is allowed */

/**
 * Run every task once, in an order the dag allows, and return when all are complete.
 * @return AG_OK, or the first failing task's status, its name before the record.
 */
ag_status_t ag_execution_run(ag_execution_t *execution, const ag_dag_t *dag, const ag_task_t *tasks,
                             const ag_run_t *run);

/** Time spent in tasks of the compute stream since the execution was made. */
uint64_t ag_execution_compute_ns(const ag_execution_t *execution);

/**
 * Time since the execution was made in which nothing could go on, by the kind of the task that the
 * compute stream waited for: (AG_MAX_TASK_KINDS).
 */
const uint64_t *ag_execution_waits_ns(const ag_execution_t *execution);

/** From inside a task of the compute stream: let the other streams go on. Errors come out of the
 * run. */
void ag_execution_poll(ag_execution_t *execution);
