#include "parallel/schedule/schedule.h"

#include <stdlib.h>

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
