/* The classes of a job's programs: one for steps of one row per sequence, one for steps in which a
 * sequence has several: chunks of prefill; where large chunks run in two halves, one for smaller
 * ones, which would only read weights twice. */
#include <stdlib.h>

#include "parallel/run/job_priv.h"
#include "parallel/run/memory_priv.h"

/* Training: each token may be a document by itself, and have a target. */
static ag_status_t create_train(ag_build_t *build, bool evaluates, bool check,
                                ag_programs_t *programs_p)
{
    uint64_t n = build->plan->batch_tokens;
    uint64_t bounds[AG_N_SIZE_COUNTERS] = {
        [AG_SIZE_ONE] = 1, [AG_SIZE_TOKENS] = n, [AG_SIZE_OUTPUTS] = n, [AG_SIZE_SEQUENCES] = n};
    ag_programs_t programs = {0};
    ag_status_t status = ag_build_program(build, bounds, check, &programs.programs[0]);

    programs.n += status == AG_OK;
    if (status == AG_OK && evaluates) {
        status = ag_build_evaluation(build, programs.programs[0], check, &programs.programs[1]);
        programs.n += status == AG_OK;
    }
    if (status != AG_OK) {
        ag_programs_destroy(&programs);
        return status;
    }
    *programs_p = programs;
    return AG_OK;
}

ag_status_t ag_programs_create(ag_build_t *build, bool evaluates, bool check,
                               ag_programs_t *programs_p)
{
    const ag_plan_t *plan = build->plan;
    /* more rows than sequences tell the classes apart, where a graph looks at its bounds */
    uint64_t n = ag_plan_step_sequences(plan);
    uint64_t most = plan->batch_tokens > n ? plan->batch_tokens : n + 1;
    uint64_t undivided =
        plan->overlap_tokens > 0 && plan->overlap_tokens <= most ? plan->overlap_tokens - 1 : 0;
    uint64_t rows[AG_MAX_CLASSES] = {n, undivided, most};
    ag_programs_t programs = {0};

    if (plan->train.sequence_tokens > 0) {
        return create_train(build, evaluates, check, programs_p);
    }
    if (ag_memory_kv_blocks(plan) > INT32_MAX) { /* as block tables count them */
        return ag_fail(AG_ERR_INVALID,
                       "the KV cache of %u sequences of %u tokens has more blocks than can be "
                       "counted: plan for fewer sequences or a smaller context",
                       plan->n_sequences, plan->context_tokens);
    }
    for (int i = 0; i < AG_MAX_CLASSES; i++) {
        uint64_t bounds[AG_N_SIZE_COUNTERS] = {
            [AG_SIZE_ONE] = 1,
            [AG_SIZE_TOKENS] = rows[i],
            [AG_SIZE_OUTPUTS] = evaluates ? rows[i] : n,
            [AG_SIZE_SEQUENCES] = n,
        };
        ag_status_t status;

        if (i > 0 && plan->batch_tokens == 1) {
            break; /* no sequence has several rows */
        }
        if (i > 0 && rows[i] <= n) {
            continue; /* no step of several rows is undivided */
        }
        status = ag_build_program(build, bounds, check, &programs.programs[programs.n]);
        if (status != AG_OK) {
            ag_programs_destroy(&programs);
            return status;
        }
        programs.n++;
    }
    *programs_p = programs;
    return AG_OK;
}

/* Every class of program has the same groups, in the same order. */
static const ag_array_t *groups_of(const ag_programs_t *programs)
{
    return &programs->programs[0]->groups;
}

void ag_programs_destroy(ag_programs_t *programs)
{
    for (size_t g = 0; programs->hosts != NULL && g < groups_of(programs)->n_items; g++) {
        free(programs->hosts[g]);
    }
    free(programs->hosts);
    for (uint32_t i = 0; i < programs->n; i++) {
        ag_program_destroy(programs->programs[i]);
    }
    *programs = (ag_programs_t){0};
}

/* The hosts of a group, in the order in which its ranks come to them. @return how many. */
static uint32_t number_hosts(const ag_program_group_t *group, const uint32_t *hosts, uint32_t n,
                             uint32_t *numbers)
{
    uint32_t n_hosts = 0;

    for (uint32_t i = 0; i < group->n_ranks; i++) {
        uint32_t before = 0, host = hosts[group->ranks[i] < n ? group->ranks[i] : n - 1];

        while (before < i &&
               hosts[group->ranks[before] < n ? group->ranks[before] : n - 1] != host) {
            before++;
        }
        numbers[i] = before < i ? numbers[before] : n_hosts++;
    }
    return n_hosts;
}

ag_status_t ag_programs_set_hosts(ag_programs_t *programs, const uint32_t *hosts, uint32_t n)
{
    const ag_array_t *groups = groups_of(programs);

    programs->hosts = calloc(groups->n_items + 1, sizeof(*programs->hosts));
    if (programs->hosts == NULL) {
        return ag_fail_nomem("giving out hosts", groups->n_items * sizeof(*programs->hosts));
    }
    for (size_t g = 0; g < groups->n_items; g++) {
        const ag_program_group_t *group = &AG_ITEMS(groups, ag_program_group_t)[g];
        uint32_t *numbers = calloc((size_t)group->n_ranks + 1, sizeof(*numbers));

        if (numbers == NULL) {
            return ag_fail_nomem("giving out hosts", group->n_ranks * sizeof(*numbers));
        }
        if (number_hosts(group, hosts, n, numbers) > 1) {
            programs->hosts[g] = numbers;
        } else {
            free(numbers);
        }
    }
    return AG_OK;
}

const uint32_t *ag_programs_hosts(const ag_programs_t *programs, uint32_t group)
{
    return programs->hosts != NULL ? programs->hosts[group] : NULL;
}

bool ag_programs_may_go_by_host(const ag_programs_t *programs, uint32_t group)
{
    const uint32_t *hosts = ag_programs_hosts(programs, group);
    uint32_t n_ranks = AG_ITEMS(groups_of(programs), ag_program_group_t)[group].n_ranks, last = 0;

    for (uint32_t i = 0; hosts != NULL && i < n_ranks; i++) {
        last = hosts[i] > last ? hosts[i] : last;
    }
    return last > 0 && last + 1 < n_ranks;
}

static bool fits(const ag_step_t *step, const uint64_t *bounds)
{
    for (int i = 0; i < AG_N_COUNTERS; i++) {
        if (step->counts[i] > bounds[i]) {
            return false;
        }
    }
    return true;
}

static bool has_rows_alone(const ag_step_t *step)
{
    for (uint64_t s = 0; s < step->counts[AG_COUNT_SEQUENCES]; s++) {
        if (step->row_begin[s + 1] - step->row_begin[s] > 1) {
            return false;
        }
    }
    return true;
}

ag_status_t ag_job_fits(const ag_job_t *job, const ag_step_t *step, uint32_t class)
{
    if (!fits(step, job->opts.programs->programs[class]->bounds)) {
        return ag_fail(AG_ERR_INVALID,
                       "a step of %llu tokens, %llu outputs and %llu sequences is larger than any "
                       "class of programs",
                       (unsigned long long)step->counts[AG_COUNT_TOKENS],
                       (unsigned long long)step->counts[AG_COUNT_OUTPUTS],
                       (unsigned long long)step->counts[AG_COUNT_SEQUENCES]);
    }
    return AG_OK;
}

/* What a sequence's rows run with must not depend on what else is in the step: then they have the
 * same bits alone. */
ag_status_t ag_job_choose(const ag_job_t *job, const ag_step_t *step, uint32_t *class_p)
{
    uint32_t n_blocks = ag_kv_blocks(job->opts.build->plan->context_tokens);
    const ag_programs_t *programs = job->opts.programs;
    uint32_t chosen = has_rows_alone(step) || programs->n == 1 ? 0 : 1;
    ag_status_t status;

    while (chosen > 0 && chosen + 1 < programs->n &&
           !fits(step, programs->programs[chosen]->bounds)) {
        chosen++;
    }
    status = ag_job_fits(job, step, chosen);
    if (status != AG_OK) {
        return status;
    }
    n_blocks = n_blocks < step->table_stride ? n_blocks : step->table_stride;
    if (ag_wire_blocks(step) > n_blocks) {
        return ag_fail(AG_ERR_INVALID, "a step goes on to block %u of the cache, its tables to %u",
                       ag_wire_blocks(step), n_blocks);
    }
    *class_p = chosen;
    return AG_OK;
}
