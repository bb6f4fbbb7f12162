/* Specs of settings alone. */
#pragma once

#include "runtime/model/model.h"

/** Of a folder without weights: 4 layers, hidden 36, 3 heads of 8 dimensions, a context of 2048.
 * @param more  settings of its config.json beside the sizes. */
ag_status_t spec_of(const char *more, ag_spec_t **spec_p);
