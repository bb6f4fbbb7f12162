#include "parallel/plan/mesh.h"

ag_status_t ag_mesh_place(const ag_plan_t *plan, uint32_t rank, ag_place_t *place_p)
{
    for (uint32_t s = 0; s < plan->n_stages; s++) {
        for (uint32_t r = 0; r < plan->stages[s].n_replicas; r++) {
            const ag_replica_t *replica = &plan->stages[s].replicas[r];

            for (uint32_t i = 0; i < replica->n_ranks; i++) {
                if (replica->ranks[i] == rank) {
                    *place_p = (ag_place_t){.stage = s, .replica = r, .index = i};
                    return AG_OK;
                }
            }
        }
    }
    return ag_fail(AG_ERR_INVALID, "the plan has %u ranks, none is rank %u", ag_plan_ranks(plan),
                   rank);
}
