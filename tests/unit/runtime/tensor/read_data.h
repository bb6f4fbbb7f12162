/* Files that tests/parity/make_blocks.py made. */
#pragma once

#include <stddef.h>

/** A file of data/dequant, whole; free() it. Fails the test where there is none. */
void *read_data(const char *name, size_t *n_bytes_p);
