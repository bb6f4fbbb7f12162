/* The gradients of a step as a safetensors file. */
#include "parallel/run/catalog.h"
#include "parallel/run/job_priv.h"

static ag_status_t write_file(ag_catalog_t *catalog, ag_aside_t *aside)
{
    ag_weight_source_t source = ag_catalog_gradients(catalog);
    ag_export_t *export;
    ag_status_t status =
        ag_export_create(ag_catalog_job(catalog)->opts.build->model, &source,
                         &(ag_export_opts_t){.dtype = AG_F32, .are_gradients = true}, &export);

    if (status == AG_OK) {
        status = ag_export_to_safetensors(export, aside);
        ag_export_destroy(export);
    }
    return status;
}

static ag_status_t save(ag_catalog_t *catalog, const char *path)
{
    ag_aside_t *aside;
    ag_status_t status = ag_aside_open(path, &aside);

    if (status != AG_OK) {
        return status;
    }
    status = write_file(catalog, aside);
    if (status != AG_OK) {
        ag_aside_discard(aside);
        return status;
    }
    return ag_aside_complete(aside);
}

ag_status_t ag_catalog_save_gradients(ag_catalog_t *catalog, const char *path)
{
    const ag_job_opts_t *opts = &ag_catalog_job(catalog)->opts;
    ag_status_t status, ended;

    if (opts->net->rank != 0) {
        status = ag_catalog_serve(catalog);
    } else {
        status = save(catalog, path);
        ended = ag_catalog_end(catalog); /* the others wait, also where the disk is full */
        status = status == AG_OK ? ended : status;
    }
    return ag_agree(opts->net, &opts->idle, status, NULL);
}
