/*
 * Barriers, found wanting without luck: between two of them threads go on one after the other, the
 * first to the last or the last to the first. So of two threads either one meets a place before
 * the other has read or written there, unless a barrier keeps it. The team's barrier is replaced
 * (tests/CMakeLists.txt: --wrap) by one that hands the turn on.
 */
#include "whole_graph.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

void __wrap_ag_team_barrier(const ag_worker_t *worker);
void __real_ag_team_barrier(const ag_worker_t *worker);

/* Whose turn it is: the count of turns that have ended says it. */
static struct {
    bool taken; /* else barriers are the team's */
    bool last_first;
    unsigned n_ended, n_of_thread[MOST_THREADS];
    pthread_mutex_t lock;
    pthread_cond_t ended;
} turns = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

static void await_turn(const ag_worker_t *worker)
{
    unsigned n = worker->n_threads;
    unsigned place = turns.last_first ? n - 1 - worker->thread : worker->thread;

    pthread_mutex_lock(&turns.lock);
    while (turns.n_ended != turns.n_of_thread[worker->thread] * n + place) {
        pthread_cond_wait(&turns.ended, &turns.lock);
    }
    pthread_mutex_unlock(&turns.lock);
}

static void end_turn(const ag_worker_t *worker)
{
    pthread_mutex_lock(&turns.lock);
    turns.n_ended++;
    turns.n_of_thread[worker->thread]++;
    pthread_cond_broadcast(&turns.ended);
    pthread_mutex_unlock(&turns.lock);
}

void __wrap_ag_team_barrier(const ag_worker_t *worker)
{
    if (!turns.taken) {
        __real_ag_team_barrier(worker);
        return;
    }
    end_turn(worker);
    await_turn(worker);
}

static void region_in_turns(void *arg, const ag_worker_t *worker)
{
    await_turn(worker);
    ag_graph_region(arg, worker);
    end_turn(worker);
}

static float *results_in_turns(const whole_t *whole, whole_run_t run, bool last_first, size_t *n_p)
{
    float *y;

    run.region = region_in_turns;
    turns.taken = true;
    turns.last_first = last_first;
    turns.n_ended = 0;
    memset(turns.n_of_thread, 0, sizeof(turns.n_of_thread));
    y = whole_results(whole, &run, n_p);
    turns.taken = false;
    return y;
}

/* Does any order on a team give other bits than one thread? */
static bool differs(const whole_t *whole, const whole_step_t *step, bool exact, bool buffers,
                    size_t without_barrier)
{
    whole_run_t run = {.step = step,
                       .exact = exact,
                       .isa = exact ? NULL : ag_isa_best(),
                       .n_threads = 1,
                       .buffers = true};
    size_t n;
    float *expected = whole_results(whole, &run, &n);
    bool any = false;

    run.buffers = buffers;
    run.without_barrier = without_barrier;
    for (unsigned i = 0; i < 6 && !any; i++) {
        static const unsigned n_threads[] = {3, 2, MOST_THREADS};
        float *y;

        run.n_threads = n_threads[i / 2];
        run.speeds = i / 2 == 2 ? whole_speeds : NULL;
        y = results_in_turns(whole, run, i % 2 != 0, &n);
        any = memcmp(y, expected, n * sizeof(float)) != 0;
        free(y);
    }
    free(expected);
    return any;
}

/* Steps of one class: of 8 rows, of 41. */
static const whole_step_t *const classes[2][3] = {
    {&whole_steps[0], &whole_steps[1], &whole_steps[2]}, {&whole_steps[3], &whole_steps[4]}};

/* Compiling does not know that SELECT shares out the rows that it writes. */
static bool may_be_idle(const ag_graph_t *graph, size_t i)
{
    return AG_ITEMS(&graph->nodes, ag_node_t)[i - 1].kind == AG_NODE_SELECT;
}

/* What follows numbers that it reads may not be run on what is none: that its barrier is there is
 * seen with all of them. */
static bool follows_numbers(const ag_graph_t *graph, size_t i)
{
    const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];

    switch (node->kind) {
    case AG_NODE_COUNT_ROWS:
    case AG_NODE_PERMUTE:
    case AG_NODE_REGROUP:
    case AG_NODE_GROUPED_LINEAR:
    case AG_NODE_COMBINE:
        return true;
    default:
        return node->kind == AG_NODE_PREPARE && node->in[1] != AG_NO_VALUE;
    }
}

/* The graph of a class is right, and what it is right by is seen: without any one of its barriers
 * it is not. */
static void check_class(const whole_t *whole, bool exact, bool buffers,
                        const whole_step_t *const steps[3])
{
    ag_graph_t graph;
    size_t n_barriers = 0;

    for (int s = 0; s < 3 && steps[s] != NULL; s++) {
        cr_expect_not(differs(whole, steps[s], exact, buffers, 0), "%s, %s: a barrier is missing",
                      whole->kind->name, steps[s]->name);
    }
    whole_compile(whole, &(whole_run_t){.step = steps[0], .exact = exact, .buffers = buffers},
                  &graph);
    for (size_t i = 1; i < graph.nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph.nodes, ag_node_t)[i];
        bool seen = !node->barrier_before || may_be_idle(&graph, i) || follows_numbers(&graph, i);

        for (int s = 0; s < 3 && steps[s] != NULL && !seen; s++) {
            seen = differs(whole, steps[s], exact, buffers, i);
        }
        cr_expect(seen, "%s, %s: nothing shows the barrier before node %zu, %s of layer %u",
                  whole->kind->name, steps[0]->name, i, ag_node_name(node->kind), node->layer);
        n_barriers += node->barrier_before;
    }
    cr_expect_gt(n_barriers, 4);
    ag_graph_fini(&graph);
}

static void check_kind(const whole_kind_t *kind, bool exact)
{
    whole_t whole;

    whole_init(&whole, kind, false);
    for (int i = 0; i < 4; i++) { /* in scratch, where values follow each other, and apart */
        check_class(&whole, exact, i / 2 != 0, classes[i % 2]);
    }
    whole_fini(&whole);
}

Test(turns, packed_weights_need_each_barrier_and_no_other)
{
    check_kind(&(whole_kind_t){"q8_0", 64, 32, 96, AG_Q8_0, AG_Q4_1, AG_Q8_0, AG_PACKING_R16},
               false);
}

Test(turns, exact_products_need_each_barrier_and_no_other)
{
    check_kind(&(whole_kind_t){"f32", 80, 12, 111, AG_F32, AG_F32, AG_F32, AG_PACKING_ROWS}, true);
}
