/* One instruction set for all ranks of a job: results depend on it. */
#pragma once

#include "comm/agree.h"

enum { AG_ISA_NAME_BYTES = 16 };

/* What one rank's machine can run. */
typedef struct ag_isa_choice {
    const char *best;
    bool (*can_run)(void *arg, const char *name);
    void *arg;
} ag_isa_choice_t;

/* What all compute with, and why it is not better. */
typedef struct ag_isa_common {
    char name[AG_ISA_NAME_BYTES];
    char missed[AG_ISA_NAME_BYTES]; /* a rank's best that another cannot run; "": there is none */
    int lacking_rank;               /* who cannot */
} ag_isa_common_t;

/**
 * The best of the ranks' best that all of them can run, "base" where there is none; all ranks call
 * it alike and leave with the same.
 */
ag_status_t ag_isa_agree(ag_net_t *net, const ag_idle_t *idle, const ag_isa_choice_t *choice,
                         ag_isa_common_t *common);
