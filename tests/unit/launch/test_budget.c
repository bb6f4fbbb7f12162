#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "comm/net_loop.h"
#include "launch/budget.h"

/* With MPI it is made the smaller one, or no number of ranks would help so small a model. */
enum { PROCESS_BYTES = 3 << 20, MPI_PROCESS_BYTES = 1 << 20, WORK_BYTES = 7 << 20 };

/* The tiny llama on one rank, planned by these options; nothing is measured. */
typedef struct setup {
    ag_options_t options;
    ag_session_t session;
} setup_t;

static ag_status_t open_setup(setup_t *setup, const ag_options_t *options, uint64_t free_bytes)
{
    ag_session_t *session = &setup->session;

    setup->options = *options;
    *session = (ag_session_t){.options = &setup->options,
                              .host = {.n_local = 1, .available_bytes = free_bytes}};
    session->ranks = calloc(1, sizeof(*session->ranks));
    cr_assert_not_null(session->ranks);
    session->ranks[0] = (ag_session_rank_t){
        .n_threads = 1,
        .limits = {.n_cores = 1, .process_bytes = {PROCESS_BYTES, MPI_PROCESS_BYTES}}};
    cr_assert_eq(ag_net_loop_create(1, &session->net), AG_OK);
    cr_assert_eq(ag_model_open(AG_TEST_DATA "/tiny/llama", &session->model), AG_OK);
    return ag_session_plan(session, 0, false);
}

/* How planning by these options goes, every rank's budget looked at. */
static ag_status_t plan_by(const ag_options_t *options, uint64_t free_bytes)
{
    setup_t setup;
    ag_status_t status = open_setup(&setup, options, free_bytes);

    status = status == AG_OK ? ag_session_check_budgets(&setup.session) : status;
    ag_session_close(&setup.session);
    return status;
}

/* @param part  NULL: all parts together. */
static uint64_t bytes_of(const ag_options_t *options, const char *part)
{
    setup_t setup;
    uint64_t bytes = 0;
    ag_memory_t memory;

    cr_assert_eq(open_setup(&setup, options, 1 << 30), AG_OK, "%s", ag_error());
    memory = ag_session_memory(&setup.session, 0);
    for (uint32_t i = 0; i < memory.n_parts; i++) {
        bytes +=
            part == NULL || strcmp(memory.parts[i].name, part) == 0 ? memory.parts[i].bytes : 0;
    }
    ag_session_close(&setup.session);
    return bytes;
}

/* Do what one remedy says. @return its option. */
static const char *follow(const char *remedy, const ag_options_t *options)
{
    static char value[32];
    static const char *const names[] = {"--max-memory ", "--context ", "--tp ", "--pp ",
                                        "--compute auto"};
    ag_options_t changed = *options;
    int kind = 0;
    const char *at = NULL;

    while (kind < 5 && (at = strstr(remedy, names[kind])) == NULL) {
        kind++;
    }
    cr_assert_lt(kind, 5, "a remedy of another kind: %s", remedy);
    at += strlen(names[kind]);
    snprintf(value, sizeof(value), "%.*s", (int)strcspn(at, " ),"), at);
    changed.plan.max_memory = kind == 0 ? value : changed.plan.max_memory;
    changed.plan.context_tokens = kind == 1 ? (uint32_t)atoi(value) : changed.plan.context_tokens;
    changed.plan.tp = kind == 2 ? value : changed.plan.tp;
    changed.plan.pp = kind == 3 ? (uint32_t)atoi(value) : changed.plan.pp;
    changed.plan.compute = kind == 4 ? AG_COMPUTE_AUTO : changed.plan.compute;
    cr_expect_eq(plan_by(&changed, 1 << 30), AG_OK, "%s: %s", remedy, ag_error());
    return names[kind];
}

/* Every remedy of a refusal does. @param first_letters  out: of the options, as "mcpa". */
static void follow_all(const ag_options_t *options, char first_letters[8])
{
    char text[1024], *at;
    int n = 0;

    cr_assert_eq(plan_by(options, 1 << 30), AG_ERR_BUDGET);
    cr_assert_null(strchr(ag_error(), '\n'), "%s", ag_error());
    snprintf(text, sizeof(text), "%s", ag_error());
    at = strstr(text, "this would do: ");
    cr_assert_not_null(at, "%s", text);
    for (at += strlen("this would do: "); at != NULL && n < 7; n++) {
        char *next = strstr(at, ", or ");
        const char *name;

        if (next != NULL) {
            *next = '\0';
            next += strlen(", or ");
        }
        name = follow(at, options);
        first_letters[n] = strcmp(name, "--compute auto") == 0 ? 'a' : name[2];
        at = next;
    }
    first_letters[n] = '\0';
}

/* @return how many of so many budgets below `most` have an option with this letter for a remedy. */
static int count_remedy(char letter, uint64_t least, uint64_t most, unsigned n_budgets)
{
    char bytes[32], letters[8];
    ag_options_t options = {.command = AG_COMMAND_PLAN,
                            .plan = {.compute = AG_COMPUTE_F32, .max_memory = bytes}};
    int n = 0;

    for (unsigned i = 0; i < n_budgets; i++) {
        snprintf(bytes, sizeof(bytes), "%llu",
                 (unsigned long long)(least + (most - least) * i / n_budgets));
        follow_all(&options, letters);
        cr_expect_eq(letters[0], 'm', "%s", letters);
        n += strchr(letters, letter) != NULL;
    }
    return n;
}

Test(budget, every_remedy_that_a_refusal_names_does)
{
    ag_options_t options = {.command = AG_COMMAND_PLAN, .plan = {.compute = AG_COMPUTE_F32}};
    uint64_t all = bytes_of(&options, NULL), kv = bytes_of(&options, "kv cache");

    cr_expect_eq(count_remedy('c', all - kv, all, 16), 12, "of 4 blocks one must stay");
    cr_expect_geq(count_remedy('a', all - kv, all, 16), 8, "half of the cache is saved");
    cr_expect_eq(count_remedy('c', PROCESS_BYTES + WORK_BYTES, all - kv, 16), 0);
    cr_expect_gt(count_remedy('t', PROCESS_BYTES + WORK_BYTES, all, 16), 0);
}

Test(budget, where_the_process_alone_is_beyond_it_only_more_memory_would_do)
{
    ag_options_t options = {.command = AG_COMMAND_PLAN,
                            .plan = {.compute = AG_COMPUTE_F32, .max_memory = "4M"}};
    char letters[8];

    follow_all(&options, letters);
    cr_expect_str_eq(letters, "m");
}

Test(budget, a_machine_that_is_too_small_is_told_as_such)
{
    ag_options_t options = {.command = AG_COMMAND_GENERATE};

    cr_expect_eq(plan_by(&options, 5 << 20), AG_ERR_BUDGET);
    cr_expect_null(strstr(ag_error(), "--max-memory"), "%s", ag_error());
    cr_expect_not_null(strstr(ag_error(), "this machine has 5.0 MiB free"), "%s", ag_error());
    cr_expect_not_null(strstr(ag_error(), "more memory"), "%s", ag_error());
    options.plan.max_memory = "4M";
    cr_expect_eq(plan_by(&options, 5 << 20), AG_ERR_BUDGET);
    cr_expect_null(strstr(ag_error(), "--max-memory"), "%s", ag_error());
}

Test(budget, what_just_fits_is_taken)
{
    ag_options_t options = {.command = AG_COMMAND_GENERATE};
    uint64_t bytes = bytes_of(&options, NULL);

    cr_expect_eq(plan_by(&options, bytes), AG_OK, "%s", ag_error());
    cr_expect_eq(plan_by(&options, bytes - 1), AG_ERR_BUDGET);
}
