#define _GNU_SOURCE /* gettid, SCHED_IDLE */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "parallel/run/checkpoint_priv.h"

enum { LEAST_PRIORITY = 19 };

/* The record of failures is the thread's own: it is kept for who asks. */
static void end(ag_chore_t *chore, ag_status_t status)
{
    chore->status = status;
    snprintf(chore->error, sizeof(chore->error), "%s", status == AG_OK ? "" : ag_error());
    atomic_store(&chore->is_done, true);
}

static void *run(void *arg)
{
    ag_chore_t *chore = arg;
    ag_status_t status = AG_PENDING;

    /* of this thread: where it shares a core with one that trains, all others wait for that one. An
     * idle thread makes way at once for any other; not everywhere may a thread become one. */
    if (sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0}) != 0) {
        (void)setpriority(PRIO_PROCESS, (id_t)gettid(), LEAST_PRIORITY);
    }
    while (status == AG_PENDING && !atomic_load(&chore->is_cancelled)) {
        status = chore->step(chore->arg);
    }
    end(chore, status);
    return NULL;
}

ag_status_t ag_chore_start(ag_chore_t *chore)
{
    int error = 0;

    atomic_store(&chore->is_cancelled, false);
    atomic_store(&chore->is_done, false);
    if (!chore->is_stepped) {
        error = pthread_create(&chore->thread, NULL, run, chore);
    }
    if (error != 0) {
        return ag_fail(AG_ERR_NOMEM, "starting a thread for a checkpoint: %s", strerror(error));
    }
    chore->is_under_way = true;
    return AG_OK;
}

ag_status_t ag_chore_test(ag_chore_t *chore)
{
    if (chore->is_stepped) {
        ag_status_t status = chore->step(chore->arg);

        if (status == AG_PENDING) {
            return status;
        }
        end(chore, status);
    } else if (!atomic_load(&chore->is_done)) {
        return AG_PENDING;
    } else {
        pthread_join(chore->thread, NULL);
    }
    chore->is_under_way = false;
    return chore->status == AG_OK ? AG_OK : ag_fail(chore->status, "%s", chore->error);
}

void ag_chore_cancel(ag_chore_t *chore)
{
    if (!chore->is_under_way) {
        return;
    }
    atomic_store(&chore->is_cancelled, true);
    if (!chore->is_stepped) {
        pthread_join(chore->thread, NULL);
    }
    chore->is_under_way = false;
}
