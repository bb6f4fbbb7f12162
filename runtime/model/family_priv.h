/* What the families share. */
#pragma once

#include "runtime/model/family.h"

/** The activation that config.json names under key; `otherwise` where it does not. */
ag_status_t ag_family_activation(const ag_model_files_t *files, const char *key, ag_act_t otherwise,
                                 ag_act_t *act_p);
