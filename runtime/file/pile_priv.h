/* Many small allocations that live and go together: the strings and arrays of one file's header. */
#pragma once

#include <stddef.h>

#include "runtime/base/status.h"

typedef struct ag_pile {
    const char *path;           /* for errors; borrowed */
    size_t left_bytes;          /* how much more may be taken */
    struct ag_pile_chunk *head; /* the one that is being filled */
} ag_pile_t;

/**
 * An empty pile. A header that asks for more than limit_bytes is taken for damaged: counts in a
 * large file can pass every check against the file's size and still be absurd.
 */
static inline ag_pile_t ag_pile_empty(const char *path, size_t limit_bytes)
{
    return (ag_pile_t){.path = path, .left_bytes = limit_bytes};
}

/**
 * Take n_bytes, not cleared, aligned for any scalar when `aligned`.
 * @return AG_OK, AG_ERR_FORMAT (beyond the limit), AG_ERR_NOMEM.
 */
ag_status_t ag_pile_take(ag_pile_t *pile, size_t n_bytes, bool aligned, void *bytes_p);

/** Copy a string; the copy ends in NUL. */
ag_status_t ag_pile_text(ag_pile_t *pile, const char *bytes, size_t n_bytes, const char **text_p);

/** Release everything taken; the pile is empty. */
void ag_pile_fini(ag_pile_t *pile);
