/*
 * Where a step's numbers stop being numbers: behind each segment of a step that looks for it, the
 * residual stream that it wrote is looked at, and the gradients of its layers. Buffers tell by
 * their names whose they are (parallel/pass/train_state.c).
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "parallel/run/job_priv.h"

static bool is_bad(const void *values, bool rounded, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (!isfinite(rounded ? ag_bf16_to_f32(((const uint16_t *)values)[i])
                              : ((const float *)values)[i])) {
            return true;
        }
    }
    return false;
}

/* The forward place that a buffer of rows is behind. @return false: it is none such. */
static bool find_forward(const ag_job_t *job, const char *name, ag_bad_number_t *bad)
{
    const ag_build_t *build = job->opts.build;
    uint32_t stage = build->ranks[job->rank].place.stage, layer;
    uint32_t n_layers = build->model->spec->n_layers;
    char part;

    if (sscanf(name, "x%u%c.", &layer, &part) == 2) {
        bool is_attention = part == 'f'; /* what a part reads is behind the one before */

        bad->order = 2 * layer + is_attention;
        snprintf(bad->where, sizeof(bad->where), "behind %s of layer %u",
                 is_attention ? "attention" : "the feed-forward part",
                 is_attention ? layer : layer - 1);
        return is_attention || layer > 0;
    }
    if (strncmp(name, "in", 2) == 0 && stage == 0) {
        bad->order = 0;
        snprintf(bad->where, sizeof(bad->where), "in the embeddings");
        return true;
    }
    if (strncmp(name, "out", 3) == 0 || strncmp(name, "head.", 5) == 0) {
        uint32_t end = build->plan->stages[stage].layer_end;

        bad->order = 2 * end;
        snprintf(bad->where, sizeof(bad->where), "behind the feed-forward part of layer %u",
                 end - 1);
        return true;
    }
    bad->order = 2 * n_layers + 1;
    snprintf(bad->where, sizeof(bad->where), "in the logits");
    return strcmp(name, "logits") == 0;
}

static bool find_backward(const ag_job_t *job, const char *name, ag_bad_number_t *bad)
{
    uint32_t layer;

    bad->is_backward = true;
    if (strcmp(name, "g.head") == 0) {
        bad->order = job->opts.build->model->spec->n_layers + 1;
        snprintf(bad->where, sizeof(bad->where), "in the head's gradients");
        return true;
    }
    if (strcmp(name, "g.embed") == 0) {
        bad->order = 0;
        snprintf(bad->where, sizeof(bad->where), "in the embeddings' gradients");
        return true;
    }
    if (sscanf(name, "g%u", &layer) != 1) {
        return false;
    }
    bad->order = layer + 1;
    snprintf(bad->where, sizeof(bad->where), "in gradients of layer %u", layer);
    return true;
}

bool ag_bad_number_is_before(const ag_bad_number_t *a, const ag_bad_number_t *b)
{
    if (!a->is_there || !b->is_there || a->is_backward != b->is_backward) {
        return a->is_there && (!b->is_there || b->is_backward);
    }
    return a->is_backward ? a->order > b->order : a->order < b->order;
}

/* Values to note the first of which some are no numbers. */
static void look_at(ag_job_t *job, const char *name, const void *values, bool rounded, uint64_t n)
{
    ag_bad_number_t bad = {.is_there = true};

    if ((find_forward(job, name, &bad) || find_backward(job, name, &bad)) &&
        ag_bad_number_is_before(&bad, &job->bad) && is_bad(values, rounded, n)) {
        job->bad = bad;
    }
}

/* Of the residual stream, where it passes through one buffer after the other, what is kept. */
static void look_at_kept(ag_job_t *job, const ag_bound_t *bound, const ag_op_t *op,
                         const ag_step_t *step)
{
    const ag_rank_program_t *rank = &bound->program->ranks[job->rank];
    const ag_graph_t *graph = AG_ITEMS(&rank->segments, ag_segment_t)[op->subject].inside;

    for (size_t i = 0; i < graph->nodes.n_items; i++) {
        const ag_node_t *node = &AG_ITEMS(&graph->nodes, ag_node_t)[i];
        const ag_value_t *kept;
        char name[24];

        if (node->kind == AG_NODE_ROUND) {
            kept = &AG_ITEMS(&graph->values, ag_value_t)[node->out];
            snprintf(name, sizeof(name), "x%s", /* as a buffer of what the part reads */
                     AG_ITEMS(&rank->buffers, ag_buffer_t)[kept->buffer].name + 1);
            look_at(job, name,
                    ag_job_slot(job, 0) + bound->offsets[kept->buffer] + kept->begin_bytes, true,
                    step->counts[kept->counter] * kept->width);
        }
    }
}

/* What an operation has written of a buffer: where it shares the step's rows out, this rank's. Of
 * the residual stream such rows may be all that is kept. */
static void find_written(const ag_job_t *job, const ag_buffer_t *buffer, const ag_use_t *use,
                         const ag_step_t *step, uint64_t *begin_p, uint64_t *end_p)
{
    uint64_t row_bytes = job->opts.build->model->spec->hidden * sizeof(float);
    uint64_t n_rows = step->counts[AG_COUNT_TOKENS], begin, end;

    ag_shard_rows(&job->opts.build->ranks[job->rank].shard, n_rows, &begin, &end);
    *begin_p = 0;
    *end_p = buffer->counter == AG_SIZE_ONE ? buffer->bytes
                                            : step->counts[buffer->counter] * buffer->unit_bytes;
    if (buffer->counter == AG_SIZE_ONE && buffer->name[0] == 'x') {
        *end_p = (end - begin) * row_bytes;
    } else if (buffer->counter == AG_SIZE_TOKENS && (use->mode & AG_USE_SHARE)) {
        *begin_p = begin * buffer->unit_bytes;
        *end_p = end * buffer->unit_bytes;
    }
}

void ag_job_look_for_bad(ag_job_t *job, const ag_bound_t *bound, const ag_op_t *op,
                         const ag_step_t *step)
{
    const ag_rank_program_t *rank = &bound->program->ranks[job->rank];

    for (uint32_t i = 0; i < op->n_uses; i++) {
        const ag_use_t *use = &ag_op_uses(rank, op)[i];
        const ag_buffer_t *buffer = &AG_ITEMS(&rank->buffers, ag_buffer_t)[use->buffer];
        bool rounded = ag_plan_rounds(job->opts.build->plan) && strcmp(buffer->name, "logits") == 0;
        const unsigned char *bytes = ag_job_slot(job, 0) + bound->offsets[use->buffer];
        uint64_t begin, end;

        find_written(job, buffer, use, step, &begin, &end);
        if ((use->mode & AG_USE_WRITE) != 0) {
            look_at(job, buffer->name, bytes + begin, rounded,
                    (end - begin) / ag_element_bytes(rounded));
        }
    }
    look_at_kept(job, bound, op, step);
}

const ag_bad_number_t *ag_job_bad_number(const ag_job_t *job)
{
    return &job->bad;
}
