#include "parallel/schedule/schedule_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const ag_schedule_info_t ag_schedule_infos[] = {
    {"gpipe", ag_generate_gpipe},
    {"1f1b", ag_generate_1f1b},
    {"interleaved", ag_generate_interleaved},
};
const uint32_t ag_n_schedule_infos = sizeof(ag_schedule_infos) / sizeof(ag_schedule_infos[0]);

ag_status_t ag_schedule_find(const char *name, const ag_schedule_info_t **info_p)
{
    char known[128] = "";

    for (uint32_t i = 0; i < ag_n_schedule_infos; i++) {
        size_t used = strlen(known);

        if (strcmp(name, ag_schedule_infos[i].name) == 0) {
            *info_p = &ag_schedule_infos[i];
            return AG_OK;
        }
        snprintf(known + used, sizeof(known) - used, "%s%s", i > 0 ? ", " : "",
                 ag_schedule_infos[i].name);
    }
    return ag_fail(AG_ERR_INVALID, "there is no schedule \"%s\": give one of %s", name, known);
}

ag_status_t ag_schedule_create(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p)
{
    ag_schedule_t *schedule;
    uint64_t chunks =
        (uint64_t)shape->stages * (shape->virtual_stages > 0 ? shape->virtual_stages : 1);

    if (shape->stages == 0 || chunks > UINT16_MAX || shape->micro_batches > UINT16_MAX) {
        return ag_fail(AG_ERR_INVALID,
                       "a pipeline of %u stages, %llu chunks and %u micro-batches: there are 1 to "
                       "%u stages, chunks and micro-batches",
                       shape->stages, (unsigned long long)chunks, shape->micro_batches, UINT16_MAX);
    }
    schedule = calloc(1, sizeof(*schedule));
    if (schedule != NULL) {
        schedule->stages = calloc(shape->stages, sizeof(*schedule->stages));
    }
    if (schedule == NULL || schedule->stages == NULL) {
        free(schedule);
        return ag_fail_nomem("making a schedule", shape->stages * sizeof(*schedule->stages));
    }
    schedule->n_stages = shape->stages;
    for (uint32_t s = 0; s < shape->stages; s++) {
        schedule->stages[s] = AG_ARRAY(ag_schedule_item_t);
    }
    *schedule_p = schedule;
    return AG_OK;
}

void ag_schedule_destroy(ag_schedule_t *schedule)
{
    if (schedule == NULL) {
        return;
    }
    for (uint32_t s = 0; s < schedule->n_stages; s++) {
        ag_array_fini(&schedule->stages[s]);
    }
    free(schedule->stages);
    free(schedule);
}

static ag_status_t split_stage(ag_array_t *items)
{
    ag_array_t before = *items;
    ag_status_t status = AG_OK;

    *items = AG_ARRAY(ag_schedule_item_t);
    for (size_t i = 0; i < before.n_items && status == AG_OK; i++) {
        ag_schedule_item_t item = AG_ITEMS(&before, ag_schedule_item_t)[i];

        status = ag_array_append(items, &item, 1);
        if (status == AG_OK && item.work == AG_WORK_BACKWARD) {
            item.work = AG_WORK_WEIGHT;
            status = ag_array_append(items, &item, 1);
        }
    }
    ag_array_fini(&before);
    return status;
}

ag_status_t ag_schedule_split_backward(ag_schedule_t *schedule)
{
    ag_status_t status = AG_OK;

    for (uint32_t s = 0; s < schedule->n_stages && status == AG_OK; s++) {
        status = split_stage(&schedule->stages[s]);
    }
    return status;
}

ag_status_t ag_schedule_need_one_chunk(const ag_pipeline_shape_t *shape, const char *name)
{
    return shape->virtual_stages <= 1
               ? AG_OK
               : ag_fail(AG_ERR_INVALID,
                         "the schedule %s has one chunk of the model a stage, not %u: use "
                         "interleaved for more",
                         name, shape->virtual_stages);
}

ag_status_t ag_schedule_add(ag_schedule_t *schedule, uint32_t stage, ag_schedule_item_t item)
{
    return ag_array_append(&schedule->stages[stage], &item, 1);
}

static ag_status_t alternate(ag_schedule_t *schedule, uint32_t stage,
                             const ag_pipeline_shape_t *shape, const ag_alternating_t *order)
{
    uint32_t n = order->n_works(shape), ahead = order->ahead(shape, stage);
    ag_status_t status = AG_OK;

    ahead = ahead < n ? ahead : n;
    for (uint32_t i = 0; i < n + ahead && status == AG_OK; i++) {
        if (i < n) {
            status =
                ag_schedule_add(schedule, stage, order->item(shape, stage, AG_WORK_FORWARD, i));
        }
        if (i >= ahead && status == AG_OK) {
            status = ag_schedule_add(schedule, stage,
                                     order->item(shape, stage, AG_WORK_BACKWARD, i - ahead));
        }
    }
    return status;
}

ag_status_t ag_schedule_alternate(const ag_pipeline_shape_t *shape, const ag_alternating_t *order,
                                  ag_schedule_t **schedule_p)
{
    ag_schedule_t *schedule;
    ag_status_t status = ag_schedule_create(shape, &schedule);

    if (status != AG_OK) {
        return status;
    }
    for (uint32_t s = 0; s < shape->stages && status == AG_OK; s++) {
        status = alternate(schedule, s, shape, order);
    }
    if (status != AG_OK) {
        ag_schedule_destroy(schedule);
        return status;
    }
    *schedule_p = schedule;
    return AG_OK;
}

uint32_t ag_schedule_micro_batches(const ag_pipeline_shape_t *shape)
{
    return shape->micro_batches;
}

ag_schedule_item_t ag_schedule_whole_stage(const ag_pipeline_shape_t *shape, uint32_t stage,
                                           ag_work_t work, uint32_t i)
{
    (void)shape;
    return (ag_schedule_item_t){
        .chunk = (uint16_t)stage, .micro_batch = (uint16_t)i, .work = (uint16_t)work};
}
