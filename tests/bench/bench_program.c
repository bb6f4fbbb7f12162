/*
 * What it takes to build a job's programs through all passes, and to check them: microseconds of
 * each class, and for a thousand operations. Every figure is the best of some runs; one thread.
 *
 *     bench_program MODEL [TP [PP]]
 */
#include "parallel/pass/build.h"
#include "parallel/program/check.h"
#include "runtime/base/clock.h"

#include <stdio.h>
#include <stdlib.h>

enum { N_RUNS = 20 };

static void refuse(ag_status_t status)
{
    if (status != AG_OK) {
        fprintf(stderr, "bench_program: %s\n", ag_error());
        exit(1);
    }
}

static uint64_t count_ops(const ag_program_t *program)
{
    uint64_t n = 0;

    for (uint32_t r = 0; r < program->n_ranks; r++) {
        n += program->ranks[r].ops.n_items;
    }
    return n;
}

static void bench_class(const ag_plan_t *plan, const ag_model_t *model, uint64_t rows)
{
    const uint64_t bounds[AG_N_SIZE_COUNTERS] = {
        [AG_SIZE_ONE] = 1, [AG_SIZE_TOKENS] = rows, [AG_SIZE_OUTPUTS] = 1, [AG_SIZE_SEQUENCES] = 1};
    ag_clock_t clock = ag_clock_monotonic();
    uint64_t build_ns = UINT64_MAX, check_ns = UINT64_MAX, n_ops = 0;

    for (int i = 0; i < N_RUNS; i++) {
        ag_program_t *program;
        ag_build_t *build;
        uint64_t begin_ns, built_ns, checked_ns;

        refuse(ag_build_create(plan, model, &build));
        begin_ns = ag_clock_now_ns(&clock);
        refuse(ag_build_program(build, bounds, false, &program)); /* checked once at its end */
        built_ns = ag_clock_now_ns(&clock);
        refuse(ag_program_check(program, plan, AG_CHECK_PLACED, "building"));
        checked_ns = ag_clock_now_ns(&clock);
        build_ns = built_ns - begin_ns < build_ns ? built_ns - begin_ns : build_ns;
        check_ns = checked_ns - built_ns < check_ns ? checked_ns - built_ns : check_ns;
        n_ops = count_ops(program);
        ag_program_destroy(program);
        ag_build_destroy(build);
    }
    printf("%4llu rows: %6llu operations on %u ranks, %8.1f us, of which %8.1f to check; %.2f ms "
           "for 1,000\n",
           (unsigned long long)rows, (unsigned long long)n_ops, ag_plan_ranks(plan),
           (double)build_ns * 1e-3, (double)check_ns * 1e-3,
           (double)build_ns * 1e-3 / (double)n_ops);
}

int main(int argc, char **argv)
{
    ag_plan_model_t facts;
    ag_model_t *model;
    ag_plan_t *plan;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_program MODEL [TP [PP]]\n");
        return 2;
    }
    refuse(ag_model_open(argv[1], &model));
    facts = ag_build_plan_model(model);
    refuse(ag_plan_make(&facts,
                        &(ag_plan_opts_t){.tp = argc > 2 ? argv[2] : "1",
                                          .pp = argc > 3 ? (uint32_t)atoi(argv[3]) : 1},
                        &plan));
    bench_class(plan, model, 1);
    bench_class(plan, model, 512);
    ag_plan_destroy(plan);
    ag_model_close(model);
    return 0;
}
