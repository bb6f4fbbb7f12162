/* What a step of training by a plan comes to, before anything is allocated: operations of each
 * rank, how long the schedule leaves it idle, bytes on each link. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "launch/links.h"
#include "launch/train.h"

ag_training_t ag_train_full_step(ag_session_t *session)
{
    const ag_plan_t *plan = session->plan;
    uint64_t n = ag_plan_micro_batches(plan);
    ag_training_t training = {.session = session,
                              .n_micro_batches = n,
                              .n_tokens = n * plan->batch_tokens,
                              .n_learned = n * plan->batch_tokens};

    for (uint64_t i = 0; i < n * plan->train.micro_batch_size; i++) {
        ag_spec_attend(session->model->spec, 0, plan->train.sequence_tokens, &training.attended);
    }
    return training;
}

/* @param times  (ranks) of the training's plan. */
static ag_json_t *tell_ranks(const ag_training_t *training, const ag_rank_time_t *times,
                             double *flops_p, double *idle_p)
{
    uint32_t n_ranks = ag_plan_ranks(training->session->plan);
    ag_json_t *ranks = ag_json_new_array();
    double end_s = 0;

    for (uint32_t r = 0; r < n_ranks; r++) {
        end_s = fmax(end_s, times[r].end_s);
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        ag_json_t *rank = ag_json_new_object();
        double flops = ag_train_program_flops(training, r);
        double idle = end_s > 0 ? 1 - times[r].busy_s / end_s : 0;

        ag_json_set(rank, "rank", ag_json_new_integer(r));
        ag_json_set(rank, "flops", ag_json_new_real(flops));
        ag_json_set(rank, "idle", ag_json_new_real(idle));
        ag_json_append(ranks, rank);
        fprintf(stderr, "rank %-3u %.3f GFLOP a step, idle for %.1f%% of it by the schedule\n", r,
                flops * 1e-9, 100 * idle);
        *flops_p += flops;
        *idle_p += idle / n_ranks;
    }
    return ranks;
}

static ag_json_t *tell_links(const ag_session_t *session, const ag_array_t *links)
{
    const uint64_t *bounds = session->programs.programs[0]->bounds;
    ag_json_t *json = ag_json_new_array();

    for (size_t i = 0; i < links->n_items; i++) {
        const ag_link_t *link = &AG_ITEMS(links, ag_link_t)[i];
        ag_json_t *one = ag_json_new_object();
        double bytes = 0;

        for (int c = 0; c < AG_N_SIZE_COUNTERS; c++) {
            bytes += link->unit_bytes[c] * (double)bounds[c];
        }
        ag_json_set(one, "from", ag_json_new_integer(link->from));
        ag_json_set(one, "to", ag_json_new_integer(link->to));
        ag_json_set(one, "bytes", ag_json_new_real(bytes));
        ag_json_append(json, one);
        fprintf(stderr, "rank %u to rank %u: at most %.3f MiB a step in %.0f messages\n",
                link->from, link->to, bytes / 1048576.0, link->n_messages);
    }
    return json;
}

ag_status_t ag_train_foretell(ag_session_t *session, ag_json_t *predicted)
{
    ag_training_t training = ag_train_full_step(session);
    ag_rank_time_t *times = calloc((size_t)ag_plan_ranks(session->plan) + 1, sizeof(*times));
    ag_array_t links = AG_ARRAY(ag_link_t);
    ag_json_t *step = ag_json_new_object();
    double flops = 0, idle = 0;
    ag_status_t status =
        times == NULL ? ag_fail_nomem("planning", 0) : ag_train_time(&training, times);

    if (status == AG_OK) {
        status = ag_links_of(session->build, session->programs.programs[0], &links);
    }
    if (status == AG_OK) {
        ag_json_set(step, "ranks", tell_ranks(&training, times, &flops, &idle));
        ag_json_set(step, "links", tell_links(session, &links));
        ag_json_set(step, "flops", ag_json_new_real(flops));
        ag_json_set(step, "bubble", ag_json_new_real(idle));
        fprintf(stderr, "a step: %.3f GFLOP; the schedule's bubble is %.1f%%\n", flops * 1e-9,
                100 * idle);
    }
    ag_json_set(predicted, "step", step);
    ag_array_fini(&links);
    free(times);
    return status;
}
