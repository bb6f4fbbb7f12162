/*
 * What a model is: the metadata of a GGUF file, or a config.json alone, whose weights are then
 * drawn. Every weight that is there must have bytes for its shape; every kind of layer is cut.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_file.h"

#include "runtime/model/model.h"
#include "runtime/model/weights.h"

static char folder[] = "/tmp/argosy-fuzz-XXXXXX";
static char config_path[sizeof(folder) + 16];

static void remove_folder(void)
{
    unlink(config_path);
    rmdir(folder);
}

static const char *write_config(const uint8_t *bytes, size_t n_bytes)
{
    if (config_path[0] == '\0') {
        expect(mkdtemp(folder) != NULL);
        snprintf(config_path, sizeof(config_path), "%s/config.json", folder);
        atexit(remove_folder);
    }
    write_file(folder, "config.json", bytes, n_bytes);
    return config_path;
}

static void use_weights(const ag_model_t *model)
{
    ag_array_t weights = AG_ARRAY(ag_weight_t);

    expect(ag_weights_list(model->spec, &weights) == AG_OK);
    for (size_t i = 0; i < weights.n_items; i++) {
        const ag_weight_t *weight = &AG_ITEMS(&weights, ag_weight_t)[i];
        ag_place_in_file_t place;

        if (ag_weight_find(model, weight, &place) != AG_OK) {
            expect_one_line();
            continue;
        }
        expect(place.tensor->bytes >=
               ag_dtype_bytes(place.tensor->dtype,
                              (weight->rows == 0 ? 1 : weight->rows) * weight->cols));
    }
    ag_array_fini(&weights);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    bool is_gguf = n_bytes >= 4 && memcmp(bytes, "GGUF", 4) == 0;
    char path[MEMORY_PATH_BYTES];
    int fd = is_gguf ? memory_file(bytes, n_bytes, path) : -1;
    ag_model_t *model;

    if (ag_model_open(is_gguf ? path : write_config(bytes, n_bytes), &model) != AG_OK) {
        expect_one_line();
    } else {
        use_weights(model);
        for (uint32_t kind = 0; kind < model->spec->n_layer_kinds; kind++) {
            ag_model_units_t units;

            if (ag_model_units(model, kind, &units) != AG_OK) {
                expect_one_line();
            }
        }
        ag_model_close(model);
    }
    if (is_gguf) {
        close(fd);
    }
    return 0;
}
