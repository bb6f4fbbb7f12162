/* Safetensors headers. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_file.h"

#include "runtime/file/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    char path[MEMORY_PATH_BYTES];
    int fd = memory_file(bytes, n_bytes, path);

    for (int strict = 0; strict < 2; strict++) {
        ag_safetensors_t *safetensors;
        const ag_file_tensor_t *tensors;
        size_t n_tensors;

        if (ag_safetensors_open(path, strict, &safetensors) != AG_OK) {
            expect_one_line();
            continue;
        }
        tensors = ag_safetensors_tensors(safetensors, &n_tensors);
        for (size_t i = 0; i < n_tensors; i++) {
            if (tensors[i].bytes > n_bytes ||
                tensors[i].offset_bytes > n_bytes - tensors[i].bytes ||
                strlen(tensors[i].name) == 0) {
                abort();
            }
        }
        ag_safetensors_close(safetensors);
    }
    close(fd);
    return 0;
}
