#include "read_data.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

void *read_data(const char *name, size_t *n_bytes_p)
{
    char path[512];
    void *bytes = malloc(1 << 16);
    FILE *file;

    snprintf(path, sizeof(path), "%s/dequant/%s", AG_TEST_DATA, name);
    file = fopen(path, "rb");
    cr_assert(file != NULL && bytes != NULL, "%s", path);
    *n_bytes_p = fread(bytes, 1, 1 << 16, file);
    cr_assert(*n_bytes_p > 0 && *n_bytes_p < 1 << 16, "%s", path);
    fclose(file);
    return bytes;
}
