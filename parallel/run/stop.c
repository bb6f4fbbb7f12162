/*
 * Any rank may be asked to stop, for a signal reaches one process; rank 0 ends the run. Each other
 * rank sends it one word on a channel of its own: as soon as it is asked, else when it is told that
 * the run is over. So none is left unsent.
 */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

static bool is_asked(const ag_job_t *job)
{
    return ag_cancel_is_asked(&job->opts.cancel);
}

ag_status_t ag_stop_init(ag_job_t *job)
{
    size_t n = (size_t)job->opts.net->n_ranks;

    job->stops = calloc(n, sizeof(*job->stops));
    return job->stops != NULL ? AG_OK : ag_fail_nomem("making a job", n * sizeof(*job->stops));
}

/* Rank 0: receive from all, once. */
static ag_status_t listen(ag_job_t *job)
{
    for (int r = 1 + job->n_listening; r < job->opts.net->n_ranks; r++) {
        ag_stop_word_t *word = &job->stops[r];
        ag_status_t status = ag_net_post_recv(job->opts.net, r, AG_CHANNEL_STOP, &word->said,
                                              sizeof(word->said), &word->request);

        if (status != AG_OK) {
            return status;
        }
        word->pending = true;
        job->n_listening = r;
    }
    return AG_OK;
}

ag_status_t ag_job_is_cancelled(ag_job_t *job, bool *cancelled_p)
{
    ag_status_t status = listen(job);

    *cancelled_p = is_asked(job);
    for (int r = 1; r < job->opts.net->n_ranks && status == AG_OK; r++) {
        if (job->stops[r].pending) {
            status = ag_net_test(job->opts.net, &job->stops[r].request);
            job->stops[r].pending = status == AG_PENDING;
            status = status == AG_PENDING ? AG_OK : status;
        }
        *cancelled_p |= !job->stops[r].pending && job->stops[r].said.asked != 0;
    }
    job->broken |= status != AG_OK;
    return status;
}

ag_status_t ag_stop_hear_all(ag_job_t *job)
{
    ag_status_t status = listen(job);

    for (int r = 1; r < job->opts.net->n_ranks && status == AG_OK; r++) {
        if (job->stops[r].pending) {
            status = ag_net_wait(job->opts.net, &job->opts.idle, &job->stops[r].request);
            job->stops[r].pending = false;
        }
    }
    job->stopped = status == AG_OK;
    return status;
}

double ag_job_balance(const ag_job_t *job, uint32_t *rank_p)
{
    uint64_t most = ag_job_compute_ns(job), sum = most;

    *rank_p = 0;
    for (int r = 1; job->stopped && r < job->opts.net->n_ranks; r++) {
        uint64_t ns = job->stops[r].said.compute_ns;

        sum += ns;
        if (ns > most) {
            most = ns;
            *rank_p = (uint32_t)r;
        }
    }
    return job->stopped && most > 0 ? (double)sum / (double)most / job->opts.net->n_ranks : 1;
}

ag_status_t ag_stop_say(ag_job_t *job, bool is_over)
{
    ag_stop_word_t *word = &job->stops[0];
    ag_status_t status = AG_OK;

    if (!word->pending && (is_over || is_asked(job))) {
        word->pending = true; /* said, once */
        word->said.asked = is_asked(job);
        word->said.compute_ns = ag_job_compute_ns(job);
        status = ag_net_post_send(job->opts.net, 0, AG_CHANNEL_STOP, &word->said,
                                  sizeof(word->said), &word->request);
    }
    return status == AG_OK && is_over ? ag_net_wait(job->opts.net, &job->opts.idle, &word->request)
                                      : status;
}
