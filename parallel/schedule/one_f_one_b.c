/* F F F B F B F B B B: a stage is ahead by as many micro-batches as there are stages behind it. */
#include "parallel/schedule/schedule_priv.h"

static uint32_t ahead(const ag_pipeline_shape_t *shape, uint32_t stage)
{
    return shape->stages - stage - 1;
}

ag_status_t ag_generate_1f1b(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p)
{
    static const ag_alternating_t order = {ag_schedule_micro_batches, ahead,
                                           ag_schedule_whole_stage};
    ag_status_t status = ag_schedule_need_one_chunk(shape, "1f1b");

    return status == AG_OK ? ag_schedule_alternate(shape, &order, schedule_p) : status;
}
