#include "runtime/tensor/tensor.h"

#include <stdio.h>
#include <string.h>

uint64_t ag_tensor_elements(const ag_tensor_t *tensor)
{
    uint64_t n = 1;

    for (uint32_t i = 0; i < tensor->n_dims; i++) {
        n *= tensor->dims[i];
    }
    return n;
}

const char *ag_shape_text(uint32_t n_dims, const uint64_t *dims, char *text, size_t n_bytes)
{
    snprintf(text, n_bytes, "(");
    for (uint32_t i = 0; i < n_dims; i++) {
        size_t n_chars = strlen(text);

        snprintf(text + n_chars, n_bytes - n_chars, "%s%llu", i > 0 ? ", " : "",
                 (unsigned long long)dims[i]);
    }
    snprintf(text + strlen(text), n_bytes - strlen(text), ")");
    return text;
}
