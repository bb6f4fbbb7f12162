/* The checker, tested by mutation of programs of training and of evaluating, with experts and
 * without: what it lets pass trains to the same bits. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mutate.h"
#include "parallel/program/check.h"
#include "program_text.h"
#include "runtime/base/philox.h"
#include "runtime/base/xxh64.h"
#include "support.h"

enum { N_STEPS = 2, N_ROWS = 4, ROW_TOKENS = 8, MOST_RANKS = 4 };

static const struct {
    const char *model;
    ag_plan_opts_t opts;
    uint32_t n_ranks;
} plans[] = {
    {"/tiny/mixtral", {.ep = "2"}, 2},
    {"/tiny/mixtral", {.tp = "2", .dp = 2, .ep = "4", .zero_stage = 1}, 4},
    {"/tiny/mixtral", {.tp = "2", .pp = 2, .recompute = true, .schedule = "1f1b"}, 4},
    {"/tiny/mixtral", {.dp = 2, .pp = 2, .ep = "2", .expert_split = "1,4"}, 4},
    {"/tiny/llama", {.tensor_split = "5,4", .dp = 2, .zero_stage = 1}, 4},
    {"/variants/llama6", {.pp = 2, .schedule = "interleaved", .virtual_stages = 3}, 2},
};

enum { N_PLANS = sizeof(plans) / sizeof(plans[0]) };

/* A step's micro-batches of one row each; tokens by their place in the run. */
typedef struct batch {
    ag_update_t update;
    ag_step_t steps[N_ROWS];
    int32_t tokens[N_ROWS][ROW_TOKENS + 1], places[ROW_TOKENS], row_begin[2];
} batch_t;

static void fill_batch(uint32_t number, batch_t *batch)
{
    *batch = (batch_t){.update = {.number = number + 1,
                                  .loss_scale = 1.0f / (N_ROWS * ROW_TOKENS),
                                  .learning_rate = 1e-2f,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.95f,
                                  .eps = 1e-8f,
                                  .weight_decay = 0.1f,
                                  .clip_norm = 1},
                       .row_begin = {0, ROW_TOKENS}};
    for (uint32_t m = 0; m < N_ROWS; m++) {
        for (uint32_t i = 0; i <= ROW_TOKENS; i++) {
            batch->tokens[m][i] =
                (int32_t)(ag_philox_uniform(7, number, m * (ROW_TOKENS + 1) + i) * VOCAB);
        }
        batch->steps[m] = (ag_step_t){.counts = {[AG_COUNT_ONE] = 1,
                                                 [AG_COUNT_TOKENS] = ROW_TOKENS,
                                                 [AG_COUNT_OUTPUTS] = ROW_TOKENS,
                                                 [AG_COUNT_SEQUENCES] = 1},
                                      .tokens = batch->tokens[m],
                                      .positions = batch->places,
                                      .outputs = batch->places,
                                      .targets = batch->tokens[m] + 1,
                                      .row_begin = batch->row_begin,
                                      .update = &batch->update};
    }
    for (int32_t i = 0; i < ROW_TOKENS; i++) {
        batch->places[i] = i;
    }
}

/* A run of a plan, its program changed or not, and what it comes to. */
typedef struct course {
    uint32_t plan;
    uint32_t class; /* that is changed */
    fault_t fault;
    uint64_t seed;
    const char *accepted; /* the text of what the checker has let pass; NULL: as it is */
    float totals[N_STEPS + 1][AG_N_TOTALS];
    uint64_t weights[MOST_RANKS]; /* checksums; 0 where only a device may read them */
} course_t;

static void change(void *arg, ag_programs_t *programs)
{
    const course_t *course = arg;
    ag_program_t *program = programs->programs[course->class];
    char *text;

    cr_assert(mutate(program, course->fault, course->seed));
    text = program_text(program);
    cr_assert_str_eq(text, course->accepted);
    free(text);
}

static ag_status_t drive(course_t *course, ag_job_t *job)
{
    ag_status_t status = AG_OK;
    batch_t batch;

    for (uint32_t i = 0; i <= N_STEPS && status == AG_OK; i++) {
        fill_batch(i, &batch);
        batch.update.is_frozen = batch.update.evaluates = i == N_STEPS;
        status = ag_job_train(job, batch.steps, course->totals[i]);
    }
    return status == AG_OK ? ag_job_stop(job) : status;
}

static ag_plan_opts_t opts_of(uint32_t plan)
{
    ag_plan_opts_t opts = plans[plan].opts;

    opts.sequence_tokens = ROW_TOKENS;
    opts.global_batch_size = N_ROWS;
    opts.micro_batch_size = 1;
    opts.compute = AG_COMPUTE_F32;
    return opts;
}

static ag_status_t run_rank(ag_turn_t *turn)
{
    course_t *course = turn->arg;
    ag_plan_opts_t opts = opts_of(course->plan);
    ag_rank_t rank = {0};
    char path[256];
    const void *weights;
    size_t n_bytes;
    ag_status_t status;

    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA, plans[course->plan].model);
    status = ag_rank_open(turn,
                          &(ag_rank_opts_t){.model = path,
                                            .plan = &opts,
                                            .lazy = devices_of_tests(),
                                            .change = course->accepted != NULL ? change : NULL,
                                            .change_arg = course},
                          &rank);
    if (status == AG_OK) {
        status = turn->net->rank == 0 ? drive(course, rank.job) : ag_job_follow(rank.job);
    }
    if (status == AG_OK) {
        weights = ag_job_weights(rank.job, &n_bytes);
        course->weights[turn->net->rank] = weights != NULL ? ag_xxh64(weights, n_bytes) : 0;
    } else {
        printf("rank %d: %s\n", turn->net->rank, ag_error());
    }
    cr_expect_eq(ag_rank_close(&rank), 0, "memory is given back");
    return status;
}

static void run(course_t *course)
{
    ag_status_t statuses[MOST_RANKS];

    ag_turns_run(plans[course->plan].n_ranks, course->seed, run_rank, course, statuses);
    for (uint32_t r = 0; r < plans[course->plan].n_ranks; r++) {
        cr_assert_eq(statuses[r], AG_OK, "plan %u, fault %d, seed %lu: rank %u", course->plan,
                     course->fault, (unsigned long)course->seed, r);
    }
}

/* The programs of a plan, as texts. */
typedef struct original {
    ag_plan_t *plan;
    char *texts[2]; /* of training, of evaluating */
    course_t course;
} original_t;

static void open_original(uint32_t number, original_t *original)
{
    ag_plan_opts_t opts = opts_of(number);
    ag_programs_t programs;
    ag_plan_model_t facts;
    ag_build_t *build;
    ag_model_t *model;
    char path[256];

    *original = (original_t){.course = {.plan = number}};
    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA, plans[number].model);
    cr_assert_eq(ag_model_open(path, &model), AG_OK);
    facts = ag_build_plan_model(model);
    cr_assert_eq(ag_plan_make(&facts, &opts, &original->plan), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_build_create(original->plan, model, &build), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_programs_create(build, true, false, &programs), AG_OK, "%s", ag_error());
    cr_assert_eq(programs.n, 2);
    for (int i = 0; i < 2; i++) {
        original->texts[i] = program_text(programs.programs[i]);
    }
    ag_programs_destroy(&programs);
    ag_build_destroy(build);
    ag_model_close(model);
    run(&original->course);
}

typedef struct tally {
    uint32_t n_made, n_refused;
} tally_t;

static void expect_same_bits(const original_t *original, course_t *course)
{
    run(course);
    cr_expect(memcmp(course->totals, original->course.totals, sizeof(course->totals)) == 0 &&
                  memcmp(course->weights, original->course.weights, sizeof(course->weights)) == 0,
              "plan %u, class %u, fault %d, seed %lu: accepted, and trains to something else",
              course->plan, course->class, course->fault, (unsigned long)course->seed);
}

static void try_mutant(const original_t *original, course_t *course, tally_t *tally)
{
    const char *before = original->texts[course->class];
    ag_program_t *program = NULL;
    char *text;

    cr_assert_eq(program_from_text(before, &program), AG_OK, "%s", ag_error());
    if (mutate(program, course->fault, course->seed)) {
        text = program_text(program);
        if (strcmp(text, before) != 0) { /* else it is no mutant */
            tally->n_made++;
            if (ag_program_check(program, original->plan, AG_CHECK_PLACED, "mutation") != AG_OK) {
                tally->n_refused++;
            } else {
                course->accepted = text;
                expect_same_bits(original, course);
            }
        }
        free(text);
    }
    ag_program_destroy(program);
}

Test(train_mutants, are_refused_or_train_to_the_same_bits, .timeout = 300)
{
    const char *more = getenv("ARGOSY_MUTANTS"); /* for a longer look */
    uint64_t n_each = more != NULL ? strtoull(more, NULL, 10) : 3;
    tally_t tallies[N_FAULTS] = {0};

    for (uint32_t p = 0; p < N_PLANS; p++) {
        static original_t original;

        open_original(p, &original);
        for (uint64_t i = 0; i < n_each * N_FAULTS; i++) {
            course_t course = {.plan = p,
                               .class = i / N_FAULTS % 3 == 2,
                               .fault = (fault_t)(i % N_FAULTS),
                               .seed = p * 100000 + i};

            try_mutant(&original, &course, &tallies[course.fault]);
        }
        free(original.texts[0]);
        free(original.texts[1]);
        ag_plan_destroy(original.plan);
    }
    for (int f = 0; f < N_FAULTS; f++) {
        printf("fault %d: %u of %u mutants refused\n", f, tallies[f].n_refused, tallies[f].n_made);
        cr_expect_gt(tallies[f].n_made, f == HALF_CHANGED ? 0 : N_PLANS);
    }
}
