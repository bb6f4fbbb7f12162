/* A folder whose files change together: all are written aside, then take their names. */
#pragma once

#include "runtime/base/json.h"
#include "runtime/file/aside.h"

typedef struct ag_folder ag_folder_t;

/**
 * Begin; the folder is made where there is none. What stands in one stays as it is for now.
 * @param path  copied.
 * @return AG_OK; AG_ERR_INVALID: there is something that is no folder; AG_ERR_IO; AG_ERR_NOMEM.
 */
ag_status_t ag_folder_open(const char *path, ag_folder_t **folder_p);

/** Begin a file of it. @param aside_p  out: the folder's; it may be sealed, and is not completed.
 */
ag_status_t ag_folder_add(ag_folder_t *folder, const char *name, ag_aside_t **aside_p);

/** Write a whole file of it, and seal it. */
ag_status_t ag_folder_add_text(ag_folder_t *folder, const char *name, const char *text, size_t n);

/** The same with a JSON value, indented, which is released. */
ag_status_t ag_folder_add_json(ag_folder_t *folder, const char *name, ag_json_t *json);

/**
 * Seal all, remove what is old, rename in the order in which they were added: a reader that needs
 * the last one sees all or none. It is gone either way.
 * @param is_old  which names of what stood in the folder belong to what is replaced; NULL: none.
 * @return AG_OK; AG_ERR_IO: nothing was replaced, but for a failure of a rename itself.
 */
ag_status_t ag_folder_complete(ag_folder_t *folder, bool (*is_old)(const char *name));

/** Give up: remove what was written, and the folder where it was made. NULL is allowed. */
void ag_folder_discard(ag_folder_t *folder);
