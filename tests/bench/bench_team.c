/*
 * What a region of the team costs beside its work: what the spin of runtime/base/team.c stands on.
 * Prints microseconds per region, mean and percentiles, less the work in it; on a quiet machine
 * and beside processes that keep a core busy each.
 *
 *     bench_team [threads]...      default: 2
 */
#define _GNU_SOURCE
#include "runtime/base/clock.h"
#include "runtime/base/team.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_BUSY = 2, MOST_REGIONS = 2000000 };

static const uint64_t budget_ns = 1500000000; /* of each figure */

typedef struct scenario {
    const char *name;
    uint64_t gap_ns;     /* that the caller works alone before the region */
    unsigned n_barriers; /* in it */
    uint64_t work_ns;    /* of each thread before each barrier */
} scenario_t;

static const scenario_t scenarios[] = {
    {"empty, back to back", 0, 0, 0},           {"empty, after 20 us", 20000, 0, 0},
    {"empty, after 200 us", 200000, 0, 0},      {"empty, after 2 ms", 2000000, 0, 0},
    {"30 barriers, no work", 0, 30, 0},         {"30 barriers of 10 us", 0, 30, 10000},
    {"100 barriers of 100 us", 0, 100, 100000},
};

static uint64_t now_ns(void)
{
    ag_clock_t clock = ag_clock_monotonic();

    return ag_clock_now_ns(&clock);
}

/* Arithmetic for so long on a core of one's own: counted, not timed, so that a thread that is not
 * scheduled has it still before it. */
static double rounds_per_ns;

static void work(uint64_t ns)
{
    volatile double x = 1;

    for (uint64_t i = (uint64_t)((double)ns * rounds_per_ns); i > 0; i--) {
        x = x * 1.0000001;
    }
}

static void calibrate(void)
{
    uint64_t best_ns = UINT64_MAX;

    rounds_per_ns = 1;
    for (int i = 0; i < 20; i++) {
        uint64_t begin_ns = now_ns();

        work(1000000);
        best_ns = now_ns() - begin_ns < best_ns ? now_ns() - begin_ns : best_ns;
    }
    rounds_per_ns = 1e6 / (double)best_ns;
}

static void region(void *arg, const ag_worker_t *worker)
{
    const scenario_t *scenario = arg;

    for (unsigned i = 0; i < scenario->n_barriers; i++) {
        work(scenario->work_ns);
        ag_team_barrier(worker);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void measure(ag_team_t *team, const scenario_t *scenario, unsigned n_busy, double *costs_us)
{
    uint64_t begin_ns = now_ns(), work_ns = scenario->n_barriers * scenario->work_ns;
    scenario_t copy = *scenario;
    double sum_us = 0;
    size_t n = 0;

    while (n < MOST_REGIONS && (n < 3 || now_ns() - begin_ns < budget_ns)) {
        uint64_t at_ns;

        work(scenario->gap_ns);
        at_ns = now_ns();
        ag_team_run(team, region, &copy);
        costs_us[n] = ((double)(now_ns() - at_ns) - (double)work_ns) / 1e3;
        sum_us += costs_us[n++];
    }
    qsort(costs_us, n, sizeof(*costs_us), compare);
    printf("%7u %5u  %-24s %9.2f %9.2f %9.2f %9.2f %9.1f\n", ag_team_size(team), n_busy,
           scenario->name, sum_us / (double)n, costs_us[n / 2], costs_us[n * 9 / 10],
           costs_us[n * 99 / 100], costs_us[n - 1]);
    fflush(stdout);
}

static pid_t keep_busy(void)
{
    pid_t child = fork();

    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (volatile unsigned i = 0;; i++) {
        }
    }
    return child;
}

static void measure_team(unsigned n_threads, double *costs_us)
{
    for (unsigned n_busy = 0; n_busy <= MOST_BUSY; n_busy++) {
        pid_t children[MOST_BUSY];
        ag_team_t *team;

        for (unsigned i = 0; i < n_busy; i++) {
            children[i] = keep_busy();
        }
        if (ag_team_create(&(ag_team_opts_t){.n_threads = n_threads}, &team) != AG_OK) {
            fprintf(stderr, "bench_team: %s\n", ag_error());
            exit(1);
        }
        for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
            measure(team, &scenarios[i], n_busy, costs_us);
        }
        ag_team_destroy(team);
        for (unsigned i = 0; i < n_busy; i++) {
            kill(children[i], SIGKILL);
            waitpid(children[i], NULL, 0);
        }
    }
}

int main(int argc, char **argv)
{
    double *costs_us = malloc(MOST_REGIONS * sizeof(*costs_us));

    if (costs_us == NULL) {
        fprintf(stderr, "bench_team: no memory\n");
        return 1;
    }
    calibrate();
    printf("threads  busy  region                        mean    median       90%%       99%%"
           "       max\n");
    for (int i = 1; i < argc; i++) {
        measure_team((unsigned)strtoul(argv[i], NULL, 10), costs_us);
    }
    if (argc == 1) {
        measure_team(2, costs_us);
    }
    free(costs_us);
    return 0;
}
