/* A file that is complete or absent: written aside, then renamed. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/status.h"

typedef struct ag_aside ag_aside_t;

/**
 * Begin a file; one that stands at its path stays as it is until the new one is complete.
 * @param path  copied.
 * @return AG_OK; AG_ERR_INVALID: what is there is no regular file, so that it cannot be replaced;
 *         AG_ERR_IO; AG_ERR_NOMEM.
 */
ag_status_t ag_aside_open(const char *path, ag_aside_t **aside_p);

/** Where to write to; ag_aside_complete() looks for what failed. */
FILE *ag_aside_stream(ag_aside_t *aside);

/** Write n bytes behind what is there. @return AG_OK; AG_ERR_IO: says what the disk said. */
ag_status_t ag_aside_write(ag_aside_t *aside, const void *bytes, size_t n);

/**
 * Take the room of a file that will have n_bytes, no more and no fewer, where its file system can.
 * @return AG_OK; AG_ERR_IO: there is not so much, told before anything is written.
 */
ag_status_t ag_aside_reserve(ag_aside_t *aside, uint64_t n_bytes);

/** Flush, fsync, close: nothing can be written any more, and completing it is a rename. */
ag_status_t ag_aside_seal(ag_aside_t *aside);

/** Seal and rename. It is gone either way. @return AG_OK; AG_ERR_IO: nothing was replaced. */
ag_status_t ag_aside_complete(ag_aside_t *aside);

/** Give up: remove what was written. NULL is allowed. */
void ag_aside_discard(ag_aside_t *aside);
