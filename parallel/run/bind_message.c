/* SEND, RECV: the step's rows of a buffer, to or from one rank. Nothing is sent where there are
 * none. */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

typedef struct message_task {
    ag_job_t *job;
    const ag_op_t *op;
    uint64_t offset; /* of the buffer in its slot */
    ag_net_request_t request;
} message_task_t;

static ag_status_t start(void *arg, const ag_run_t *run)
{
    message_task_t *task = arg;
    const ag_step_t *step = run->step;
    ag_net_t *net = task->job->opts.net;
    uint32_t channel = AG_CHANNEL_FIRST + task->op->channel;
    uint64_t bytes = task->op->unit_bytes * step->counts[task->op->counter];
    unsigned char *data = ag_job_slot(task->job, run->slot) + task->offset;
    ag_status_t status;

    if (bytes == 0) {
        return AG_OK;
    }
    status = task->op->kind == AG_OP_SEND
                 ? ag_net_post_send(net, task->op->peer, channel, data, bytes, &task->request)
                 : ag_net_post_recv(net, task->op->peer, channel, data, bytes, &task->request);
    return status == AG_OK ? ag_net_test(net, &task->request) : status;
}

static ag_status_t test(void *arg, const ag_run_t *run)
{
    message_task_t *task = arg;

    (void)run;
    return ag_net_test(task->job->opts.net, &task->request);
}

ag_status_t ag_bind_message(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                            uint32_t op)
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    const ag_op_t *o = &ag_rank_ops(rank)[op];
    message_task_t *task = calloc(1, sizeof(*task));

    if (task == NULL) {
        return ag_fail_nomem("binding a program", sizeof(*task));
    }
    *task = (message_task_t){
        .job = job, .op = o, .offset = bound->offsets[ag_op_uses(rank, o)[0].buffer]};
    bound->args[op] = task;
    bound->tasks[op] = (ag_task_t){.name = ag_op_infos[o->kind].name,
                                   .detail = (uint32_t)o->peer,
                                   .kind = o->kind,
                                   .start = start,
                                   .test = test,
                                   .arg = task};
    return AG_OK;
}
