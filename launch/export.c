#define _GNU_SOURCE
#include "launch/export.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"
#include "runtime/text/export.h"

/* The form that is written is the function's, the source is the model where none is given. */
static ag_status_t create(const ag_model_t *model, ag_weight_source_t *own,
                          const ag_weight_source_t *source, const ag_export_opts_t *opts, bool gguf,
                          ag_export_t **export_p)
{
    ag_export_opts_t mine = *opts;
    ag_export_facts_t facts;
    ag_status_t status;

    *own = ag_model_source(model);
    mine.gguf = gguf;
    status = ag_export_create(model, source != NULL ? source : own, &mine, export_p);
    if (status != AG_OK) {
        return status;
    }
    facts = ag_export_facts(*export_p);
    if (facts.n_fallen_back > 0) {
        ag_log(AG_LOG_WARNING,
               "%llu matrices have rows that are no whole blocks of the type asked for: %s and "
               "such become %s",
               (unsigned long long)facts.n_fallen_back, facts.fallen_name,
               ag_dtype_info(facts.fallen_to)->name);
    }
    return AG_OK;
}

/* Readers want config.json first, so it comes last. */
static ag_status_t write_folder(ag_export_t *export, const ag_model_t *model, ag_folder_t *folder)
{
    ag_json_t *config = NULL;
    ag_status_t status = ag_export_config(export, &config);

    if (status == AG_OK) {
        ag_tokenizer_to_config(model->files, config);
        status = ag_tokenizer_to_folder(model->files, folder);
    }
    if (status == AG_OK) {
        status = ag_export_to_folder(export, folder);
    }
    if (status != AG_OK) {
        ag_json_destroy(config);
        return status;
    }
    return ag_folder_add_json(folder, "config.json", config);
}

ag_status_t ag_export_hf(const ag_model_t *model, const ag_weight_source_t *source,
                         const ag_export_opts_t *opts, const char *dir)
{
    ag_weight_source_t own;
    ag_export_t *export;
    ag_folder_t *folder;
    ag_status_t status = create(model, &own, source, opts, false, &export);

    if (status != AG_OK) {
        return status;
    }
    status = ag_folder_open(dir, &folder);
    if (status == AG_OK) {
        status = write_folder(export, model, folder);
        if (status == AG_OK) {
            status = ag_folder_complete(folder, ag_export_is_old);
        } else {
            ag_folder_discard(folder);
        }
    }
    ag_export_destroy(export);
    return status;
}

/* A folder's name is its model's; a GGUF file says it itself. @return to be freed, or NULL. */
static char *name_of(const ag_model_t *model)
{
    char *path = ag_model_files_gguf(model->files) == NULL
                     ? realpath(ag_model_files_path(model->files), NULL)
                     : NULL;
    char *name = path != NULL && path[1] != '\0' ? strdup(strrchr(path, '/') + 1) : NULL;

    free(path);
    return name;
}

static ag_status_t put_metadata(const ag_export_t *export, const ag_model_t *model,
                                ag_gguf_metadata_t *metadata)
{
    char *name = name_of(model);
    ag_status_t status = ag_export_metadata(export, name, metadata);

    free(name);
    return status == AG_OK ? ag_tokenizer_to_gguf(model->files, model->spec->vocab, metadata)
                           : status;
}

ag_status_t ag_export_gguf(const ag_model_t *model, const ag_weight_source_t *source,
                           const ag_export_opts_t *opts, const char *file)
{
    ag_gguf_metadata_t metadata = AG_GGUF_METADATA;
    ag_weight_source_t own;
    ag_export_t *export;
    ag_aside_t *aside = NULL;
    ag_status_t status = create(model, &own, source, opts, true, &export);

    if (status != AG_OK) {
        return status;
    }
    status = put_metadata(export, model, &metadata);
    if (status == AG_OK) {
        status = ag_aside_open(file, &aside);
    }
    if (status == AG_OK) {
        status = ag_export_to_gguf(export, &metadata, aside);
        if (status == AG_OK) {
            status = ag_aside_complete(aside);
        } else {
            ag_aside_discard(aside);
        }
    }
    ag_gguf_metadata_fini(&metadata);
    ag_export_destroy(export);
    return status;
}
