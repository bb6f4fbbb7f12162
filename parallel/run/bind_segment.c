/* SEGMENT: a compiled graph, launched on the device as one region. */
#include <stdlib.h>

#include "parallel/run/job_priv.h"
#include "parallel/run/memory_priv.h"

typedef struct segment_task {
    ag_staged_t staged;
    const ag_op_t *op;
    bool has_received;
    uint64_t received_offset; /* of how many rows came from each rank for each expert held here */
    uint64_t received_bytes;
    const unsigned char *received; /* the host's */
    uint32_t half;
    bool changes_weights;
    ag_graph_run_t run;
    ag_step_t half_step;
    ag_step_t device_step; /* what the region reads */
    int32_t row_begin[];   /* of half_step */
} segment_task_t;

/* What does not come from the step: copies of this rank's rows, and those that others sent. */
static void count_rows(segment_task_t *task)
{
    const ag_job_t *job = task->staged.job;
    const ag_build_t *build = job->opts.build;
    const ag_shard_t *shard = &build->ranks[job->rank].shard;
    uint64_t begin, end;

    ag_shard_rows(shard, task->device_step.counts[AG_COUNT_TOKENS], &begin, &end);
    task->run.n_sent = (end - begin) * ag_spec_experts(build->model->spec).n_used;
    if (task->has_received) {
        ag_groups_t received = {.n_groups = shard->experts.n_held,
                                .n_sources = shard->experts.n_ranks,
                                .counts = (const uint32_t *)(const void *)task->received};

        task->run.n_received = ag_groups_all_rows(&received);
    }
}

/* This rank's share of the rows, in which nobody asks for sequences. */
static const ag_step_t *share_of(segment_task_t *task, const ag_step_t *step)
{
    const ag_job_t *job = task->staged.job;
    uint64_t end;

    ag_shard_rows(&job->opts.build->ranks[job->rank].shard, step->counts[AG_COUNT_TOKENS],
                  &task->run.first_row, &end);
    task->half_step = *step;
    task->half_step.counts[AG_COUNT_TOKENS] = end - task->run.first_row;
    task->half_step.counts[AG_COUNT_SEQUENCES] = 0;
    task->half_step.tokens += task->run.first_row;
    task->half_step.positions += task->run.first_row;
    return &task->half_step;
}

/* The rows of a step that an operation works on, as a step. */
static const ag_step_t *rows_of(segment_task_t *task, const ag_step_t *step)
{
    uint64_t n_rows = step->counts[AG_COUNT_TOKENS], begin = ag_half_begin(task->half, n_rows);

    if (task->half == AG_HALF_BOTH) {
        return step;
    }
    if (task->half == AG_ROWS_SHARE) {
        return share_of(task, step);
    }
    task->run.first_row = begin;
    task->half_step =
        ag_step_rows(step, begin, begin + ag_half_rows(task->half, n_rows), task->row_begin);
    return &task->half_step;
}

static ag_status_t look_at_numbers(void *arg, const ag_run_t *run)
{
    segment_task_t *task = arg;
    unsigned char *device = ag_job_slot(task->staged.job, run->slot) + task->received_offset;
    unsigned char *host;

    if (!task->has_received) {
        return AG_OK;
    }
    host = ag_staged_place(&task->staged, device, task->received_bytes);
    task->received = host;
    return ag_staged_out(&task->staged, host, device, task->received_bytes);
}

static ag_status_t launch(void *arg, const ag_run_t *run)
{
    segment_task_t *task = arg;
    ag_job_t *job = task->staged.job;
    const ag_step_t *rows = rows_of(task, ag_run_step(run, task->op));
    ag_status_t status;

    if (task->half != AG_HALF_BOTH && rows->counts[AG_COUNT_TOKENS] == 0) { /* of a few rows */
        return AG_OK;
    }
    status = ag_staging_take_step(&task->staged, run, task->op, rows, &task->device_step);
    if (status != AG_OK) {
        return status;
    }
    if (task->changes_weights && !rows->update->is_frozen) {
        ag_job_copy_gradients(job);
    }
    task->run.memory = ag_job_slot(job, run->slot);
    count_rows(task);
    if (ag_device_is_host(job->opts.device)) {
        ag_graph_begin(&task->run, ag_team_size(job->opts.team));
    }
    return ag_staged_launch(&task->staged, ag_graph_region, &task->run);
}

static ag_status_t look_for_bad(void *arg, const ag_run_t *run)
{
    segment_task_t *task = arg;
    ag_job_t *job = task->staged.job;
    const ag_step_t *step = ag_run_step(run, task->op);

    if (step->update != NULL && step->update->finds_bad && ag_device_is_host(job->opts.device)) {
        ag_job_look_for_bad(job, &job->bound[0][0], task->op, step);
    }
    return AG_OK;
}

static const ag_task_stage_t stages[] = {
    {.begin = look_at_numbers}, {.begin = launch}, {.begin = look_for_bad}, {0}};

/* Is the optimizer in it? */
static bool has_update(const ag_segment_t *segment)
{
    const ag_part_t *parts = AG_ITEMS(&segment->parts, ag_part_t);

    return segment->parts.n_items > 0 && parts[segment->parts.n_items - 1].kind == AG_PART_UPDATE;
}

ag_status_t ag_bind_segment(ag_job_t *job, const ag_program_t *program, ag_bound_t *bound,
                            uint32_t op)
{
    const ag_rank_program_t *rank = &program->ranks[job->rank];
    const ag_op_t *o = &ag_rank_ops(rank)[op];
    const ag_segment_t *segment = &AG_ITEMS(&rank->segments, ag_segment_t)[o->subject];
    const ag_part_t *part = AG_ITEMS(&segment->parts, ag_part_t);
    size_t n_ints = ag_is_half(o->half) ? program->bounds[AG_SIZE_SEQUENCES] + 1 : 0;
    segment_task_t *task = calloc(1, sizeof(*task) + n_ints * sizeof(int32_t));

    if (task == NULL) {
        return ag_fail_nomem("binding a program", sizeof(*task) + n_ints * sizeof(int32_t));
    }
    *task = (segment_task_t){
        .staged = {.job = job, .stream = o->stream, .stages = stages},
        .op = o,
        .half = o->half,
        .changes_weights = has_update(segment),
        .run = {.graph = segment->inside,
                .params = ag_params_held(&job->opts.build->ranks[job->rank].params),
                .kv = job->kv,
                .offsets = bound->offsets,
                .thread_scratch = job->thread_scratch.base,
                .thread_scratch_stride = job->thread_scratch_stride,
                .yield = &job->yield,
                .before_write = &job->before_write,
                .gemm = job->gemm,
                .isa = job->opts.isa,
                .clock = &job->opts.clock,
                .profile = &job->profile,
                .trace = job->opts.trace,
                .track = o->stream,
                .least_gap = &job->router_gap}};
    if (task->run.graph->scratch_bytes > 0) { /* its buffer is the last of the uses */
        task->run.scratch_offset = bound->offsets[ag_op_uses(rank, o)[o->n_uses - 1].buffer];
    }
    task->run.step = &task->device_step;
    if (ag_op_reads_numbers(rank, o)) {
        uint32_t numbers = ag_op_uses(rank, o)[0].buffer;

        task->has_received = true;
        task->received_offset = bound->offsets[numbers];
        task->received_bytes = AG_ITEMS(&rank->buffers, ag_buffer_t)[numbers].bytes;
    }
    ag_staged_bind(bound, op, o, ag_part_infos[part->kind].traced[o->half], part->layer, task);
    return AG_OK;
}
