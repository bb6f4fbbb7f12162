/* The fuzzer's bytes as a file with a path, since the readers take paths. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEMORY_PATH_BYTES = 32 };

/** Make a file of the bytes. Its path, written to `path`, holds until the descriptor is closed. */
int memory_file(const uint8_t *bytes, size_t n_bytes, char path[MEMORY_PATH_BYTES]);

/* What libFuzzer calls; declared by nobody else. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes);
