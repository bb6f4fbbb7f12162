#include "check.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "collectives.h"
#include "job.h"

/*
 * How far the logits of a row may be from one rank's, as a part of the largest of them (and of 1):
 * exact arithmetic adds in another order, which the golden data's tolerance in fp32 allows for.
 * Fast arithmetic rounds what has been summed to 8 bits again, so that a sum that is off in its
 * last bit may be off by a step there.
 */
static const double bounds[] = {[AG_COMPUTE_F32] = 2e-5, [AG_COMPUTE_AUTO] = 5e-2};
/* What is nearer than these may go either way. */
static const double margins[] = {[AG_COMPUTE_F32] = 2e-4, [AG_COMPUTE_AUTO] = 1e-1};
static const float router_gaps[] = {[AG_COMPUTE_F32] = 1e-5f, [AG_COMPUTE_AUTO] = 1e-2f};

typedef struct check {
    cluster_case_t c;
    work_t work;              /* with the tokens that one rank chose */
    float *one, *all, *again; /* (outputs, vocabulary) */
    float router_gap;         /* one rank's least */
    ag_device_lazy_opts_t lazy;
    ag_turns_end_t ends[MOST_CASE_RANKS];
    tally_t *tally;
    figures_t *figures;
    char *complaint;
} check_t;

static bool complain(check_t *check, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool complain(check_t *check, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(check->complaint, COMPLAINT_BYTES, format, args);
    va_end(args);
    return false;
}

static bool make_logits(check_t *check)
{
    size_t n = (size_t)check->work.n_outputs * check->c.model.vocab + 1;

    check->one = calloc(n, sizeof(float));
    check->all = calloc(n, sizeof(float));
    check->again = calloc(n, sizeof(float));
    return check->one != NULL && check->all != NULL && check->again != NULL;
}

static void play(check_t *check, run_t *run, const ag_turns_opts_t *opts)
{
    ag_turns_play(opts, run_rank, run, check->ends);
}

static bool all_ended_well(check_t *check, const char *what, uint32_t n_ranks, const run_t *run)
{
    uint32_t culprit = n_ranks; /* who failed by itself, before others that waited for it */

    for (uint32_t r = n_ranks; r > 0; r--) {
        ag_status_t status = check->ends[r - 1].status;

        if (status != AG_OK && (culprit == n_ranks || status != AG_ERR_PEER ||
                                check->ends[culprit].status == AG_ERR_PEER)) {
            culprit = r - 1;
        }
    }
    if (culprit < n_ranks) {
        return complain(check, "%s: rank %u: %s: %s", what, culprit,
                        ag_status_name(check->ends[culprit].status), check->ends[culprit].error);
    }
    return run->left_bytes == 0 || complain(check, "%s: memory is not given back", what);
}

/* The devices of the case's plan; NULL: the CPU. */
static const ag_device_lazy_opts_t *devices_of(const check_t *check)
{
    return check->c.is_lazy ? &check->lazy : NULL;
}

/* @param lazy  devices that defer their work; NULL: the CPU. */
static bool run_all(check_t *check, const char *what, const char *plan, uint32_t n_ranks,
                    uint64_t seed, const ag_device_lazy_opts_t *lazy, float *logits)
{
    run_t run = {.c = &check->c,
                 .work = &check->work,
                 .plan_json = plan,
                 .lazy = lazy,
                 .logits = logits,
                 .chooses = logits == check->one};

    play(check, &run, &(ag_turns_opts_t){.n_ranks = n_ranks, .seed = seed});
    tally_add(check->tally, "steps in flight", run.n_ahead > 0);
    tally_add(check->tally, "step with a sum by host", run.n_by_host[AG_ALL_REDUCE]);
    tally_add(check->tally, "step with rows of experts by host", run.n_by_host[AG_ALL_TO_ALL]);
    check->router_gap = run.chooses ? run.router_gap : check->router_gap;
    return all_ended_well(check, what, n_ranks, &run);
}

/* By how much two rows differ most. @param size_p  out: the largest of the first, and 1. */
static double difference(const float *one, const float *other, uint32_t vocab, double *size_p)
{
    double worst = 0, size = 1;

    for (uint32_t i = 0; i < vocab; i++) {
        double d = fabs((double)one[i] - (double)other[i]);

        worst = d > worst || isnan(d) ? d : worst;
        size = fmax(size, fabs((double)one[i]));
    }
    *size_p = size;
    return worst;
}

static bool compare_row(check_t *check, uint32_t row)
{
    uint32_t vocab = check->c.model.vocab;
    ag_compute_t compute = check->c.compute;
    const float *one = check->one + (size_t)row * vocab, *all = check->all + (size_t)row * vocab;
    double size, worst = difference(one, all, vocab, &size);
    float margin;
    int32_t mine = likeliest(one, vocab, &margin), theirs = likeliest(all, vocab, NULL);
    bool is_far = !(worst <= bounds[compute] * size);
    bool is_other = mine != theirs && (double)margin > margins[compute];

    check->figures->n_rows++;
    if ((is_far || is_other) && check->router_gap < router_gaps[compute]) {
        check->figures->n_excused++;
        tally_add(check->tally, "row excused for a router's tie", 1);
        return true;
    }
    if (is_far) {
        return complain(check, "logits of output %u differ by %g of %g from one rank's", row, worst,
                        size);
    }
    if (is_other) {
        return complain(check, "output %u: token %d, but %d on one rank, by a margin of %g", row,
                        theirs, mine, (double)margin);
    }
    if (worst / size / bounds[compute] > check->figures->worst[compute]) {
        check->figures->worst[compute] = worst / size / bounds[compute];
        check->figures->worst_case[compute] = check->c.number;
    }
    check->figures->n_excused += mine != theirs;
    return true;
}

static bool compare(check_t *check)
{
    bool well = true;

    for (uint32_t row = 0; row < check->work.n_outputs && well; row++) {
        well = compare_row(check, row);
    }
    return well;
}

/* In another order, and on the CPU if it was not there. */
static bool repeat(check_t *check)
{
    size_t bytes = (size_t)check->work.n_outputs * check->c.model.vocab * sizeof(float);

    if (!run_all(check, "in another order", check->c.plan_json, check->c.n_ranks,
                 check->c.order + 1, NULL, check->again)) {
        return false;
    }
    tally_add(check->tally, "order changed, same bits", 1);
    tally_add(check->tally, "lazy devices, the CPU's bits", check->c.is_lazy);
    return memcmp(check->all, check->again, bytes) == 0 ||
           complain(check, "another order of turns and messages%s gives other bits",
                    check->c.is_lazy ? ", on the CPU," : "");
}

/* Whoever waited after the death was told of it, and says so; who is done may be done. */
static bool told_alike(check_t *check, const ag_turns_opts_t *opts)
{
    uint32_t n_told = 0;
    char text[64];

    snprintf(text, sizeof(text), "rank %u has died", opts->dead_rank);
    for (uint32_t r = 0; r < opts->n_ranks; r++) {
        const ag_turns_end_t *end = &check->ends[r];
        ag_status_t wanted = end->is_told ? AG_ERR_PEER : AG_OK;

        if (r == opts->dead_rank) {
            continue;
        }
        if (end->status != wanted || (end->is_told && strstr(end->error, text) == NULL)) {
            return complain(check, "rank %u died at its call %llu: rank %u, %s, ends with %s: %s",
                            opts->dead_rank, (unsigned long long)opts->death_call, r,
                            end->is_told ? "told" : "not told", ag_status_name(end->status),
                            end->error);
        }
        n_told += end->is_told;
    }
    tally_add(check->tally, "death", 1);
    tally_add(check->tally, "death told", n_told > 0);
    tally_add(check->tally, "rank told of a death", n_told);
    return true;
}

/* The same run as before, until a rank dies in it. */
static bool let_die(check_t *check)
{
    dice_t dice = {.seed = ~check->c.number};
    uint32_t dead_rank = dice_below(&dice, check->c.n_ranks);
    ag_turns_opts_t opts = {.n_ranks = check->c.n_ranks,
                            .seed = check->c.order,
                            .has_death = true,
                            .dead_rank = dead_rank};
    run_t run = {.c = &check->c,
                 .work = &check->work,
                 .plan_json = check->c.plan_json,
                 .lazy = devices_of(check),
                 .logits = check->again};

    opts.death_call = dice_below(&dice, (uint32_t)check->ends[dead_rank].n_calls * 9 / 10 + 1);
    play(check, &run, &opts);
    if (run.left_bytes != 0) {
        return complain(check, "after a death memory is not given back");
    }
    return told_alike(check, &opts);
}

/* A collective on as many ranks, whatever the model. */
typedef struct trial {
    ag_drawn_t drawn;
    const char *complaint;
} trial_t;

static ag_status_t do_collective(ag_turn_t *turn)
{
    trial_t *trial = turn->arg;
    uint32_t ranks[AG_DRAWN_RANKS], me = (uint32_t)turn->net->rank;
    unsigned char *result = NULL;
    ag_group_t *group = NULL;
    ag_status_t status;

    for (uint32_t r = 0; r < AG_DRAWN_RANKS; r++) {
        ranks[r] = r;
    }
    status = ag_group_create(
        &(ag_group_opts_t){.net = turn->net,
                           .ranks = ranks,
                           .hosts = trial->drawn.has_hosts ? trial->drawn.hosts : NULL,
                           .n_ranks = trial->drawn.shape.n_ranks,
                           .channel = AG_CHANNEL_FIRST},
        &group);
    if (status == AG_OK) {
        status = ag_drawn_run(&trial->drawn, me, group, &turn->idle, &result);
    }
    if (status == AG_OK && trial->complaint == NULL) {
        trial->complaint = ag_drawn_check(&trial->drawn, me, result);
    }
    free(result);
    ag_group_destroy(group);
    return status;
}

static bool try_collective(check_t *check)
{
    dice_t dice = {.seed = check->c.number + 77777777};
    ag_collective_t collective;
    ag_algorithm_t algorithm;
    trial_t trial = {0};
    ag_status_t statuses[AG_DRAWN_RANKS];

    do {
        collective = (ag_collective_t)dice_below(&dice, AG_N_COLLECTIVES);
        algorithm = (ag_algorithm_t)dice_below(&dice, AG_N_ALGORITHMS);
    } while (!ag_transfer_is_offered(collective, algorithm));
    trial.drawn = ag_drawn_make(check->c.number, collective, algorithm, check->c.n_ranks,
                                dice_between(&dice, 1, 60));
    ag_turns_run(check->c.n_ranks, check->c.order + 2, do_collective, &trial, statuses);
    tally_transfer(check->tally, collective, algorithm);
    for (uint32_t r = 0; r < check->c.n_ranks && trial.complaint == NULL; r++) {
        trial.complaint = statuses[r] != AG_OK ? "a rank failed" : NULL;
    }
    return trial.complaint == NULL ||
           complain(check, "collective %d by %d on %u ranks: %s", collective, algorithm,
                    check->c.n_ranks, trial.complaint);
}

/* What a prompt gets does not depend on those beside it. */
static bool answer_prompts(check_t *check)
{
    const cluster_case_t *c = &check->c;
    prompts_t prompts;
    run_t run = {.c = c,
                 .work = &check->work,
                 .prompts = &prompts,
                 .plan_json = c->plan_json,
                 .lazy = devices_of(check)};
    int other;

    prompts_draw(c, &prompts);
    play(check, &run, &(ag_turns_opts_t){.n_ranks = c->n_ranks, .seed = c->order});
    if (!all_ended_well(check, "answering prompts", c->n_ranks, &run)) {
        return false;
    }
    tally_add(check->tally, "prompts answered at once", 1);
    tally_add(check->tally, "prompt that waits for another's end",
              prompts.n > c->work.n_sequences ? prompts.n - c->work.n_sequences : 0);
    tally_add(check->tally, "prompts that decode in one step", prompts.n_rows > prompts.n_steps);
    tally_add(check->tally, "prompts answered by draws", prompts.sampling.temperature > 0);
    other = prompts_compare(&prompts);
    return other < 0 ||
           complain(check, "prompt %d of %u gets %u tokens in company, others than the %u alone",
                    other, prompts.n, prompts.together[other].n_tokens,
                    prompts.alone[other].n_tokens);
}

static bool check_job(check_t *check)
{
    const cluster_case_t *c = &check->c;

    return run_all(check, "on one rank", NULL, 1, c->order, NULL, check->one) &&
           run_all(check, "on all ranks", c->plan_json, c->n_ranks, c->order, devices_of(check),
                   check->all) &&
           compare(check) && (!c->has_death || c->n_ranks == 1 || let_die(check)) &&
           (!c->is_repeated || repeat(check)) && (!c->has_prompts || answer_prompts(check));
}

bool check_case(uint64_t number, const char *folder, tally_t *tally, figures_t *figures,
                FILE *verbose, char complaint[COMPLAINT_BYTES])
{
    check_t check = {.tally = tally, .figures = figures, .complaint = complaint};
    ag_status_t status = case_make(number, folder, &check.c);
    bool well;

    check.work = check.c.work;
    check.lazy.seed = check.c.order;
    if (verbose != NULL) {
        case_print(&check.c, verbose);
    }
    if (status != AG_OK || !make_logits(&check)) {
        well = complain(&check, "making the case: %s", ag_error());
    } else {
        well = check_job(&check) && try_collective(&check);
    }
    if (well) {
        status = tally_case(tally, &check.c);
        well = status == AG_OK || complain(&check, "counting what was met: %s", ag_error());
    }
    figures->n_cases++;
    free(check.one);
    free(check.all);
    free(check.again);
    case_fini(&check.c);
    return well;
}

bool check_figures(const figures_t *figures, FILE *file)
{
    double share = figures->n_rows > 0 ? (double)figures->n_excused / (double)figures->n_rows : 0;

    fprintf(file,
            "%llu cases, %llu rows of logits; %llu excused (%.3f%%, at most 1%%); furthest from "
            "one rank, as a part of the bound: exact %.2g (case %llu), fast %.2g (case %llu)\n",
            (unsigned long long)figures->n_cases, (unsigned long long)figures->n_rows,
            (unsigned long long)figures->n_excused, 100 * share, figures->worst[AG_COMPUTE_F32],
            (unsigned long long)figures->worst_case[AG_COMPUTE_F32],
            figures->worst[AG_COMPUTE_AUTO],
            (unsigned long long)figures->worst_case[AG_COMPUTE_AUTO]);
    return share <= 0.01;
}
