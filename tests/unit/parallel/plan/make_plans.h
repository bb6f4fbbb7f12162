/* What the tests of the plan share. */
#pragma once

#include "parallel/plan/plan.h"

/** A model with SmolLM2's 30 layers and context. */
ag_plan_model_t smol_model(void);

/** The plan of these options for smol_model(); fails the test when it is refused. */
ag_plan_t *make_plan(const ag_plan_opts_t *opts);

/** True when these options are refused in one line that has all of the words (NULL at the end). */
bool refused_saying(const ag_plan_opts_t *opts, const char *word, ...);

/** True when the record is one line that has all of the words (NULL at the end); else logs it. */
bool error_says(const char *word, ...);

/** The plan's whole JSON as one line; free() it. */
char *plan_text(const ag_plan_t *plan);
