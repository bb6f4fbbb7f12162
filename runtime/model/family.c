#include "runtime/model/family.h"

#include <stdio.h>

extern const ag_family_t ag_family_llama;

const ag_family_t *const ag_families[] = {
    &ag_family_llama,
    NULL,
};

const char *ag_family_tensor_name(const ag_family_t *family, bool gguf, ag_role_t role,
                                  uint32_t layer, char name[128], ag_transform_t *transform_p)
{
    for (const ag_name_row_t *row = family->names; row->hf != NULL || row->gguf != NULL; row++) {
        const char *pattern = gguf ? row->gguf : row->hf;

        if (row->role == role && pattern != NULL) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            snprintf(name, 128, pattern, layer); /* our own tables' patterns: one %u at most */
#pragma GCC diagnostic pop
            *transform_p = gguf ? row->gguf_transform : AG_TRANSFORM_NONE;
            return name;
        }
    }
    return NULL;
}
