#include "runtime/tensor/tensor.h"

#include <stdio.h>

#include "runtime/base/line.h"

const char *ag_shape_text(uint32_t n_dims, const uint64_t *dims, char *text, size_t n_bytes)
{
    snprintf(text, n_bytes, "(");
    for (uint32_t i = 0; i < n_dims; i++) {
        ag_line_append(text, n_bytes, "%s%llu", i > 0 ? ", " : "", (unsigned long long)dims[i]);
    }
    ag_line_append(text, n_bytes, ")");
    return text;
}
