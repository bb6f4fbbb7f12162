/* Has the user asked to stop? Looked at between the pieces of long work. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

typedef struct ag_cancel {
    bool (*is_asked)(void *arg); /* from any thread; NULL: never */
    void *arg;
} ag_cancel_t;

/** @param cancel  may be NULL. */
static inline bool ag_cancel_is_asked(const ag_cancel_t *cancel)
{
    return cancel != NULL && cancel->is_asked != NULL && cancel->is_asked(cancel->arg);
}
