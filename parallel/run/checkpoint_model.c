/* Whose checkpoint it is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parallel/run/checkpoint.h"

static int by_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const ag_stored_tensor_t *)tensor)->name);
}

/* What differs of tensors; where nothing does it is a setting, or a weight that training began
 * with. */
static void tell_difference(const ag_checkpoint_t *checkpoint, const ag_saved_tensor_t *tensors,
                            size_t n_tensors, char *text, size_t n_bytes)
{
    size_t n_stored;
    const ag_stored_tensor_t *all = ag_checkpoint_tensors(checkpoint, &n_stored);

    for (size_t i = 0; i < n_tensors; i++) {
        const ag_saved_tensor_t *own = &tensors[i];
        const ag_stored_tensor_t *stored =
            n_stored > 0 ? bsearch(own->name, all, n_stored, sizeof(*all), by_name) : NULL;

        if (stored == NULL) {
            snprintf(text, n_bytes, "it has no %s", own->name);
            return;
        }
        if (stored->rows != own->rows || stored->cols != own->cols) {
            snprintf(text, n_bytes, "its %s is (%llu, %llu), the model's is (%llu, %llu)",
                     own->name, (unsigned long long)stored->rows, (unsigned long long)stored->cols,
                     (unsigned long long)own->rows, (unsigned long long)own->cols);
            return;
        }
    }
    if (n_stored > n_tensors) {
        snprintf(text, n_bytes, "it has %zu tensors, the model %zu", n_stored, n_tensors);
    } else {
        snprintf(text, n_bytes,
                 "its tensors have the same shapes, but training began with other weights or "
                 "settings (rope, norms, ..): give the --model that it began with");
    }
}

ag_status_t ag_checkpoint_check_model(const ag_checkpoint_t *checkpoint, const char *spec_hash,
                                      const ag_saved_tensor_t *tensors, size_t n_tensors)
{
    char difference[4 * AG_SAVED_NAME_BYTES];

    if (strcmp(ag_checkpoint_spec_hash(checkpoint), spec_hash) == 0) {
        return AG_OK;
    }
    tell_difference(checkpoint, tensors, n_tensors, difference, sizeof(difference));
    return ag_fail(AG_ERR_INVALID, "%s is a checkpoint of another model: %s",
                   ag_checkpoint_folder(checkpoint), difference);
}
