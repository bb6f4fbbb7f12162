/* From a name to its index: a hash table with open addressing. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/status.h"

enum { AG_NAME_MAX_BYTES = 1024 };

#define AG_NAME_ABSENT SIZE_MAX

typedef struct ag_names {
    struct ag_name_slot *slots;
    size_t n_slots; /* a power of two, or 0 */
    size_t n_names;
} ag_names_t; /* all zero: empty */

/**
 * Add a name that is not there yet; the string is borrowed and must outlive the table.
 * @return AG_OK, AG_ERR_NOMEM.
 */
ag_status_t ag_names_add(ag_names_t *names, const char *name, size_t index);

/** The name's index, or AG_NAME_ABSENT. */
size_t ag_names_find(const ag_names_t *names, const char *name);

void ag_names_fini(ag_names_t *names);

/**
 * Whether bytes from a file can serve as a name in tables and in one-line errors: 1 to
 * AG_NAME_MAX_BYTES bytes of UTF-8 without control characters.
 */
bool ag_name_usable(const char *bytes, size_t n_bytes);
