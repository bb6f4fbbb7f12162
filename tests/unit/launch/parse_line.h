/* Command lines, and what is said of them. */
#pragma once

#include "launch/options.h"

/* Parse words joined by ' '; '_' stands for a blank inside a word. */
ag_status_t parse(const char *line, ag_options_t *options);

/* A usage error of one line that says this much. */
void expect_error(const char *line, const char *part, const char *other_part);
void expect_good(const char *line);
