#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "runtime/base/philox.h"
#include "runtime/task/executor.h"

enum { MOST_OPS = 40, N_STREAMS = 3 };

typedef struct work work_t;

typedef struct job {
    work_t *work;
    uint32_t op;
    uint32_t n_tests; /* that it is pending for */
    ag_status_t ends_with;
    uint32_t n_polls; /* from inside */
    uint32_t n_started, n_ended;
} job_t;

struct work {
    ag_dag_t dag;
    job_t jobs[MOST_OPS];
    ag_task_t tasks[MOST_OPS];
    uint64_t now_ns;
    uint32_t n_idle;
    bool computing; /* inside a task of stream 0 */
};

static uint64_t tick(void *arg)
{
    return ((work_t *)arg)->now_ns += 10;
}

static void rest(void *arg, uint64_t waited_ns)
{
    (void)waited_ns;
    ((work_t *)arg)->n_idle++;
}

/* Everything that had to be complete before this one is. */
static void check_order(const work_t *work, uint32_t op)
{
    const ag_dag_t *dag = &work->dag;

    for (uint32_t i = dag->dep_begin[op]; i < dag->dep_begin[op + 1]; i++) {
        cr_assert_eq(work->jobs[dag->deps[i]].n_ended, 1, "%u started before %u", op, dag->deps[i]);
    }
    for (uint32_t i = 0; i < op; i++) {
        cr_assert(dag->streams[i] != dag->streams[op] || work->jobs[i].n_ended == 1);
    }
}

static ag_status_t end(job_t *job)
{
    if (job->n_tests > 0) {
        job->n_tests--;
        return AG_PENDING;
    }
    job->n_ended++;
    return job->ends_with == AG_OK ? AG_OK : ag_fail(job->ends_with, "as it was told to");
}

static ag_status_t start(void *arg, const ag_run_t *run)
{
    job_t *job = arg;
    work_t *work = job->work;
    bool computes = work->dag.streams[job->op] == 0;
    ag_status_t status;

    cr_assert_eq(run->slot, 7);
    cr_assert_eq(run->step, work);
    cr_assert(!(computes && work->computing), "a long task inside a long task");
    check_order(work, job->op);
    job->n_started++;
    work->computing |= computes;
    for (uint32_t i = 0; i < job->n_polls; i++) {
        ag_execution_poll(run->execution);
    }
    status = end(job);
    work->computing &= !computes;
    return status;
}

static ag_status_t test(void *arg, const ag_run_t *run)
{
    (void)run;
    return end(arg);
}

static void make_work(uint64_t seed, work_t *work)
{
    uint8_t streams[MOST_OPS];
    uint32_t dep_begin[MOST_OPS + 1] = {0}, deps[MOST_OPS * MOST_OPS];
    uint64_t at = 0;
    uint32_t n = 1 + (uint32_t)(ag_philox_uniform(seed, 0, at++) * (MOST_OPS - 1));

    memset(work, 0, sizeof(*work));
    for (uint32_t op = 0; op < n; op++) {
        job_t *job = &work->jobs[op];

        streams[op] = (uint8_t)(ag_philox_uniform(seed, 0, at++) * N_STREAMS);
        dep_begin[op + 1] = dep_begin[op];
        for (uint32_t i = 0; i < op; i++) {
            if (ag_philox_uniform(seed, 0, at++) < 0.1) {
                deps[dep_begin[op + 1]++] = i;
            }
        }
        *job = (job_t){
            .work = work, .op = op, .n_tests = (uint32_t)(ag_philox_uniform(seed, 0, at++) * 4)};
        job->n_polls = streams[op] == 0 ? job->n_tests : 0;
        work->tasks[op] = (ag_task_t){.name = "TASK", .start = start, .test = test, .arg = job};
    }
    cr_assert_eq(ag_dag_init(n, N_STREAMS, streams, dep_begin, deps, &work->dag), AG_OK);
}

static ag_status_t run(work_t *work, ag_execution_t **execution_p)
{
    ag_execution_opts_t opts = {.clock = {.now_ns = tick, .arg = work},
                                .wait = {.idle = rest, .arg = work}};

    cr_assert_eq(ag_execution_create(&opts, execution_p), AG_OK);
    return ag_execution_run(*execution_p, &work->dag, work->tasks,
                            &(ag_run_t){.step = work, .slot = 7});
}

Test(executor, runs_every_task_once_in_an_order_that_the_dag_allows)
{
    uint32_t n_idle = 0;

    for (uint64_t seed = 0; seed < 500; seed++) {
        ag_execution_t *execution;
        work_t work;

        make_work(seed, &work);
        cr_assert_eq(run(&work, &execution), AG_OK, "%s", ag_error());
        for (uint32_t op = 0; op < work.dag.n_ops; op++) {
            cr_assert(work.jobs[op].n_started == 1 && work.jobs[op].n_ended == 1, "%u", op);
        }
        n_idle += work.n_idle;
        ag_execution_destroy(execution);
        ag_dag_fini(&work.dag);
    }
    cr_expect_gt(n_idle, 0, "now and then there is nothing to do but wait");
}

Test(executor, a_failing_task_ends_the_run_and_is_named)
{
    for (uint64_t seed = 0; seed < 100; seed++) {
        ag_execution_t *execution;
        uint32_t failing, n_after = 0;
        work_t work;

        make_work(seed, &work);
        failing = (uint32_t)(seed % work.dag.n_ops);
        work.jobs[failing].ends_with = AG_ERR_PEER;
        work.tasks[failing].name = "ALL_REDUCE";
        cr_assert_eq(run(&work, &execution), AG_ERR_PEER);
        cr_expect_not_null(strstr(ag_error(), "ALL_REDUCE"), "%s", ag_error());
        for (uint32_t op = failing + 1; op < work.dag.n_ops; op++) {
            n_after += work.dag.streams[op] == work.dag.streams[failing] && work.jobs[op].n_started;
        }
        cr_expect_eq(n_after, 0, "nothing of its stream follows it");
        ag_execution_destroy(execution);
        ag_dag_fini(&work.dag);
    }
}

Test(executor, counts_the_time_of_its_compute_stream_alone)
{
    ag_execution_t *execution;
    uint32_t n_computing = 0;
    work_t work;

    make_work(11, &work);
    for (uint32_t op = 0; op < work.dag.n_ops; op++) {
        work.jobs[op].n_tests = work.jobs[op].n_polls = 0; /* begun and ended at one go: one tick */
        n_computing += work.dag.streams[op] == 0;
    }
    cr_assert_gt(n_computing, 0);
    cr_assert_eq(run(&work, &execution), AG_OK);
    cr_expect_eq(ag_execution_compute_ns(execution), 10 * n_computing);
    ag_execution_destroy(execution);
    ag_dag_fini(&work.dag);
}

/* Stream 0 computes A, then C, which waits for B on stream 1 (pending for so many looks), which
 * waits for A; D on stream 2 is pending, too, and nobody's business until the end. */
Test(executor, what_is_waited_in_counts_for_the_kind_that_the_compute_stream_waits_for)
{
    static const uint8_t streams[] = {0, 1, 0, 2};
    static const uint32_t dep_begin[] = {0, 0, 1, 2, 2}, deps[] = {0, 1};
    work_t work = {.now_ns = 0};
    ag_execution_opts_t opts = {.clock = {tick, &work}, .wait = {rest, &work}, .compute_stream = 0};
    ag_execution_t *execution;
    const uint64_t *waits_ns;

    cr_assert_eq(ag_dag_init(4, 3, streams, dep_begin, deps, &work.dag), AG_OK);
    for (uint32_t op = 0; op < 4; op++) {
        work.jobs[op] = (job_t){.work = &work,
                                .op = op,
                                .n_tests = op == 1   ? 20
                                           : op == 3 ? 50
                                                     : 0};
        work.tasks[op] = (ag_task_t){
            .name = "task", .kind = 1 + op, .start = start, .test = test, .arg = &work.jobs[op]};
    }
    cr_assert_eq(ag_execution_create(&opts, &execution), AG_OK);
    cr_assert_eq(
        ag_execution_run(execution, &work.dag, work.tasks, &(ag_run_t){.step = &work, .slot = 7}),
        AG_OK);
    waits_ns = ag_execution_waits_ns(execution);
    cr_expect_eq(waits_ns[1] + waits_ns[3], 0, "what computes is not waited for");
    cr_expect_geq(waits_ns[2], 10 * 15, "B: %lu", (unsigned long)waits_ns[2]);
    cr_expect_leq(waits_ns[2], 10 * 25, "B: %lu", (unsigned long)waits_ns[2]);
    cr_expect_geq(waits_ns[4], 10 * 25, "D, at the end: %lu", (unsigned long)waits_ns[4]);
    cr_expect_leq(waits_ns[4], 10 * 35, "D: %lu", (unsigned long)waits_ns[4]);
    ag_execution_destroy(execution);
    ag_dag_fini(&work.dag);
}

enum { N_RUNS = 12, N_SLOTS = 3 };

/* Several works on one execution, each in its turn on every stream. */
typedef struct flights {
    ag_execution_t *execution;
    work_t works[N_RUNS];
    uint64_t n_most;
} flights_t;

static bool is_begun(const work_t *work)
{
    for (uint32_t op = 0; op < work->dag.n_ops; op++) {
        if (work->jobs[op].n_started > 0) {
            return true;
        }
    }
    return false;
}

static bool is_over(const work_t *work)
{
    for (uint32_t op = 0; op < work->dag.n_ops; op++) {
        if (work->jobs[op].n_ended == 0) {
            return false;
        }
    }
    return true;
}

/* No stream works on a run before it is through with those before. */
static void check_streams(const flights_t *flights)
{
    for (int i = 1; i < N_RUNS; i++) {
        for (uint32_t s = 0; s < N_STREAMS; s++) {
            const work_t *before = &flights->works[i - 1], *work = &flights->works[i];
            bool begun = false, through = true;

            for (uint32_t op = 0; op < work->dag.n_ops; op++) {
                begun |= work->dag.streams[op] == s && work->jobs[op].n_started > 0;
            }
            for (uint32_t op = 0; op < before->dag.n_ops; op++) {
                through &= before->dag.streams[op] != s || before->jobs[op].n_ended > 0;
            }
            cr_assert(!begun || through, "run %d on stream %u", i, s);
        }
    }
}

static ag_status_t run_all(flights_t *flights)
{
    uint64_t n_begun = 0;

    for (int i = 0; i < N_RUNS; i++) {
        ag_status_t status = AG_OK;

        if (i >= N_SLOTS) {
            status = ag_execution_finish(flights->execution, (uint64_t)(i - N_SLOTS + 1));
        }
        if (status == AG_OK) {
            status = ag_execution_post(flights->execution, &flights->works[i].dag,
                                       flights->works[i].tasks,
                                       &(ag_run_t){.step = &flights->works[i], .slot = 7});
        }
        if (status != AG_OK) {
            return status;
        }
        check_streams(flights);
        n_begun = 0;
        for (int j = 0; j < N_RUNS; j++) {
            n_begun += is_begun(&flights->works[j]) && !is_over(&flights->works[j]);
        }
        flights->n_most = n_begun > flights->n_most ? n_begun : flights->n_most;
    }
    return ag_execution_finish(flights->execution, N_RUNS);
}

static void open_flights(uint64_t seed, flights_t *flights)
{
    ag_execution_opts_t opts = {.clock = {.now_ns = tick, .arg = &flights->works[0]},
                                .wait = {.idle = rest, .arg = &flights->works[0]},
                                .n_slots = N_SLOTS};

    flights->n_most = 0;
    for (int i = 0; i < N_RUNS; i++) {
        make_work(seed * N_RUNS + (uint64_t)i, &flights->works[i]);
    }
    cr_assert_eq(ag_execution_create(&opts, &flights->execution), AG_OK);
}

static void close_flights(flights_t *flights)
{
    ag_execution_destroy(flights->execution);
    for (int i = 0; i < N_RUNS; i++) {
        ag_dag_fini(&flights->works[i].dag);
    }
}

Test(executor, runs_in_flight_follow_one_another_on_every_stream)
{
    uint64_t n_most = 0;

    for (uint64_t seed = 0; seed < 100; seed++) {
        static flights_t flights;

        open_flights(seed, &flights);
        cr_assert_eq(run_all(&flights), AG_OK, "%s", ag_error());
        for (int i = 0; i < N_RUNS; i++) {
            cr_assert(is_over(&flights.works[i]));
        }
        check_streams(&flights);
        n_most = flights.n_most > n_most ? flights.n_most : n_most;
        close_flights(&flights);
    }
    cr_expect_eq(n_most, N_SLOTS - 1, "all but the one just posted were under way at once: %lu",
                 (unsigned long)n_most);
}

Test(executor, no_more_runs_than_slots)
{
    static flights_t flights;

    open_flights(1, &flights);
    for (int i = 0; i <= N_SLOTS; i++) {
        cr_expect_eq(ag_execution_post(flights.execution, &flights.works[i].dag,
                                       flights.works[i].tasks,
                                       &(ag_run_t){.step = &flights.works[i], .slot = 7}),
                     i < N_SLOTS ? AG_OK : AG_ERR_INVALID);
    }
    close_flights(&flights);
}

Test(executor, a_failing_task_ends_all_that_is_in_flight)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        static flights_t flights;
        int failing = (int)(seed % N_RUNS);
        uint64_t n_posted;

        open_flights(seed, &flights);
        flights.works[failing].jobs[0].ends_with = AG_ERR_PEER;
        cr_assert_eq(run_all(&flights), AG_ERR_PEER);
        n_posted = ag_execution_n_posted(flights.execution);
        cr_expect_eq(ag_execution_n_ended(flights.execution), n_posted, "nothing is in flight");
        for (int i = (int)n_posted; i < N_RUNS; i++) {
            cr_expect_not(is_begun(&flights.works[i]));
        }
        close_flights(&flights);
    }
}
