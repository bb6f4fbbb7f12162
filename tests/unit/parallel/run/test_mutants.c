/* The checker, tested by mutation: a program made wrong is refused, or it computes the same bits.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mutate.h"
#include "parallel/program/check.h"
#include "program_text.h"
#include "runtime/base/philox.h"
#include "support.h"

static const struct {
    const char *name;
    double floor; /* of the share that is refused */
} faults[N_FAULTS] = {
    [EDGE_DROPPED] = {"edge dropped", 0.5},   [OPS_SWAPPED] = {"operations swapped", 0.5},
    [BUFFER_SHRUNK] = {"buffer shrunk", 0.9}, [OFFSET_SHIFTED] = {"offset shifted", 0.5},
    [MESSAGE_SIZE] = {"message size", 1.0},   [COLLECTIVE_ORDER] = {"collective order", 1.0},
    [OP_LOST] = {"operation lost", 1.0},      [OP_DOUBLED] = {"operation doubled", 1.0},
    [HALF_CHANGED] = {"half changed", 1.0},
};

typedef struct tally {
    uint32_t n_made, n_refused, n_run;
} tally_t;

/* A plan, the text of its program, and the logits that it gives. */
typedef struct original {
    draw_t draw;
    uint64_t seed;
    ag_model_t *model;
    ag_plan_t *plan;
    char *text;
    bool has_run;
    work_t work;
} original_t;

static const int32_t ids[] = {5, 301, 17, 88, 2, 250, 33, 149, 9};

enum { N_IDS = sizeof(ids) / sizeof(ids[0]) };

/* The largest class: the one that the ids are computed with. */
static ag_program_t *largest(const ag_programs_t *programs)
{
    return programs->programs[programs->n - 1];
}

/* False where the shares leave a rank nothing, or there is but one. */
static bool open_original(uint64_t seed, original_t *original)
{
    ag_plan_model_t facts;
    ag_programs_t programs = {0};
    ag_build_t *build = NULL;
    char path[256];

    memset(original, 0, sizeof(*original));
    original->seed = seed;
    if (seed % 2 == 0) {
        draw_options(seed, &original->draw);
    } else {
        draw_experts(seed, &original->draw);
    }
    if (original->draw.n_ranks == 1) {
        return false;
    }
    snprintf(path, sizeof(path), "%s%s", AG_TEST_DATA,
             original->draw.model != NULL ? original->draw.model : "/tiny/llama");
    cr_assert_eq(ag_model_open(path, &original->model), AG_OK);
    facts = ag_build_plan_model(original->model);
    cr_assert_eq(ag_plan_make(&facts, &original->draw.opts, &original->plan), AG_OK);
    if (ag_build_create(original->plan, original->model, &build) == AG_OK) {
        cr_assert_eq(ag_programs_create(build, true, false, &programs), AG_OK);
        original->text = program_text(largest(&programs));
        ag_programs_destroy(&programs);
        ag_build_destroy(build);
    }
    return original->text != NULL;
}

static void close_original(original_t *original)
{
    free(original->text);
    ag_plan_destroy(original->plan);
    ag_model_close(original->model);
}

typedef struct mutation {
    fault_t fault;
    uint64_t seed;
    const char *accepted; /* the text of what the checker has let pass */
} mutation_t;

static void change(void *arg, ag_programs_t *programs)
{
    const mutation_t *mutation = arg;
    char *text;

    cr_assert(mutate(largest(programs), mutation->fault, mutation->seed));
    text = program_text(largest(programs));
    cr_assert_str_eq(text, mutation->accepted);
    free(text);
}

static void run(original_t *original, mutation_t *mutation, work_t *work)
{
    char what[128];

    snprintf(what, sizeof(what), "plan %lu, %s, seed %lu", (unsigned long)original->seed,
             mutation != NULL ? faults[mutation->fault].name : "as it is",
             (unsigned long)(mutation != NULL ? mutation->seed : 0));
    *work = (work_t){.model = original->draw.model,
                     .opts = original->draw.opts,
                     .ids = ids,
                     .n_ids = N_IDS,
                     .change = mutation != NULL ? change : NULL,
                     .change_arg = mutation};
    cr_assert(run_work(work, original->draw.n_ranks, mutation != NULL ? mutation->seed : 0, what),
              "%s", what);
}

static void expect_same_bits(original_t *original, mutation_t *mutation)
{
    static work_t work;

    if (!original->has_run) {
        run(original, NULL, &original->work);
        original->has_run = true;
    }
    run(original, mutation, &work);
    cr_expect_eq(memcmp(work.logits, original->work.logits, N_IDS * VOCAB * sizeof(float)), 0,
                 "plan %lu, %s, seed %lu: accepted, and computes something else",
                 (unsigned long)original->seed, faults[mutation->fault].name,
                 (unsigned long)mutation->seed);
}

static void try_mutant(original_t *original, mutation_t *mutation, tally_t *tally)
{
    ag_program_t *program = NULL;
    char *text;

    cr_assert_eq(program_from_text(original->text, &program), AG_OK, "%s", ag_error());
    if (!mutate(program, mutation->fault, mutation->seed)) {
        ag_program_destroy(program);
        return;
    }
    if (ag_program_check(program, original->plan, AG_CHECK_PLACED, "mutation") != AG_OK) {
        tally->n_made++;
        tally->n_refused++;
    } else {
        text = program_text(program);
        if (strcmp(text, original->text) != 0) { /* else it is no mutant */
            tally->n_made++;
            tally->n_run++;
            mutation->accepted = text;
            expect_same_bits(original, mutation);
        }
        free(text);
    }
    ag_program_destroy(program);
}

/* Below what is foretold: refused, with the rank, each of its parts and the budget. */
static void shrink_budget(const ag_build_t *build, const ag_programs_t *programs, uint32_t rank,
                          uint64_t seed)
{
    uint64_t *budget = &build->plan->budget_bytes[rank], enough = *budget;
    ag_memory_t memory = ag_memory_foretell(build, programs, rank, 1, false);
    char words[64];

    *budget -= 1 + (uint64_t)(ag_philox_uniform(seed, 5, 0) * (double)enough);
    cr_expect_eq(ag_memory_check(build, programs, rank, 1, false), AG_ERR_BUDGET);
    snprintf(words, sizeof(words), "rank %u: ", rank);
    cr_expect_not_null(strstr(ag_error(), words), "%s", ag_error());
    snprintf(words, sizeof(words), "take %lu bytes", (unsigned long)enough);
    cr_expect_not_null(strstr(ag_error(), words), "%s", ag_error());
    snprintf(words, sizeof(words), "its budget is %lu", (unsigned long)*budget);
    cr_expect_not_null(strstr(ag_error(), words), "%s", ag_error());
    for (uint32_t i = 0; i < memory.n_parts; i++) {
        snprintf(words, sizeof(words), "%s %lu", memory.parts[i].name,
                 (unsigned long)memory.parts[i].bytes);
        cr_expect_not_null(strstr(ag_error(), words), "%s in %s", words, ag_error());
    }
    *budget = enough;
}

Test(mutants, of_shrunk_budgets_are_all_refused, .timeout = 300)
{
    enum { ENOUGH = 1000, A_RANK = 20 };
    uint32_t n_made = 0;

    for (uint64_t seed = 0; n_made < ENOUGH; seed++) {
        static original_t original;
        ag_programs_t programs = {0};
        ag_build_t *build = NULL;

        if (open_original(seed, &original)) {
            cr_assert_eq(ag_build_create(original.plan, original.model, &build), AG_OK);
            cr_assert_eq(ag_programs_create(build, true, false, &programs), AG_OK);
            ag_rank_fill_budgets(original.plan, build, &programs, false);
        }
        for (uint32_t r = 0; r < original.plan->n_budgets; r++) {
            cr_expect_eq(ag_memory_check(build, &programs, r, 1, false), AG_OK, "%s", ag_error());
            for (uint64_t i = 0; i < A_RANK; i++, n_made++) {
                shrink_budget(build, &programs, r, seed * 1000 + r * A_RANK + i);
            }
        }
        ag_programs_destroy(&programs);
        ag_build_destroy(build);
        close_original(&original);
    }
    printf("budget shrunk: %u mutants refused\n", n_made);
}

Test(mutants, are_refused_or_run_to_the_same_bits, .timeout = 300)
{
    enum { ENOUGH = 1000, A_PLAN = 12 };
    tally_t tallies[N_FAULTS] = {0};
    bool enough = false;

    for (uint64_t seed = 0; !enough; seed++) {
        static original_t original;

        enough = true;
        if (open_original(seed, &original)) {
            for (uint64_t i = 0; i < N_FAULTS * A_PLAN; i++) {
                fault_t fault = (fault_t)(i % N_FAULTS);
                mutation_t mutation = {fault, seed * 1000 + i, NULL};

                if (tallies[fault].n_made < ENOUGH) {
                    try_mutant(&original, &mutation, &tallies[fault]);
                }
            }
        }
        close_original(&original);
        for (int f = 0; f < N_FAULTS; f++) {
            enough = enough && tallies[f].n_made >= ENOUGH;
        }
    }
    for (int f = 0; f < N_FAULTS; f++) {
        double share = (double)tallies[f].n_refused / tallies[f].n_made;

        printf("%s: %u of %u mutants refused (%.3f), %u run to the same bits\n", faults[f].name,
               tallies[f].n_refused, tallies[f].n_made, share, tallies[f].n_run);
        cr_expect_geq(share, faults[f].floor, "%s: %u of %u", faults[f].name, tallies[f].n_refused,
                      tallies[f].n_made);
    }
}
