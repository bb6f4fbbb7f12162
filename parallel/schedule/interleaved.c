/*
 * One forward, one backward, over several chunks of each stage: p micro-batches through a stage's
 * first chunk, the same through its second, and so on; then the next p. Backward likewise, from the
 * last chunk.
 */
#include "parallel/schedule/schedule_priv.h"

static uint32_t n_works(const ag_pipeline_shape_t *shape)
{
    return shape->micro_batches * shape->virtual_stages;
}

static uint32_t ahead(const ag_pipeline_shape_t *shape, uint32_t stage)
{
    return 2 * (shape->stages - stage - 1) + (shape->virtual_stages - 1) * shape->stages;
}

static ag_schedule_item_t item(const ag_pipeline_shape_t *shape, uint32_t stage, ag_work_t work,
                               uint32_t i)
{
    uint32_t p = shape->stages, v = shape->virtual_stages;
    uint32_t number = i / p % v; /* of the stage's chunks */

    if (work == AG_WORK_BACKWARD) {
        number = v - 1 - number;
    }
    return (ag_schedule_item_t){.chunk = (uint16_t)(number * p + stage),
                                .micro_batch = (uint16_t)(i / (p * v) * p + i % p),
                                .work = (uint16_t)work};
}

ag_status_t ag_generate_interleaved(const ag_pipeline_shape_t *shape, ag_schedule_t **schedule_p)
{
    static const ag_alternating_t order = {n_works, ahead, item};

    if (shape->virtual_stages < 2 || shape->stages < 2) {
        return ag_fail(AG_ERR_INVALID,
                       "the schedule interleaved has two chunks or more of each of two stages or "
                       "more, not %u of %u: use 1f1b",
                       shape->virtual_stages, shape->stages);
    }
    if (shape->micro_batches % shape->stages != 0) {
        return ag_fail(AG_ERR_INVALID,
                       "the schedule interleaved takes micro-batches in multiples of the stages: "
                       "%u are none of %u; give %u, or use 1f1b",
                       shape->micro_batches, shape->stages,
                       (shape->micro_batches / shape->stages + 1) * shape->stages);
    }
    return ag_schedule_alternate(shape, &order, schedule_p);
}
