/* What is asked of the heap between two moments, in one thread. */
#pragma once

#include <stdint.h>

void count_bytes_begin(void);

/** @return bytes asked for by malloc() and calloc() since then. */
uint64_t count_bytes_end(void);
