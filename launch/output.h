/* The files that a run writes, held against those that it reads. */
#pragma once

#include "launch/options.h"

/**
 * Refuse a --logits, --trace or --save-grads that would overwrite what is read (the model, a text,
 * ids, data, a plan) or a file of --output, by whatever name, or that are one file.
 * @return AG_OK, AG_ERR_INVALID.
 */
ag_status_t ag_outputs_check(const ag_options_t *options);
