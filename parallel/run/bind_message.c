/* SEND, RECV: the step's rows of a buffer, to or from one rank. Nothing is sent where there are
 * none. */
#include <stdlib.h>

#include "parallel/run/job_priv.h"

typedef struct message_task {
    ag_staged_t staged;
    const ag_op_t *op;
    uint64_t offset; /* of the buffer in its slot */
    unsigned char *device, *host;
    uint64_t bytes;
    ag_net_request_t request;
} message_task_t;

static ag_status_t take_out(void *arg, const ag_run_t *run)
{
    message_task_t *task = arg;
    const ag_step_t *step = ag_run_step(run, task->op);

    task->bytes = task->op->unit_bytes * step->counts[task->op->counter];
    task->device = ag_job_slot(task->staged.job, run->slot) + task->offset;
    task->host = ag_staged_place(&task->staged, task->device, task->bytes);
    return task->op->kind == AG_OP_SEND
               ? ag_staged_out(&task->staged, task->host, task->device, task->bytes)
               : AG_OK;
}

static ag_status_t test(void *arg)
{
    message_task_t *task = arg;

    return ag_net_test(task->staged.job->opts.net, &task->request);
}

static ag_status_t post(void *arg, const ag_run_t *run)
{
    message_task_t *task = arg;
    ag_net_t *net = task->staged.job->opts.net;
    uint32_t channel = AG_CHANNEL_FIRST + task->op->channel;
    ag_status_t status;

    (void)run;
    if (task->bytes == 0) {
        return AG_OK;
    }
    status = task->op->kind == AG_OP_SEND
                 ? ag_net_post_send(net, task->op->peer, channel, task->host, task->bytes,
                                    &task->request)
                 : ag_net_post_recv(net, task->op->peer, channel, task->host, task->bytes,
                                    &task->request);
    return status == AG_OK ? test(arg) : status;
}

static ag_status_t bring_in(void *arg, const ag_run_t *run)
{
    message_task_t *task = arg;

    (void)run;
    return task->op->kind == AG_OP_RECV
               ? ag_staged_in(&task->staged, task->device, task->host, task->bytes)
               : AG_OK;
}

static const ag_task_stage_t stages[] = {
    {.begin = take_out}, {post, test}, {.begin = bring_in}, {0}};

ag_status_t ag_bind_message(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                            uint32_t op)
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    const ag_op_t *o = &ag_rank_ops(rank)[op];
    message_task_t *task = calloc(1, sizeof(*task));

    if (task == NULL) {
        return ag_fail_nomem("binding a program", sizeof(*task));
    }
    *task = (message_task_t){.staged = {.job = job, .stream = o->stream, .stages = stages},
                             .op = o,
                             .offset = bound->offsets[ag_op_uses(rank, o)[0].buffer]};
    ag_staged_bind(bound, op, o, ag_op_infos[o->kind].name, (uint32_t)o->peer, task);
    return AG_OK;
}
