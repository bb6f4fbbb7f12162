/*
 * Every wait that a job needs shows when it is taken away, on devices that defer their work: the
 * edges of its programs, and what the host and streams wait for in between.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "parallel/program/check.h"
#include "parallel/run/driver.h"
#include "runtime/base/philox.h"
#include "support.h"

static const int32_t ids[] = {5, 301, 17, 88, 2, 250, 33, 149, 9};

enum { N_IDS = sizeof(ids) / sizeof(ids[0]), MOST_RANKS = 16, A_MINUTE_S = 60 };

/* A job's work, and how often each rank's device waited. */
typedef struct job_run {
    work_t work; /* first: it is what a rank is opened with */
    uint64_t n_waits[MOST_RANKS];
} job_run_t;

static ag_status_t keep_logits(void *arg, const float *logits, uint64_t n_rows)
{
    work_t *work = arg;

    memcpy(work->logits + work->n_rows * VOCAB, logits, n_rows * VOCAB * sizeof(float));
    work->n_rows += n_rows;
    return AG_OK;
}

/* Nothing is asserted here: this may be wrong. */
static ag_status_t run_rank(ag_turn_t *turn)
{
    job_run_t *run = turn->arg;
    ag_eval_opts_t opts = {
        .window_tokens = N_IDS, .bos = -1, .on_logits = keep_logits, .arg = &run->work};
    ag_run_figures_t figures = {0};
    ag_eval_result_t result = {0};
    ag_rank_t rank = {0};
    ag_status_t status = open_rank(turn, &rank);

    if (status == AG_OK && turn->net->rank != 0) {
        status = ag_job_follow(rank.job);
    } else if (status == AG_OK) {
        status = ag_eval(rank.job, ids, N_IDS, &opts, &result, &figures);
        status = status == AG_OK ? ag_job_stop(rank.job) : status;
    }
    run->n_waits[turn->net->rank] = status == AG_OK ? ag_device_lazy_waits(rank.device) : 0;
    (void)ag_rank_close(&rank);
    return status;
}

/* All ranks end well. */
static bool play(job_run_t *run, uint32_t n_ranks, uint64_t seed)
{
    ag_status_t statuses[MOST_RANKS];
    bool well = true;

    run->work.n_rows = 0;
    ag_turns_run(n_ranks, seed, run_rank, run, statuses);
    for (uint32_t r = 0; r < n_ranks; r++) {
        well = well && statuses[r] == AG_OK;
    }
    return well && run->work.n_rows == N_IDS;
}

/* Does what may be wrong show? Other logits, a failure, a fault: in a process of its own. */
static bool shows(job_run_t *run, uint32_t n_ranks, uint64_t seed, const float *logits)
{
    int end = 0;
    pid_t child;

    fflush(stdout);
    child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        alarm(A_MINUTE_S); /* what does not end shows, too */
        if (freopen("/dev/null", "w", stderr) == NULL ||
            freopen("/dev/null", "w", stdout) == NULL) {
            _exit(0);
        }
        _exit(!play(run, n_ranks, seed) ||
              memcmp(run->work.logits, logits, N_IDS * VOCAB * sizeof(float)) != 0);
    }
    cr_assert_eq(waitpid(child, &end, 0), child);
    return !WIFEXITED(end) || WEXITSTATUS(end) != 0;
}

/* A plan whose program has edges. */
typedef struct original {
    draw_t draw;
    ag_model_t *model;
    ag_plan_t *plan;
    ag_build_t *build;
    ag_programs_t programs;
} original_t;

static void close_original(original_t *original)
{
    ag_programs_destroy(&original->programs);
    ag_build_destroy(original->build);
    ag_plan_destroy(original->plan);
    ag_model_close(original->model);
}

/* False where the shares leave a rank nothing. */
static bool open_original(uint64_t seed, original_t *original)
{
    ag_plan_model_t facts;
    char path[256];

    memset(original, 0, sizeof(*original));
    if (seed % 2 == 0) {
        draw_options(seed, &original->draw);
    } else {
        draw_experts(seed, &original->draw);
    }
    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA,
             original->draw.model != NULL ? original->draw.model : "/tiny/llama");
    cr_assert_eq(ag_model_open(path, &original->model), AG_OK);
    facts = ag_build_plan_model(original->model);
    cr_assert_eq(ag_plan_make(&facts, &original->draw.opts, &original->plan), AG_OK);
    if (ag_build_create(original->plan, original->model, &original->build) != AG_OK) {
        return false;
    }
    cr_assert_eq(ag_programs_create(original->build, true, false, &original->programs), AG_OK);
    return true;
}

static ag_program_t *largest(const ag_programs_t *programs)
{
    return programs->programs[programs->n - 1];
}

/* The dep-th edge of an operation. */
typedef struct edge {
    uint32_t rank, op, dep;
} edge_t;

static void take_edge(const ag_program_t *program, const edge_t *edge)
{
    ag_rank_program_t *rank = &program->ranks[edge->rank];
    ag_op_t *op = &ag_rank_ops(rank)[edge->op];
    uint32_t *deps = AG_ITEMS(&rank->deps, uint32_t) + op->first_dep, last = deps[op->n_deps - 1];

    deps[op->n_deps - 1] = deps[edge->dep]; /* stays behind the others: it can be put back */
    deps[edge->dep] = last;
    op->n_deps--;
}

static void put_back(const ag_program_t *program, const edge_t *edge)
{
    ag_rank_program_t *rank = &program->ranks[edge->rank];
    ag_op_t *op = &ag_rank_ops(rank)[edge->op];
    uint32_t *deps = AG_ITEMS(&rank->deps, uint32_t) + op->first_dep;
    uint32_t taken = deps[op->n_deps];

    deps[op->n_deps++] = deps[edge->dep];
    deps[edge->dep] = taken;
}

static void change(void *arg, ag_programs_t *programs)
{
    take_edge(largest(programs), arg);
}

/* Any edge; false where it is none, or order holds without it. */
static bool draw_edge(const original_t *original, uint64_t seed, edge_t *edge)
{
    const ag_program_t *program = largest(&original->programs);
    const ag_rank_program_t *rank;
    uint32_t n_deps;
    bool needed;

    edge->rank = (uint32_t)(ag_philox_uniform(seed, 6, 0) * program->n_ranks);
    rank = &program->ranks[edge->rank];
    edge->op = (uint32_t)(ag_philox_uniform(seed, 6, 1) * (double)rank->ops.n_items);
    n_deps = ag_rank_ops(rank)[edge->op].n_deps;
    edge->dep = (uint32_t)(ag_philox_uniform(seed, 6, 2) * n_deps);
    if (n_deps == 0) {
        return false;
    }
    take_edge(program, edge);
    needed =
        ag_program_check(program, original->plan, AG_CHECK_PLACED, "an edge is taken") != AG_OK;
    put_back(program, edge);
    return needed;
}

/* The stream that an edge waits for. */
static uint32_t stream_before(const original_t *original, const edge_t *edge)
{
    const ag_rank_program_t *rank = &largest(&original->programs)->ranks[edge->rank];
    const ag_op_t *op = &ag_rank_ops(rank)[edge->op];

    return ag_rank_ops(rank)[AG_ITEMS(&rank->deps, uint32_t)[op->first_dep + edge->dep]].stream;
}

static void set_up(const original_t *original, const ag_device_lazy_opts_t *lazy, job_run_t *run)
{
    run->work = (work_t){.model = original->draw.model,
                         .opts = original->draw.opts,
                         .ids = ids,
                         .n_ids = N_IDS,
                         .lazy = lazy};
}

/* What was taken, and how much of it showed. */
typedef struct tally {
    uint32_t n_taken, n_seen;
} tally_t;

enum { TRIES = 6 };

static void take_edges(const original_t *original, uint64_t seed, uint32_t most, tally_t *tally)
{
    static job_run_t run, as_it_is;
    uint32_t n_ranks = original->draw.n_ranks;
    ag_device_lazy_opts_t lazy = {0};

    set_up(original, &lazy, &as_it_is);
    cr_assert(play(&as_it_is, n_ranks, seed));
    for (uint64_t i = 0; i < 4 * most && most > 0; i++) {
        bool seen = false;
        edge_t edge;

        if (!draw_edge(original, seed * 1000 + i, &edge)) {
            continue;
        }
        most--;
        lazy.late = 1u << stream_before(original, &edge);
        set_up(original, &lazy, &run);
        run.work.lazy_rank = (int)edge.rank;
        run.work.change = change;
        run.work.change_arg = &edge;
        for (lazy.seed = 0; !seen && lazy.seed < TRIES; lazy.seed++) {
            seen = shows(&run, n_ranks, seed + lazy.seed, as_it_is.work.logits);
        }
        tally->n_taken++;
        tally->n_seen += seen;
        if (!seen) {
            printf("plan %lu, rank %u, operation %u, edge %u: not seen\n", (unsigned long)seed,
                   edge.rank, edge.op, edge.dep);
        }
    }
}

/* But for those of ranks that hold no experts, or none of a step's few rows: no byte hangs on them.
 */
Test(waits, an_edge_that_is_taken_from_a_program_shows, .timeout = 300)
{
    enum { N_PLANS = 24, A_PLAN = 6 };
    tally_t tallies[2] = {0}; /* without experts, and with them */

    for (uint64_t seed = 0; seed < N_PLANS; seed++) {
        original_t original;

        if (open_original(seed, &original)) {
            take_edges(&original, seed, A_PLAN, &tallies[seed % 2]);
        }
        close_original(&original);
    }
    for (int i = 0; i < 2; i++) {
        printf("%s experts, edges taken: %u of %u show\n", i == 0 ? "without" : "with",
               tallies[i].n_seen, tallies[i].n_taken);
        cr_expect_geq(tallies[i].n_taken, 50);
        cr_expect_geq(tallies[i].n_seen, tallies[i].n_taken * (i == 0 ? 0.97 : 0.8));
    }
}

static void forget_waits(const original_t *original, uint64_t seed, uint32_t most, tally_t *tally)
{
    static job_run_t run, as_it_is;
    uint32_t n_ranks = original->draw.n_ranks;
    ag_device_lazy_opts_t lazy = {.seed = seed};

    set_up(original, &lazy, &as_it_is);
    cr_assert(play(&as_it_is, n_ranks, seed));
    for (uint64_t i = 0; i < most; i++) {
        uint32_t rank = (uint32_t)(ag_philox_uniform(seed, 7, 2 * i) * n_ranks);

        lazy.forgotten =
            1 + (uint64_t)(ag_philox_uniform(seed, 7, 2 * i + 1) * (double)as_it_is.n_waits[rank]);
        set_up(original, &lazy, &run);
        run.work.lazy_rank = (int)rank;
        tally->n_taken++;
        tally->n_seen += shows(&run, n_ranks, seed, as_it_is.work.logits);
    }
}

Test(waits, a_wait_that_the_host_or_a_stream_forgets_shows, .timeout = 300)
{
    enum { N_PLANS = 24, A_PLAN = 8 };
    tally_t tally = {0};

    for (uint64_t seed = 0; seed < N_PLANS; seed++) {
        original_t original;

        if (open_original(seed, &original)) {
            forget_waits(&original, seed, A_PLAN, &tally);
        }
        close_original(&original);
    }
    printf("waits forgotten: %u of %u show\n", tally.n_seen, tally.n_taken);
    cr_expect_geq(tally.n_taken, 100);
    cr_expect_geq(tally.n_seen, tally.n_taken * 0.5);
}
