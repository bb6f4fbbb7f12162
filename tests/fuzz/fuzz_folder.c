/*
 * Models of several files. The first four bytes say how long the first file is, the second is what
 * is left: two parts of a split GGUF file, two safetensors files, or one and the index of a folder.
 * Every tensor is read whole and decoded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_file.h"

#include "runtime/file/model_files.h"

static const char *const names[] = {"m-00001-of-00002.gguf",        "m-00002-of-00002.gguf",
                                    "model-1.safetensors",          "model-2.safetensors",
                                    "model.safetensors.index.json", "config.json"};
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

static char folder[] = "/tmp/argosy-fuzz-XXXXXX";
static bool is_made;

static void remove_file(const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    unlink(path);
}

static void remove_folder(void)
{
    for (int i = 0; i < N_NAMES; i++) {
        remove_file(names[i]);
    }
    rmdir(folder);
}

static void make_folder(void)
{
    if (!is_made) {
        expect(mkdtemp(folder) != NULL);
        write_file(folder, "config.json", "{}", 2);
        atexit(remove_folder);
        is_made = true;
    }
}

static void use_tensor(const ag_model_files_t *files, const ag_model_tensor_t *tensor,
                       size_t n_bytes)
{
    const ag_dtype_info_t *info = ag_dtype_info(tensor->dtype);
    uint64_t n_blocks = tensor->bytes / info->block_bytes;
    unsigned char *bytes = malloc(tensor->bytes + 1);
    float *values = malloc(n_blocks * info->block_elements * sizeof(float) + 1);

    expect(tensor->bytes <= 2 * n_bytes && tensor->bytes % info->block_bytes == 0);
    expect(bytes != NULL && values != NULL);
    expect(ag_model_files_read(files, tensor, 0, tensor->bytes, bytes) == AG_OK);
    info->unpack(bytes, values, n_blocks);
    free(values);
    free(bytes);
}

static void use_files(const char *path, size_t n_bytes)
{
    ag_model_files_t *files;
    const ag_model_tensor_t *tensors;
    size_t n_tensors;

    if (ag_model_files_open(path, &files) != AG_OK) {
        expect_one_line();
        return;
    }
    tensors = ag_model_files_tensors(files, &n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        use_tensor(files, &tensors[i], n_bytes);
    }
    ag_model_files_close(files);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    uint32_t n_first;
    char path[64];

    if (n_bytes < sizeof(n_first)) {
        return 0;
    }
    memcpy(&n_first, bytes, sizeof(n_first));
    bytes += sizeof(n_first);
    n_bytes -= sizeof(n_first);
    n_first = n_first < n_bytes ? n_first : (uint32_t)n_bytes;
    make_folder();
    if (n_first >= 4 && memcmp(bytes, "GGUF", 4) == 0) {
        write_file(folder, names[0], bytes, n_first);
        write_file(folder, names[1], bytes + n_first, n_bytes - n_first);
        snprintf(path, sizeof(path), "%s/%s", folder, names[0]);
        use_files(path, n_bytes);
        return 0;
    }
    write_file(folder, names[2], bytes, n_first);
    if (n_first < n_bytes && bytes[n_first] == '{') {
        remove_file(names[3]);
        write_file(folder, names[4], bytes + n_first, n_bytes - n_first);
    } else {
        remove_file(names[4]);
        write_file(folder, names[3], bytes + n_first, n_bytes - n_first);
    }
    use_files(folder, n_bytes);
    return 0;
}
