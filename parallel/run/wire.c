/* A step on its way: rank 0 sends it to the others on the control channel, head first, then its
 * arrays, the block tables last. */
#include <string.h>

#include "parallel/run/job_priv.h"

typedef struct wire_head {
    uint64_t counts[AG_N_COUNTERS]; /* all zero: stop */
    uint32_t table_stride;
    uint32_t n_ints; /* of the arrays that follow */
} wire_head_t;

size_t ag_wire_ints(const ag_plan_t *plan, const uint64_t *bounds)
{
    return (size_t)(2 * bounds[AG_COUNT_TOKENS] + bounds[AG_COUNT_OUTPUTS] +
                    bounds[AG_COUNT_SEQUENCES] * (1 + ag_kv_blocks(plan->context_tokens)) + 1);
}

/* The arrays of a step in wire order, and how long each is. */
typedef struct wire_array {
    const int32_t **ints;
    size_t n;
} wire_array_t;

enum { N_ARRAYS = 5 };

static void list_arrays(ag_step_t *step, wire_array_t arrays[N_ARRAYS])
{
    uint64_t tokens = step->counts[AG_COUNT_TOKENS], sequences = step->counts[AG_COUNT_SEQUENCES];

    arrays[0] = (wire_array_t){&step->tokens, tokens};
    arrays[1] = (wire_array_t){&step->positions, tokens};
    arrays[2] = (wire_array_t){&step->row_begin, sequences + 1};
    arrays[3] = (wire_array_t){&step->outputs, step->counts[AG_COUNT_OUTPUTS]};
    arrays[4] = (wire_array_t){&step->block_tables, sequences * step->table_stride};
}

uint32_t ag_wire_blocks(const ag_step_t *step)
{
    uint32_t most = 0;

    for (uint64_t s = 0; s < step->counts[AG_COUNT_SEQUENCES]; s++) {
        int32_t end = step->row_begin[s + 1];

        if (end > step->row_begin[s]) { /* positions rise within a sequence */
            uint32_t n = (uint32_t)step->positions[end - 1] / AG_KV_BLOCK_TOKENS + 1;

            most = n > most ? n : most;
        }
    }
    return most;
}

/* The step's arrays into job->wire; of block tables as much as is used. */
static void write_arrays(ag_job_t *job, const ag_step_t *step, wire_head_t *head)
{
    wire_array_t arrays[N_ARRAYS];
    ag_step_t copy = *step;
    int32_t *dst = job->wire;

    memcpy(head->counts, step->counts, sizeof(head->counts));
    head->table_stride = ag_wire_blocks(step);
    list_arrays(&copy, arrays);
    for (int i = 0; i < N_ARRAYS - 1; i++) {
        if (arrays[i].n > 0) {
            memcpy(dst, *arrays[i].ints, arrays[i].n * sizeof(int32_t));
        }
        dst += arrays[i].n;
    }
    for (uint64_t s = 0; s < step->counts[AG_COUNT_SEQUENCES]; s++, dst += head->table_stride) {
        memcpy(dst, step->block_tables + s * step->table_stride,
               head->table_stride * sizeof(int32_t));
    }
    head->n_ints = (uint32_t)(dst - job->wire);
}

ag_status_t ag_wire_send(ag_job_t *job, const ag_step_t *step)
{
    wire_head_t head = {0};
    ag_status_t status = AG_OK;

    if (step != NULL && job->opts.net->n_ranks > 1) {
        write_arrays(job, step, &head);
    }
    for (int peer = 1; peer < job->opts.net->n_ranks && status == AG_OK; peer++) {
        status = ag_net_send(job->opts.net, &job->opts.idle, peer, &head, sizeof(head));
        if (status == AG_OK && head.n_ints > 0) {
            status = ag_net_send(job->opts.net, &job->opts.idle, peer, job->wire,
                                 head.n_ints * sizeof(int32_t));
        }
    }
    return status;
}

ag_status_t ag_wire_recv(ag_job_t *job, ag_step_t *step, bool *stop_p)
{
    wire_head_t head;
    wire_array_t arrays[N_ARRAYS];
    const int32_t *ints = job->wire;
    ag_status_t status = ag_net_recv(job->opts.net, &job->opts.idle, 0, &head, sizeof(head));

    if (status != AG_OK) {
        return ag_fail_context(status, "waiting for a step");
    }
    *stop_p = head.n_ints == 0;
    if (*stop_p) {
        return AG_OK;
    }
    if (head.n_ints > job->wire_ints) {
        return ag_fail(AG_ERR_PEER, "rank 0 announces a step of %u numbers, %zu can be had",
                       head.n_ints, job->wire_ints);
    }
    status =
        ag_net_recv(job->opts.net, &job->opts.idle, 0, job->wire, head.n_ints * sizeof(int32_t));
    if (status != AG_OK) {
        return ag_fail_context(status, "receiving a step");
    }
    memcpy(step->counts, head.counts, sizeof(head.counts));
    step->table_stride = head.table_stride;
    list_arrays(step, arrays);
    for (int i = 0; i < N_ARRAYS; i++) {
        *arrays[i].ints = ints;
        ints += arrays[i].n;
    }
    return AG_OK;
}
