/* .npy files, as ids and as floats. */
#include <stdlib.h>
#include <unistd.h>

#include "memory_file.h"

#include "runtime/file/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    char path[MEMORY_PATH_BYTES];
    int fd = memory_file(bytes, n_bytes, path);
    int32_t *ids = NULL;
    float *data = NULL;
    uint64_t dims[AG_MAX_DIMS];
    uint32_t n_dims;
    size_t n_ids;

    if (ag_npy_read_ids(path, &ids, &n_ids) != AG_OK) {
        expect_one_line();
    } else if (n_ids > n_bytes / sizeof(uint16_t)) {
        abort();
    }
    if (ag_npy_read_f32(path, &data, &n_dims, dims) == AG_OK) {
        uint64_t n_elements = 1;

        for (uint32_t d = 0; d < AG_MAX_DIMS; d++) {
            n_elements *= dims[d];
        }
        if (n_dims > AG_MAX_DIMS || n_elements > n_bytes / sizeof(*data)) {
            abort();
        }
    }
    free(data);
    free(ids);
    close(fd);
    return 0;
}
