#include <stdlib.h>

#include "parallel/schedule/schedule.h"

ag_status_t ag_generate_ring(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p)
{
    ag_schedule_t *schedule = calloc(1, sizeof(*schedule));
    ag_status_t status = AG_OK;

    if (schedule != NULL) {
        schedule->stages = calloc((size_t)shape->stages + 1, sizeof(*schedule->stages));
    }
    if (schedule == NULL || schedule->stages == NULL) {
        free(schedule);
        return ag_fail_nomem("making a schedule", shape->stages * sizeof(*schedule->stages));
    }
    schedule->n_stages = shape->stages;
    for (uint32_t s = 0; s < shape->stages; s++) {
        schedule->stages[s] = AG_ARRAY(ag_schedule_item_t);
    }
    for (uint32_t s = 0; s < shape->stages; s++) {
        for (uint32_t m = 0; m < shape->micro_batches && status == AG_OK; m++) {
            ag_schedule_item_t item = {.chunk = (uint16_t)s, .micro_batch = (uint16_t)m};

            status = ag_array_append(&schedule->stages[s], &item, 1);
        }
    }
    if (status != AG_OK) {
        ag_schedule_destroy(schedule);
        return status;
    }
    *schedule_p = schedule;
    return AG_OK;
}
