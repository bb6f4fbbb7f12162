/* What the tests of the plan share. */
#pragma once

#include "parallel/plan/plan.h"

/** A model with SmolLM2's 30 layers and context. */
ag_plan_model_t smol_model(void);

/** The plan of these options for smol_model(); fails the test when it is refused. */
ag_plan_t *make_plan(const ag_plan_opts_t *opts);

/** The same for any model. */
ag_plan_t *make_plan_for(const ag_plan_model_t *model, const ag_plan_opts_t *opts);

/** Read a plan from JSON, whose file errors call p.json; fails the test when it is no JSON. */
ag_status_t read_plan(const char *text, ag_plan_t **plan_p);

/** The text with the first such piece of it replaced; free() it. Fails the test without one. */
char *text_with(const char *text, const char *piece, const char *other);

/** True when these options are refused in one line that has all of the words (NULL at the end). */
bool refused_saying(const ag_plan_opts_t *opts, const char *word, ...);

/** True when the record is one line that has all of the words (NULL at the end); else logs it. */
bool error_says(const char *word, ...);

/** The plan's whole JSON as one line; free() it. */
char *plan_text(const ag_plan_t *plan);
