/*
 * A graph of all kinds of nodes: places and barriers are right if its results have the bits that
 * it gives on one thread with a buffer of its own for every value. test_turns.c looks at barriers
 * with threads that go on in the worst order.
 */
#include "whole_graph.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Every number is finite, and all logits of ours and no others are there. */
static void expect_sane(const whole_t *whole, const whole_step_t *step, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        cr_assert(fabsf(y[i]) < 1e6f, "%s, %s: %zu: %g", whole->kind->name, step->name, i,
                  (double)y[i]);
        cr_assert_eq(y[i] != 0, whole_is_ours(whole, step, i), "%s, %s: %zu: %g", whole->kind->name,
                     step->name, i, (double)y[i]);
    }
}

/* Every step, on teams of threads alike and uneven. */
static void check(const whole_t *whole, bool exact, const ag_isa_t *isa)
{
    for (int s = 0; s < N_STEPS; s++) {
        const whole_step_t *step = &whole_steps[s];
        whole_run_t run = {
            .step = step, .exact = exact, .isa = isa, .n_threads = 1, .buffers = true};
        size_t n;
        float *expected = whole_results(whole, &run, &n);

        expect_sane(whole, step, expected, n);
        run.buffers = false;
        for (unsigned t = 1; t <= MOST_THREADS; t++) {
            float *y;

            run.n_threads = t;
            run.speeds = (t + (unsigned)s) % 2 == 0 ? whole_speeds : NULL;
            y = whole_results(whole, &run, &n);
            cr_assert_eq(memcmp(y, expected, n * sizeof(float)), 0,
                         "%s, %s, %s: %u %s threads give other bits", whole->kind->name,
                         isa == NULL ? "plain C" : ag_isa_name(isa), step->name, t,
                         run.speeds == NULL ? "equal" : "uneven");
            free(y);
        }
        free(expected);
    }
}

static void check_kind(const whole_kind_t *kind, bool exact, bool with_gemm)
{
    static const char *const isas[] = {"base", "avx2", "avx512"};
    whole_t whole;

    whole_init(&whole, kind, with_gemm);
    for (int i = 0; i < 3; i++) {
        const ag_isa_t *isa = NULL;

        if (ag_isa_find(isas[i], &isa) == AG_OK && (kind->packing != AG_PACKING_ROWS || i == 0)) {
            check(&whole, exact, exact ? NULL : isa);
        }
    }
    whole_fini(&whole);
}

/* Widths that no vector divides, and types of which no two layers have the same. */
static const whole_kind_t odd = {"rows as in the file", 32, 12, 47, AG_F32, AG_Q8_0, AG_BF16,
                                 AG_PACKING_ROWS};

Test(run, places_and_threads_leave_no_trace_in_the_bits_of_exact_kernels)
{
    check_kind(&odd, true, false);
}

Test(run, places_and_threads_leave_no_trace_in_the_bits_of_onednn)
{
    check_kind(&odd, false, true);
}

Test(run, places_and_threads_leave_no_trace_in_the_bits_of_packed_weights_of_8_bits)
{
    check_kind(&(whole_kind_t){"q8_0", 64, 32, 96, AG_Q8_0, AG_Q4_1, AG_Q8_0, AG_PACKING_R16},
               false, false);
}

Test(run, places_and_threads_leave_no_trace_in_the_bits_of_packed_weights_of_4_and_5_bits)
{
    check_kind(&(whole_kind_t){"q4_0", 64, 32, 96, AG_Q4_0, AG_Q5_0, AG_Q4_0, AG_PACKING_R16},
               false, false);
}

Test(run, places_and_threads_leave_no_trace_in_the_bits_of_packed_weights_of_16_bits)
{
    check_kind(&(whole_kind_t){"bf16", 40, 20, 72, AG_BF16, AG_F16, AG_F16, AG_PACKING_R16}, false,
               false);
}

Test(run, places_and_threads_leave_no_trace_in_the_bits_of_packed_weights_with_two_level_scales)
{
    check_kind(&(whole_kind_t){"q4_k", 256, 32, 256, AG_Q4_K, AG_Q6_K, AG_Q8_0, AG_PACKING_R16},
               false, false);
}

static void count_yield(void *arg)
{
    (*(unsigned *)arg)++;
}

Test(run, communication_is_looked_at_after_every_node)
{
    float data[4] = {1, 2, 3, 4};
    uint64_t offsets[1] = {0};
    unsigned n_yields = 0;
    ag_yield_t yield = {count_yield, &n_yields};
    ag_step_t step = {.counts = {1, 2, 0, 1}};
    ag_graph_run_t run = {
        .step = &step, .memory = (unsigned char *)data, .offsets = offsets, .yield = &yield};
    ag_team_t *team = NULL;
    ag_graph_t graph;
    int32_t x;

    ag_graph_init(&graph);
    x = ag_graph_value(&graph, AG_COUNT_TOKENS, 2, 0);
    for (int i = 0; i < 3; i++) {
        ag_node_t sum = {.kind = AG_NODE_ADD, .in = {x, x}, .out = x};

        cr_assert_eq(ag_graph_add(&graph, &sum, NULL), AG_OK);
    }
    run.graph = &graph;
    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = 1}, &team), AG_OK);
    cr_assert_eq(ag_graph_compile(&graph, (uint64_t[AG_N_COUNTERS]){1, 2, 0, 1}, NULL, true),
                 AG_OK);
    ag_team_run(team, ag_graph_region, &run);
    ag_team_destroy(team);
    cr_expect_geq(n_yields, 3);
    cr_expect_eq(data[3], 32.0f);
    ag_graph_fini(&graph);
}
