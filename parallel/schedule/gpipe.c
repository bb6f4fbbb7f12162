/* F F F F B B B B */
#include "parallel/schedule/schedule_priv.h"

static uint32_t ahead(const ag_pipeline_shape_t *shape, uint32_t stage)
{
    (void)stage;
    return shape->micro_batches;
}

ag_status_t ag_generate_gpipe(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p)
{
    static const ag_alternating_t order = {ag_schedule_micro_batches, ahead,
                                           ag_schedule_whole_stage};
    ag_status_t status = ag_schedule_need_one_chunk(shape, "gpipe");

    return status == AG_OK ? ag_schedule_alternate(shape, &order, schedule_p) : status;
}
