/* XXH64 (Collet), seed 0: a checksum of what lies on disks, as fast as it is read. `xxhsum -H64`.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

uint64_t ag_xxh64(const void *bytes, size_t n_bytes);
