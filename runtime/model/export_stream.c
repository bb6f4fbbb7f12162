/*
 * Weights from their source into files, a few rows at a time:
 *
 *     for each tensor of the file, for each weight in it
 *         for each block of rows, whole heads
 *             read them; where the type changes, each thread its share: unpack, look whether it
 *                 can be held, pack
 *             write them in the file's order
 *
 * Where type and values stay the bytes do: rows may move, their encoding is along them. Where heads
 * are turned, their values are packed anew; where those of two weights take turns in a tensor, or
 * it is written by its columns, it is put together in memory.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/model/export_priv.h"
#include "runtime/model/transform.h"

enum { BLOCK_BYTES = 4 << 20, LARGEST_F16 = 65504 };

typedef struct stream {
    ag_export_t *export;
    ag_tensor_writer_t *writer;
    const ag_export_tensor_t *tensor;
    ag_weight_t weight;
    ag_dtype_t from;
    uint64_t n_rows, n_cols; /* a vector is one row */
    uint64_t most_rows;      /* of a block */
    unsigned char *rows, *packed;
    float *values, *turned;
    unsigned char *whole; /* what is put together before it is written, else NULL: of a tensor that
                             is written by its columns, or whose rows or heads take turns */
    uint64_t done_rows;   /* of it */
} stream_t;

static bool is_turned(const stream_t *stream)
{
    return stream->tensor->transform == AG_TRANSFORM_TURN_HEADS;
}

/* The first value of some rows that the type cannot hold; NULL: none is. Scales are float16. */
static const float *beyond_type(const stream_t *stream, const float *values, uint64_t n)
{
    if (stream->tensor->dtype == AG_F32 || stream->tensor->dtype == AG_BF16) {
        return NULL;
    }
    for (uint64_t i = 0; i < n; i++) {
        if (!(fabsf(values[i]) <= LARGEST_F16)) {
            return &values[i];
        }
    }
    return NULL;
}

/* A block that all threads convert, each its share of the rows. */
typedef struct conversion {
    const stream_t *stream;
    uint64_t n_rows;
    _Atomic(const float *) bad; /* the value that comes first of those found */
} conversion_t;

/* Heads of (head_rows, n_cols) to (n_cols, head_rows), behind one another. */
static const float *turn_heads(const stream_t *stream, const float *values, uint64_t begin,
                               uint64_t n_values)
{
    uint64_t n_cols = stream->n_cols, n_rows = stream->tensor->head_dim;
    float *turned = stream->turned + begin * n_cols;

    for (uint64_t head = 0; head < n_values; head += n_rows * n_cols) {
        for (uint64_t r = 0; r < n_rows; r++) {
            for (uint64_t c = 0; c < n_cols; c++) {
                turned[head + c * n_rows + r] = values[head + r * n_cols + c];
            }
        }
    }
    return turned;
}

static void convert_share(void *arg, const ag_worker_t *worker)
{
    conversion_t *conversion = arg;
    const stream_t *stream = conversion->stream;
    const ag_dtype_info_t *from = ag_dtype_info(stream->from);
    const ag_dtype_info_t *to = ag_dtype_info(stream->tensor->dtype);
    float offset = ag_transform_offset(stream->tensor->transform);
    uint64_t begin, end, n_values;
    uint64_t together = ag_transform_rows(stream->tensor->transform, stream->tensor->head_dim);
    const float *bad, *known = NULL, *packed;
    float *values;

    ag_worker_share(worker, conversion->n_rows, together, &begin, &end);
    values = stream->values + begin * stream->n_cols;
    n_values = (end - begin) * stream->n_cols;
    from->unpack(stream->rows + ag_dtype_bytes(stream->from, begin * stream->n_cols), values,
                 n_values / from->block_elements);
    for (uint64_t i = 0; offset != 0 && i < n_values; i++) {
        values[i] -= offset;
    }
    bad = beyond_type(stream, values, n_values);
    while (bad != NULL && (known == NULL || bad < known) &&
           !atomic_compare_exchange_weak(&conversion->bad, &known, bad)) {
    }
    if (bad == NULL) {
        packed = is_turned(stream) ? turn_heads(stream, values, begin, n_values) : values;
        to->pack(packed,
                 stream->packed + ag_dtype_bytes(stream->tensor->dtype, begin * stream->n_cols),
                 n_values / to->block_elements);
    }
}

/* The block in the file's type; its rows as they came. */
static ag_status_t convert_block(const stream_t *stream, uint64_t begin, uint64_t n,
                                 const unsigned char **block_p)
{
    conversion_t conversion = {.stream = stream, .n_rows = n};
    const float *bad;

    *block_p = stream->rows;
    if (stream->from == stream->tensor->dtype && !is_turned(stream) &&
        ag_transform_offset(stream->tensor->transform) == 0) {
        return AG_OK;
    }
    *block_p = stream->packed;
    if (stream->export->opts.team != NULL) {
        ag_team_run(stream->export->opts.team, convert_share, &conversion);
    } else {
        convert_share(&conversion, &(ag_worker_t){.n_threads = 1});
    }
    bad = atomic_load(&conversion.bad);
    if (bad == NULL) {
        return AG_OK;
    }
    return ag_fail(AG_ERR_FORMAT,
                   "tensor %s holds %g in row %llu, which type %s cannot: bf16 and f32 can",
                   stream->tensor->name, (double)*bad,
                   (unsigned long long)(begin + (uint64_t)(bad - stream->values) / stream->n_cols),
                   ag_dtype_info(stream->tensor->dtype)->name);
}

/* Rows of a matrix, or elements of a vector, in the order of the file. */
static ag_status_t write_moved(const stream_t *stream, const unsigned char *block, uint64_t n,
                               uint64_t item_bytes)
{
    ag_status_t status = AG_OK;

    for (uint64_t i = 0; i < n && status == AG_OK; i++) { /* whole heads: they stay in the block */
        uint64_t at = ag_transform_store(stream->tensor->transform, stream->tensor->head_dim, i);

        status = ag_tensor_writer_write(stream->writer, block + at * item_bytes, item_bytes);
    }
    return status;
}

static ag_status_t write_block(const stream_t *stream, const unsigned char *block, uint64_t n)
{
    ag_dtype_t dtype = stream->tensor->dtype;
    uint64_t row_bytes = ag_dtype_bytes(dtype, stream->n_cols);

    if (stream->whole != NULL) {
        memcpy(stream->whole + stream->done_rows * row_bytes, block, n * row_bytes);
        return AG_OK;
    }
    if (!ag_transform_moves(stream->tensor->transform)) {
        return ag_tensor_writer_write(stream->writer, block, n * row_bytes);
    }
    return stream->weight.rows == 0
               ? write_moved(stream, block, stream->n_cols, ag_dtype_bytes(dtype, 1))
               : write_moved(stream, block, n, row_bytes);
}

static ag_status_t do_block(stream_t *stream, uint64_t begin, uint64_t n)
{
    ag_export_t *export = stream->export;
    const ag_weight_source_t *source = export->source;
    const unsigned char *block;
    ag_status_t status = ag_cancel_is_asked(export->opts.cancel)
                             ? ag_fail(AG_ERR_INTERRUPTED, "interrupted while writing weights")
                             : source->read(source->arg, &stream->weight, begin, n, stream->rows);

    if (status == AG_OK) {
        status = convert_block(stream, begin, n, &block);
    }
    if (status == AG_OK) {
        status = write_block(stream, block, n);
        stream->done_rows += n;
    }
    export->done_bytes += ag_dtype_bytes(stream->tensor->dtype, n * stream->n_cols);
    if (status == AG_OK && export->opts.progress != NULL) {
        export->opts.progress(export->opts.progress_arg, export->done_bytes, export->facts.bytes);
    }
    return status;
}

static void release(stream_t *stream)
{
    free(stream->rows);
    free(stream->packed);
    free(stream->values);
    free(stream->turned);
    stream->rows = stream->packed = NULL;
    stream->values = stream->turned = NULL;
}

static ag_status_t take_room(stream_t *stream)
{
    uint64_t n = stream->most_rows * stream->n_cols;

    stream->rows = malloc(ag_dtype_bytes(stream->from, n) + 1);
    stream->packed = malloc(ag_dtype_bytes(stream->tensor->dtype, n) + 1);
    stream->values = malloc(n * sizeof(float) + 1);
    stream->turned = is_turned(stream) ? malloc(n * sizeof(float) + 1) : NULL;
    if (stream->rows == NULL || stream->packed == NULL || stream->values == NULL ||
        (is_turned(stream) && stream->turned == NULL)) {
        return ag_fail_nomem(stream->tensor->name, n * sizeof(float));
    }
    return AG_OK;
}

/* Rows of a block: whole heads. */
static uint64_t rows_together(uint64_t n_rows, uint64_t n_cols, uint64_t head_rows)
{
    uint64_t most = BLOCK_BYTES / sizeof(float) / n_cols / head_rows * head_rows;

    most = most > head_rows ? most : head_rows;
    return most < n_rows ? most : n_rows;
}

uint64_t ag_export_bytes(const ag_spec_t *spec)
{
    enum { N_COPIES = 5 }; /* of a block: the source's, as it came, as values, turned, packed */
    ag_array_t weights = AG_ARRAY(ag_weight_t);
    uint64_t most = 0;

    if (ag_weights_list(spec, &weights) != AG_OK) {
        return 0;
    }
    for (size_t i = 0; i < weights.n_items; i++) {
        const ag_weight_t *weight = &AG_ITEMS(&weights, ag_weight_t)[i];
        uint64_t n_rows = weight->rows > 0 ? weight->rows : 1;
        uint64_t n = rows_together(n_rows, weight->cols, 1) * weight->cols;

        most = n > most ? n : most;
    }
    ag_array_fini(&weights);
    return N_COPIES * most * sizeof(float);
}

static ag_status_t do_weight(stream_t *stream)
{
    const ag_weight_source_t *source = stream->export->source;
    uint64_t together = ag_transform_rows(stream->tensor->transform, stream->tensor->head_dim);
    ag_status_t status;

    stream->from = source->dtype != NULL ? source->dtype(source->arg, &stream->weight) : AG_F32;
    stream->n_rows = stream->weight.rows > 0 ? stream->weight.rows : 1;
    stream->n_cols = stream->weight.cols;
    stream->most_rows = rows_together(stream->n_rows, stream->n_cols, together);
    status = take_room(stream);
    for (uint64_t begin = 0; begin < stream->n_rows && status == AG_OK;
         begin += stream->most_rows) {
        uint64_t left = stream->n_rows - begin;

        status = do_block(stream, begin, left < stream->most_rows ? left : stream->most_rows);
    }
    release(stream);
    return status;
}

static ag_status_t do_others(stream_t *stream)
{
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < stream->tensor->n_others && status == AG_OK; i++) {
        uint32_t expert = stream->weight.expert;

        stream->weight = stream->tensor->others[i];
        stream->weight.expert = expert;
        status = do_weight(stream);
    }
    return status;
}

/* The weights of a tensor, one after the other. */
static ag_status_t do_weights(stream_t *stream)
{
    const ag_export_tensor_t *tensor = stream->tensor;
    ag_status_t status;

    stream->weight = tensor->weight;
    status = do_weight(stream);
    for (uint32_t e = 1; e < tensor->n_experts && status == AG_OK; e++) {
        stream->weight.expert = e;
        status = do_weight(stream);
    }
    return status == AG_OK ? do_others(stream) : status;
}

/* What of a tensor is put together before it is written: all, or an expert's part. */
static ag_status_t write_whole(const stream_t *stream)
{
    const ag_export_tensor_t *tensor = stream->tensor;
    uint64_t cols = tensor->weight.rows > 0 ? tensor->weight.cols : 1;
    uint64_t n_bytes = ag_export_tensor_bytes(tensor) / (tensor->n_experts ? tensor->n_experts : 1);
    uint64_t element = ag_dtype_bytes(tensor->dtype, 1), rows = n_bytes / element / cols;
    unsigned char *line = malloc(rows * element + 1);
    ag_status_t status = line != NULL ? AG_OK : ag_fail_nomem(tensor->name, rows * element);

    for (uint64_t c = 0; c < cols && status == AG_OK; c++) {
        for (uint64_t r = 0; r < rows; r++) {
            uint64_t at = ag_place_turned(r, tensor->by_turns ? rows / 2 : 0);

            memcpy(line + at * element, stream->whole + (r * cols + c) * element, element);
        }
        status = ag_tensor_writer_write(stream->writer, line, rows * element);
    }
    free(line);
    return status;
}

/* Each row's place is counted as if all of the first weight's came before the second's. */
static ag_status_t write_by_heads(const stream_t *stream)
{
    const ag_head_rows_t *heads = &stream->tensor->heads;
    uint64_t row_bytes = ag_dtype_bytes(stream->tensor->dtype, stream->tensor->dims[1]);
    uint64_t at[2] = {0, (uint64_t)heads->n_heads * heads->n[0]};
    ag_status_t status = AG_OK;

    for (uint32_t i = 0; i < 2 * heads->n_heads && status == AG_OK; i++) {
        uint64_t n = heads->n[i % 2];

        status = ag_tensor_writer_write(stream->writer, stream->whole + at[i % 2] * row_bytes,
                                        n * row_bytes);
        at[i % 2] += n;
    }
    return status;
}

/* An expert's part of a tensor, or all of it. */
static ag_status_t do_whole(stream_t *stream, uint32_t expert)
{
    bool by_heads = stream->tensor->heads.n_heads > 0;
    ag_status_t status;

    stream->done_rows = 0;
    stream->weight = stream->tensor->weight;
    stream->weight.expert = expert;
    status = do_weight(stream);
    if (status == AG_OK) {
        status = do_others(stream);
    }
    return status == AG_OK ? (by_heads ? write_by_heads : write_whole)(stream) : status;
}

static ag_status_t do_tensor(stream_t *stream)
{
    const ag_export_tensor_t *tensor = stream->tensor;
    uint32_t n_parts = tensor->n_experts > 0 ? tensor->n_experts : 1;
    uint64_t n_bytes = ag_export_tensor_bytes(tensor) / n_parts;
    ag_status_t status = AG_OK;

    if (tensor->transform != AG_TRANSFORM_TRANSPOSE && !tensor->by_turns &&
        tensor->heads.n_heads == 0) {
        return do_weights(stream);
    }
    stream->whole = malloc(n_bytes + 1);
    if (stream->whole == NULL) {
        return ag_fail_nomem(tensor->name, n_bytes);
    }
    for (uint32_t e = 0; e < n_parts && status == AG_OK; e++) {
        status = do_whole(stream, e);
    }
    free(stream->whole);
    return status;
}

ag_status_t ag_export_stream(ag_export_t *export, size_t begin, size_t end,
                             ag_tensor_writer_t *writer)
{
    const ag_export_tensor_t *tensors = AG_ITEMS(&export->tensors, ag_export_tensor_t);
    ag_status_t status = AG_OK;

    for (size_t i = begin; i < end && status == AG_OK; i++) {
        status = ag_tensor_writer_add(writer, tensors[i].name, tensors[i].dtype, tensors[i].n_dims,
                                      tensors[i].dims);
    }
    for (size_t i = begin; i < end && status == AG_OK; i++) {
        stream_t stream = {.export = export, .writer = writer, .tensor = &tensors[i]};

        if (ag_export_is_rope(&tensors[i])) {
            bool second = tensors[i].weight.role == AG_ROLE_ROPE_FACTORS_LONG;

            status = ag_tensor_writer_write(
                writer, export->rope_factors + (second ? tensors[i].weight.cols : 0),
                ag_export_tensor_bytes(&tensors[i]));
            continue;
        }
        status = do_tensor(&stream);
    }
    return status == AG_OK ? ag_tensor_writer_end(writer) : status;
}
