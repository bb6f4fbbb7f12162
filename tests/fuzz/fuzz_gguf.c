/* GGUF headers. How to build and run: README.md. */
#include <stdlib.h>
#include <unistd.h>

#include "memory_file.h"

#include "runtime/file/gguf.h"

/* Touch every byte that a value refers to, so that the sanitizer sees a wrong pointer. */
static uint64_t sum_value(const ag_gguf_value_t *value)
{
    uint64_t sum = 0;

    if (value->kind == AG_GGUF_STRING) {
        for (size_t i = 0; i < value->as.string.n_bytes; i++) {
            sum += (unsigned char)value->as.string.bytes[i];
        }
    } else if (value->kind == AG_GGUF_ARRAY) {
        for (size_t i = 0; i < value->as.array.n; i++) {
            ag_gguf_value_t item = ag_gguf_item(value, i);

            sum += sum_value(&item);
        }
    } else if (value->kind != AG_GGUF_F32 && value->kind != AG_GGUF_F64) {
        sum += (uint64_t)value->as.integer;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static const char *const keys[] = {"general.architecture", "general.alignment", "a", "b", ""};
    uint64_t sum = 0;
    char path[MEMORY_PATH_BYTES];
    int fd = memory_file(bytes, n_bytes, path);
    ag_gguf_t *gguf;

    if (ag_gguf_open(path, &gguf) == AG_OK) {
        size_t n_tensors;
        const ag_file_tensor_t *tensors = ag_gguf_tensors(gguf, &n_tensors);

        for (size_t i = 0; i < n_tensors; i++) {
            if (tensors[i].bytes > n_bytes ||
                tensors[i].offset_bytes > n_bytes - tensors[i].bytes) {
                abort();
            }
        }
        for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
            const ag_gguf_value_t *value = ag_gguf_get(gguf, keys[i]);

            sum += value == NULL ? 0 : sum_value(value);
        }
        __asm__ volatile("" : : "r"(sum)); /* keeps the reads */
        ag_gguf_close(gguf);
    } else {
        expect_one_line();
    }
    close(fd);
    return 0;
}
