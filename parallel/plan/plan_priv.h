#pragma once

#include "parallel/plan/plan.h"

/* What is beyond these is a mistake, not a plan; options and JSON are held to the same. */
enum {
    AG_MAX_RANKS = 65536,
    AG_MAX_STAGE_RANKS = 254, /* of one replica: the head's parts are uses of one operation */
    AG_MAX_STAGES = 4096,
    AG_MAX_PLAN_LAYERS = 1 << 20,
    AG_MAX_SHARE = 1000000,
    AG_MAX_SEQUENCES = 65536,
    AG_MAX_TOKENS = 1 << 24,
};

/** An empty plan of n stages, each with one replica without ranks. */
ag_status_t ag_plan_create(uint32_t n_stages, ag_plan_t **plan_p);

/** Storage for a replica's ranks and shares, zeroed. */
ag_status_t ag_replica_resize(ag_replica_t *replica, uint32_t n_ranks);
