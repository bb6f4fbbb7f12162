/* Instruction sets: each has its own build of the kernels, and one is chosen when a job starts. */
#pragma once

#include "runtime/base/status.h"

/* A build of the kernels: a table of functions. */
typedef struct ag_isa ag_isa_t;

/** The best that this machine can run; never NULL. */
const ag_isa_t *ag_isa_best(void);

/**
 * An instruction set by its name: base, avx2, avx512.
 * @return AG_OK; AG_ERR_INVALID: no such name (those that are known are listed);
 *         AG_ERR_UNSUPPORTED: this machine cannot run it.
 */
ag_status_t ag_isa_find(const char *name, const ag_isa_t **isa_p);

const char *ag_isa_name(const ag_isa_t *isa);
