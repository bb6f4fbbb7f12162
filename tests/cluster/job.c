#include "job.h"

#include <string.h>

int32_t likeliest(const float *logits, uint32_t vocab, float *margin_p)
{
    uint32_t best = 0;
    float next = -1e30f;

    for (uint32_t i = 1; i < vocab; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    for (uint32_t i = 0; i < vocab; i++) {
        next = i != best && logits[i] > next ? logits[i] : next;
    }
    if (margin_p != NULL) {
        *margin_p = logits[best] - next;
    }
    return (int32_t)best;
}

/* A step of the work for some of its sequences, as arrays. */
typedef struct arrays {
    int32_t tokens[MOST_SEQUENCES * MOST_POSITIONS], positions[MOST_SEQUENCES * MOST_POSITIONS];
    int32_t outputs[MOST_SEQUENCES * MOST_POSITIONS], row_begin[MOST_SEQUENCES + 1];
    int32_t tables[MOST_SEQUENCES][MOST_POSITIONS / AG_KV_BLOCK_TOKENS];
    ag_step_t step;
} arrays_t;

/* Sequences [begin, end) of a step. */
static void fill_arrays(const work_t *work, const work_step_t *from, uint32_t begin, uint32_t end,
                        arrays_t *arrays)
{
    int32_t n = 0, n_outputs = 0;

    for (uint32_t s = begin; s < end; s++) {
        arrays->row_begin[s - begin] = n;
        for (uint32_t i = 0; i < from->n_rows[s]; i++, n++) {
            arrays->tokens[n] = work->tokens[s][from->position[s] + i];
            arrays->positions[n] = (int32_t)(from->position[s] + i);
            if (i + from->n_outputs[s] >= from->n_rows[s]) {
                arrays->outputs[n_outputs++] = n;
            }
        }
        for (uint32_t i = 0; i < MOST_POSITIONS / AG_KV_BLOCK_TOKENS; i++) {
            arrays->tables[s - begin][i] = (int32_t)(work->first_block[s] + i);
        }
    }
    arrays->row_begin[end - begin] = n;
    arrays->step = (ag_step_t){.counts = {[AG_COUNT_ONE] = 1,
                                          [AG_COUNT_TOKENS] = (uint64_t)n,
                                          [AG_COUNT_OUTPUTS] = (uint64_t)n_outputs,
                                          [AG_COUNT_SEQUENCES] = end - begin},
                               .tokens = arrays->tokens,
                               .positions = arrays->positions,
                               .row_begin = arrays->row_begin,
                               .outputs = arrays->outputs,
                               .block_tables = arrays->tables[0],
                               .table_stride = MOST_POSITIONS / AG_KV_BLOCK_TOKENS};
}

/* Keep a step's logits, and what follows from them. */
static void take_logits(run_t *run, const work_step_t *step, uint32_t begin, uint32_t end,
                        const float *logits)
{
    uint32_t vocab = run->c->model.vocab;

    for (uint32_t s = begin; s < end; s++) {
        uint32_t n = step->n_outputs[s], next = step->position[s] + step->n_rows[s];

        if (n == 0) {
            continue;
        }
        memcpy(run->logits + (size_t)step->first_output[s] * vocab, logits,
               (size_t)n * vocab * sizeof(float));
        logits += (size_t)n * vocab;
        if (run->chooses && next >= run->work->n_prompt[s] && next < run->work->n_tokens[s]) {
            run->work->tokens[s][next] = likeliest(logits - vocab, vocab, NULL);
        }
    }
}

/* Sequences [begin, end) of a step of the work, under way. */
typedef struct flight {
    const work_step_t *step;
    uint32_t begin, end;
} flight_t;

enum { MOST_FLIGHTS = 16 };

typedef struct driver {
    ag_job_t *job;
    const ag_programs_t *programs;
    run_t *run;
    dice_t dice;
    flight_t flights[MOST_FLIGHTS];
    uint32_t n_posted, n_taken;
} driver_t;

/* Does a collective of a step go by host, as the largest class has it, whose are no larger? */
static bool goes_by_host(const ag_programs_t *programs, const ag_op_t *op, const ag_step_t *step,
                         uint32_t n_used)
{
    const uint32_t *hosts = programs->hosts != NULL ? programs->hosts[op->subject] : NULL;
    ag_transfer_shape_t shape = {
        .n_ranks =
            AG_ITEMS(&programs->programs[0]->groups, ag_program_group_t)[op->subject].n_ranks,
        .hosts = hosts,
        .element_bytes = sizeof(float)};
    uint64_t rows = ag_half_rows(op->half, step->counts[AG_COUNT_TOKENS]),
             all[MOST_CASE_RANKS * MOST_CASE_RANKS] = {0};

    if (op->kind == AG_OP_ALL_REDUCE) {
        shape.collective = AG_ALL_REDUCE;
        shape.n = rows * op->unit_bytes / sizeof(float) / step->counts[AG_COUNT_SEQUENCES];
    } else {
        shape.collective = AG_ALL_TO_ALL;
        shape.all_counts = all;
        all[0] = rows * n_used * op->unit_bytes / sizeof(float);
    }
    return ag_transfer_choose(&shape) == AG_BY_HOST;
}

static void count_by_host(driver_t *driver, const ag_step_t *step)
{
    bool found[AG_N_COLLECTIVES] = {false};
    const ag_program_t *program = driver->programs->programs[driver->programs->n - 1];

    for (uint32_t r = 0; r < program->n_ranks; r++) {
        for (size_t i = 0; i < program->ranks[r].ops.n_items; i++) {
            const ag_op_t *op = &ag_rank_ops(&program->ranks[r])[i];
            bool is_sum = op->kind == AG_OP_ALL_REDUCE;

            if (is_sum || op->kind == AG_OP_ALL_TO_ALL) {
                found[is_sum ? AG_ALL_REDUCE : AG_ALL_TO_ALL] |=
                    goes_by_host(driver->programs, op, step, driver->run->c->model.n_experts_used);
            }
        }
    }
    for (int c = 0; c < AG_N_COLLECTIVES; c++) {
        driver->run->n_by_host[c] += found[c];
    }
}

static ag_status_t land(driver_t *driver)
{
    const flight_t *flight = &driver->flights[driver->n_taken++ % MOST_FLIGHTS];
    const float *logits = NULL;
    ag_status_t status = ag_job_wait(driver->job, &logits);

    if (status == AG_OK) {
        take_logits(driver->run, flight->step, flight->begin, flight->end, logits);
    }
    return status;
}

/* Behind those under way, as many as there may be; where tokens are chosen, by the logits of all
 * before. */
static ag_status_t post(driver_t *driver, const flight_t *flight)
{
    uint32_t most = driver->run->chooses ? 1 : ag_job_slots(driver->job);
    ag_status_t status = AG_OK;
    arrays_t arrays;

    if (dice_one_in(&driver->dice, 4)) {
        most = dice_between(&driver->dice, 1, most);
    }
    while (status == AG_OK && driver->n_posted - driver->n_taken >= most) {
        status = land(driver);
    }
    if (status != AG_OK) {
        return status;
    }
    fill_arrays(driver->run->work, flight->step, flight->begin, flight->end, &arrays);
    if (arrays.step.counts[AG_COUNT_TOKENS] == 0) {
        return AG_OK;
    }
    count_by_host(driver, &arrays.step);
    driver->run->n_ahead += driver->n_posted > driver->n_taken;
    driver->flights[driver->n_posted++ % MOST_FLIGHTS] = *flight;
    return ag_job_post(driver->job, &arrays.step);
}

static ag_status_t drive(const ag_rank_t *rank, run_t *run)
{
    ag_job_t *job = rank->job;
    driver_t driver = {
        .job = job, .programs = &rank->programs, .run = run, .dice = {.seed = run->c->number}};
    uint32_t n = run->work->n_sequences, n_fit = ag_plan_step_sequences(rank->plan);
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < run->work->n_steps && status == AG_OK; i++) {
        uint32_t most = dice_between(&driver.dice, 1, n_fit); /* sequences of one step */
        bool is_cancelled;

        status = ag_job_is_cancelled(job, &is_cancelled);
        for (uint32_t s = 0; s < n && status == AG_OK; s += most) {
            status = post(&driver, &(flight_t){.step = &run->work->steps[i],
                                               .begin = s,
                                               .end = s + most < n ? s + most : n});
        }
    }
    while (status == AG_OK && driver.n_taken < driver.n_posted) {
        status = land(&driver);
    }
    return status == AG_OK ? ag_job_stop(job) : status;
}

static ag_status_t answer(ag_job_t *job, prompts_t *prompts)
{
    ag_status_t status = prompts_answer(job, prompts);

    return status == AG_OK ? ag_job_stop(job) : status;
}

ag_status_t run_rank(ag_turn_t *turn)
{
    run_t *run = turn->arg;
    ag_rank_opts_t opts = {.model = run->c->path,
                           .plan = run->plan_json == NULL ? &run->c->one : NULL,
                           .plan_json = run->plan_json,
                           .hosts = run->c->hosts,
                           .last_outputs_only = run->c->last_outputs_only,
                           .lazy = run->lazy,
                           .has_budget = run->c->has_budget};
    ag_rank_t rank = {0};
    ag_status_t status = ag_rank_open(turn, &opts, &rank);

    status = ag_agree(turn->net, &turn->idle, status, NULL);
    if (status == AG_OK) {
        status = turn->net->rank != 0   ? ag_job_follow(rank.job)
                 : run->prompts != NULL ? answer(rank.job, run->prompts)
                                        : drive(&rank, run);
        run->router_gap = turn->net->rank == 0 ? ag_job_router_gap(rank.job) : run->router_gap;
    }
    run->left_bytes += ag_rank_close(&rank);
    return status;
}
