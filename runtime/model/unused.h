/* What of the files the model is computed without: tensors, settings. */
#pragma once

#include "runtime/model/params.h"

/**
 * Find the tensors that none of these params hold and that need not be held: another head where the
 * embedding is the head, the factors of a rope, what files store and we compute.
 * @param params   (n_params) of all ranks of a job, once all slices have been asked for.
 * @param names_p  out: const char *, in the files' order, borrowed from them; ag_array_fini() it.
 */
ag_status_t ag_unused_find(const ag_model_t *model, const ag_params_t *const *params,
                           size_t n_params, ag_array_t *names_p);

typedef struct ag_setting_name {
    char text[96]; /* "rope_parameters.factor" */
} ag_setting_name_t;

/**
 * Find the settings of config.json, and of its ropes, that neither a family's keys read nor are
 * known to change no answer. Those that are null are none.
 * @param names_p  out: ag_setting_name_t; ag_array_fini() it.
 */
ag_status_t ag_unused_settings(const ag_model_t *model, ag_array_t *names_p);
