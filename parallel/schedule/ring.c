#include "parallel/schedule/schedule_priv.h"

ag_status_t ag_generate_ring(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p)
{
    ag_schedule_t *schedule;
    ag_status_t status = ag_schedule_create(shape, &schedule);

    if (status != AG_OK) {
        return status;
    }
    for (uint32_t s = 0; s < shape->stages; s++) {
        for (uint32_t m = 0; m < shape->micro_batches && status == AG_OK; m++) {
            status =
                ag_schedule_add(schedule, s, ag_schedule_whole_stage(shape, s, AG_WORK_FORWARD, m));
        }
    }
    if (status != AG_OK) {
        ag_schedule_destroy(schedule);
        return status;
    }
    *schedule_p = schedule;
    return AG_OK;
}
