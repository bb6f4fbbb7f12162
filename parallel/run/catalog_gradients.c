/* The gradients of a step as a safetensors file. */
#include <stdlib.h>

#include "parallel/run/catalog.h"
#include "parallel/run/job_priv.h"
#include "runtime/file/tensor_writer.h"

enum { BLOCK_FLOATS = 1 << 20 };

static ag_status_t declare(const ag_catalog_t *catalog, ag_tensor_writer_t *writer)
{
    size_t n;
    const ag_catalog_tensor_t *tensors = ag_catalog_tensors(catalog, &n);
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n && status == AG_OK; i++) {
        uint64_t dims[2] = {tensors[i].rows, tensors[i].cols};
        bool vector = tensors[i].weight.rows == 0;

        status = ag_tensor_writer_add(writer, tensors[i].name, AG_F32, vector ? 1 : 2,
                                      vector ? dims + 1 : dims);
    }
    return status;
}

static ag_status_t write_tensor(ag_catalog_t *catalog, size_t number,
                                const ag_catalog_tensor_t *tensor, ag_tensor_writer_t *writer)
{
    uint64_t most = BLOCK_FLOATS / tensor->cols > 0 ? BLOCK_FLOATS / tensor->cols : 1;
    float *rows;
    ag_status_t status = AG_OK;

    most = most < tensor->rows ? most : tensor->rows;
    rows = malloc(most * tensor->cols * sizeof(*rows) + 1);
    if (rows == NULL) {
        return ag_fail_nomem(tensor->name, most * tensor->cols * sizeof(*rows));
    }
    for (uint64_t begin = 0; begin < tensor->rows && status == AG_OK; begin += most) {
        uint64_t n = tensor->rows - begin < most ? tensor->rows - begin : most;

        status = ag_catalog_read(catalog, AG_STATE_GRADIENT, number, begin, n, rows);
        if (status == AG_OK) {
            status = ag_tensor_writer_write(writer, rows, n * tensor->cols * sizeof(*rows));
        }
    }
    free(rows);
    return status;
}

static ag_status_t write_file(ag_catalog_t *catalog, ag_aside_t *aside)
{
    size_t n;
    const ag_catalog_tensor_t *tensors = ag_catalog_tensors(catalog, &n);
    ag_tensor_writer_t *writer;
    ag_status_t status = ag_tensor_writer_create(aside, NULL, &writer);

    if (status != AG_OK) {
        return status;
    }
    status = declare(catalog, writer);
    for (size_t i = 0; i < n && status == AG_OK; i++) {
        status = write_tensor(catalog, i, &tensors[i], writer);
    }
    if (status == AG_OK) {
        status = ag_tensor_writer_end(writer);
    }
    ag_tensor_writer_destroy(writer);
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
