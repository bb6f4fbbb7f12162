/* Specs of settings alone. */
#pragma once

#include "runtime/file/gguf_metadata.h"
#include "runtime/model/model.h"
#include "runtime/model/unused.h"

/** Of a folder without weights: 4 layers, hidden 36, 3 heads of 8 dimensions, a context of 2048.
 * @param more  settings of its config.json beside the sizes. */
ag_status_t spec_of(const char *more, ag_spec_t **spec_p);

/** Of a whole config.json. @param unused_p  out: ag_unused_settings(); NULL: not asked. */
ag_status_t spec_of_config(const char *config, ag_array_t *unused_p, ag_spec_t **spec_p);

/** Of a GGUF file without weights; the metadata is released. */
ag_status_t spec_of_gguf(ag_gguf_metadata_t *metadata, ag_spec_t **spec_p);
