/* Orders that train: each work once, no deadlock, and the idle time and activations that the papers
 * give, by a clock that steps through all stages at once. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/schedule/schedule.h"

enum { FORWARD_TIME = 1, BACKWARD_TIME = 2, MOST_STAGES = 8, NEVER = UINT32_MAX };

/* What became of a schedule. */
typedef struct outcome {
    uint32_t time;                /* when the last work ended */
    uint32_t kept[MOST_STAGES];   /* most chunks whose activations a stage keeps */
    uint32_t n_works[AG_N_WORKS]; /* done */
} outcome_t;

/* When each work ended: (works, chunks, micro-batches). */
typedef struct clocks {
    const ag_pipeline_shape_t *shape;
    uint32_t n_chunks;
    uint32_t *ends;
} clocks_t;

static uint32_t *end_of(const clocks_t *clocks, uint32_t work, uint32_t chunk, uint32_t m)
{
    return &clocks->ends[(work * clocks->n_chunks + chunk) * clocks->shape->micro_batches + m];
}

/* When the works that one waits for have ended; NEVER: not yet. */
static uint32_t ready(const clocks_t *clocks, const ag_schedule_item_t *item)
{
    uint32_t before = 0, own = 0;

    if (item->work == AG_WORK_FORWARD) {
        return item->chunk == 0
                   ? 0
                   : *end_of(clocks, AG_WORK_FORWARD, item->chunk - 1u, item->micro_batch);
    }
    own = *end_of(clocks, AG_WORK_FORWARD, item->chunk, item->micro_batch);
    if (item->chunk + 1u < clocks->n_chunks) {
        before = *end_of(clocks, AG_WORK_BACKWARD, item->chunk + 1u, item->micro_batch);
    }
    return own > before ? own : before;
}

/* A chunk takes its share of a stage's time; times are in units of a chunk's forward. */
static void run(const ag_pipeline_shape_t *shape, const ag_schedule_t *schedule, outcome_t *outcome)
{
    uint32_t v = shape->virtual_stages > 0 ? shape->virtual_stages : 1;
    clocks_t clocks = {.shape = shape, .n_chunks = v * shape->stages};
    size_t n = (size_t)AG_N_WORKS * clocks.n_chunks * shape->micro_batches;
    uint32_t at[MOST_STAGES] = {0}, free_at[MOST_STAGES] = {0}, held[MOST_STAGES] = {0};
    bool moved = true;

    *outcome = (outcome_t){0};
    clocks.ends = malloc(n * sizeof(uint32_t));
    cr_assert_not_null(clocks.ends);
    memset(clocks.ends, 0xff, n * sizeof(uint32_t));
    while (moved) {
        moved = false;
        for (uint32_t s = 0; s < shape->stages; s++) {
            const ag_array_t *list = &schedule->stages[s];
            const ag_schedule_item_t *item = &AG_ITEMS(list, ag_schedule_item_t)[at[s]];
            uint32_t begin;

            if (at[s] == list->n_items || (begin = ready(&clocks, item)) == NEVER) {
                continue;
            }
            cr_assert_eq(item->chunk % shape->stages, s, "a chunk of another stage");
            cr_assert_eq(*end_of(&clocks, item->work, item->chunk, item->micro_batch), NEVER,
                         "a work twice");
            begin = begin > free_at[s] ? begin : free_at[s];
            free_at[s] = begin + (item->work == AG_WORK_FORWARD ? FORWARD_TIME : BACKWARD_TIME);
            *end_of(&clocks, item->work, item->chunk, item->micro_batch) = free_at[s];
            outcome->n_works[item->work]++;
            held[s] += item->work == AG_WORK_FORWARD ? 1 : -1u;
            outcome->kept[s] = held[s] > outcome->kept[s] ? held[s] : outcome->kept[s];
            outcome->time = free_at[s] > outcome->time ? free_at[s] : outcome->time;
            at[s]++;
            moved = true;
        }
    }
    for (uint32_t work = 0; work < AG_WORK_WEIGHT; work++) {
        cr_expect_eq(outcome->n_works[work], clocks.n_chunks * shape->micro_batches,
                     "%u stages, %u micro-batches, %u chunks: %u of work %u are done",
                     shape->stages, shape->micro_batches, v, outcome->n_works[work], work);
    }
    free(clocks.ends);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* By the papers: idle for `idle` times a chunk's forward and backward, kept[s] at most. */
static void expect_published(const char *name, const ag_pipeline_shape_t *shape, uint32_t idle,
                             const uint32_t *kept)
{
    uint32_t v = shape->virtual_stages > 0 ? shape->virtual_stages : 1;
    const ag_schedule_info_t *info = NULL;
    ag_schedule_t *schedule = NULL;
    outcome_t outcome;

    cr_assert_eq(ag_schedule_find(name, &info), AG_OK);
    cr_assert_eq(info->generate(shape, &schedule), AG_OK, "%s", ag_error());
    run(shape, schedule, &outcome);
    cr_expect_eq(outcome.time, (shape->micro_batches * v + idle) * (FORWARD_TIME + BACKWARD_TIME),
                 "%s of %u stages, %u micro-batches, %u chunks ends at %u", name, shape->stages,
                 shape->micro_batches, v, outcome.time);
    for (uint32_t s = 0; s < shape->stages; s++) {
        cr_expect_eq(outcome.kept[s], kept[s], "%s: stage %u of %u keeps %u of %u", name, s,
                     shape->stages, outcome.kept[s], kept[s]);
    }
    ag_schedule_destroy(schedule);
}

Test(schedule, gpipe_is_idle_for_p_minus_1_and_keeps_all_micro_batches)
{
    for (uint32_t p = 1; p <= MOST_STAGES; p++) {
        for (uint32_t m = 1; m <= 12; m++) {
            uint32_t kept[MOST_STAGES];

            for (uint32_t s = 0; s < p; s++) {
                kept[s] = m;
            }
            expect_published("gpipe", &(ag_pipeline_shape_t){.stages = p, .micro_batches = m},
                             p - 1, kept);
        }
    }
}

Test(schedule, one_f_one_b_is_idle_for_p_minus_1_and_keeps_p_minus_s)
{
    for (uint32_t p = 1; p <= MOST_STAGES; p++) {
        for (uint32_t m = 1; m <= 12; m++) {
            uint32_t kept[MOST_STAGES];

            for (uint32_t s = 0; s < p; s++) {
                kept[s] = least(p - s, m);
            }
            expect_published("1f1b", &(ag_pipeline_shape_t){.stages = p, .micro_batches = m}, p - 1,
                             kept);
        }
    }
}

Test(schedule, interleaved_is_idle_for_a_vth_of_that)
{
    for (uint32_t p = 2; p <= MOST_STAGES; p++) {
        for (uint32_t v = 2; v <= 4; v++) {
            for (uint32_t m = p; m <= 4 * p; m += p) {
                uint32_t kept[MOST_STAGES];

                for (uint32_t s = 0; s < p; s++) {
                    kept[s] = least(2 * (p - s - 1) + (v - 1) * p + 1, m * v);
                }
                expect_published(
                    "interleaved",
                    &(ag_pipeline_shape_t){.stages = p, .micro_batches = m, .virtual_stages = v},
                    p - 1, kept);
            }
        }
    }
}

Test(schedule, ring_has_no_way_back)
{
    ag_schedule_t *schedule = NULL;

    cr_assert_eq(
        ag_generate_ring(&(ag_pipeline_shape_t){.stages = 3, .micro_batches = 2}, &schedule),
        AG_OK);
    for (uint32_t s = 0; s < 3; s++) {
        const ag_schedule_item_t *items = AG_ITEMS(&schedule->stages[s], ag_schedule_item_t);

        cr_assert_eq(schedule->stages[s].n_items, 2);
        for (uint32_t m = 0; m < 2; m++) {
            cr_expect(items[m].chunk == s && items[m].micro_batch == m &&
                      items[m].work == AG_WORK_FORWARD);
        }
    }
    ag_schedule_destroy(schedule);
}

static void expect_refused(ag_generate_fn_t generate, const ag_pipeline_shape_t *shape,
                           const char *says)
{
    ag_schedule_t *schedule = NULL;

    cr_expect_eq(generate(shape, &schedule), AG_ERR_INVALID);
    cr_expect_null(schedule);
    cr_expect(strstr(ag_error(), says) != NULL, "\"%s\" does not say \"%s\"", ag_error(), says);
}

Test(schedule, what_an_order_does_not_allow_is_said)
{
    const ag_schedule_info_t *info = NULL;

    expect_refused(ag_generate_interleaved, &(ag_pipeline_shape_t){4, 6, 2}, "give 8");
    expect_refused(ag_generate_interleaved, &(ag_pipeline_shape_t){4, 8, 1}, "use 1f1b");
    expect_refused(ag_generate_interleaved, &(ag_pipeline_shape_t){1, 8, 2}, "use 1f1b");
    expect_refused(ag_generate_gpipe, &(ag_pipeline_shape_t){2, 4, 2}, "use interleaved");
    expect_refused(ag_generate_1f1b, &(ag_pipeline_shape_t){2, 4, 2}, "use interleaved");
    expect_refused(ag_generate_1f1b, &(ag_pipeline_shape_t){0, 4, 1}, "1 to 65535");
    expect_refused(ag_generate_1f1b, &(ag_pipeline_shape_t){2, 65536, 1}, "1 to 65535");
    cr_expect_eq(ag_schedule_find("zigzag", &info), AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "1f1b") != NULL);
}

/* F F B W B W .. of the stage's own order. */
Test(schedule, split_backward_has_the_weights_behind_each_input)
{
    ag_schedule_t *schedule = NULL;

    cr_assert_eq(
        ag_generate_1f1b(&(ag_pipeline_shape_t){.stages = 3, .micro_batches = 4}, &schedule),
        AG_OK);
    cr_assert_eq(ag_schedule_split_backward(schedule), AG_OK);
    for (uint32_t s = 0; s < 3; s++) {
        const ag_schedule_item_t *items = AG_ITEMS(&schedule->stages[s], ag_schedule_item_t);

        cr_assert_eq(schedule->stages[s].n_items, 12);
        for (size_t i = 0; i < 12; i++) {
            cr_expect_eq(items[i].work == AG_WORK_WEIGHT,
                         i > 0 && items[i - 1].work == AG_WORK_BACKWARD);
            cr_expect(items[i].work != AG_WORK_WEIGHT ||
                      items[i].micro_batch == items[i - 1].micro_batch);
        }
    }
    ag_schedule_destroy(schedule);
}
