/* Files of made-up machines and caches, in a folder that goes with the test's process. */
#pragma once

#include <stddef.h>

/** A fresh folder; it is removed when the process ends, or with the next one. */
const char *make_folder(void);

/** Write a file below the folder, and the folders on its way. Returns its whole path (static
 * storage). */
const char *make_file(const char *folder, const char *path, const char *text);
