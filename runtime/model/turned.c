#include "runtime/model/turned.h"

#include <string.h>

enum { ALIGN_BYTES = 64 };

/* A row of the tensor: as it is encoded, decoded, in the type that is asked for. */
typedef struct line {
    unsigned char *encoded;
    float *values;
    unsigned char *elements;
} line_t;

ag_dtype_t ag_turned_dtype(const ag_model_tensor_t *tensor, bool exact)
{
    bool is_plain = tensor->dtype == AG_F16 || tensor->dtype == AG_BF16;

    return exact || tensor->dtype == AG_F32 ? AG_F32 : is_plain ? tensor->dtype : AG_F16;
}

static uint64_t align_up(uint64_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static uint64_t split_room(const ag_turned_t *turned, unsigned char *room, line_t *line)
{
    uint64_t encoded = align_up(ag_dtype_bytes(turned->tensor->dtype, turned->head_rows));
    uint64_t values = align_up(turned->head_rows * sizeof(float));

    if (line != NULL) {
        *line = (line_t){.encoded = room,
                         .values = (float *)(void *)(room + encoded),
                         .elements = room + encoded + values};
    }
    return encoded + 2 * values;
}

uint64_t ag_turned_room_bytes(const ag_turned_t *turned)
{
    return split_room(turned, NULL, NULL);
}

/* Row `row` of the tensor, as its rows are counted. */
static ag_status_t read_line(const ag_model_files_t *files, const ag_turned_t *turned,
                             ag_dtype_t dtype, uint64_t row, line_t *line)
{
    const ag_dtype_info_t *from = ag_dtype_info(turned->tensor->dtype);
    uint64_t n_bytes = ag_dtype_bytes(turned->tensor->dtype, turned->head_rows);
    ag_status_t status =
        ag_model_files_read(files, turned->tensor, ag_head_rows_load(&turned->heads, row) * n_bytes,
                            n_bytes, line->encoded);

    if (status == AG_OK) {
        from->unpack(line->encoded, line->values, turned->head_rows / from->block_elements);
        ag_dtype_info(dtype)->pack(line->values, line->elements, turned->head_rows);
    }
    return status;
}

ag_status_t ag_turned_read(const ag_model_files_t *files, const ag_turned_t *turned,
                           ag_dtype_t dtype, uint64_t begin, uint64_t n, unsigned char *room,
                           unsigned char *rows)
{
    uint64_t element = ag_dtype_bytes(dtype, 1), row_bytes = element * turned->n_cols;
    uint64_t n_here;
    line_t line;

    split_room(turned, room, &line);
    for (uint64_t done = 0; done < n; done += n_here) {
        uint64_t head = (begin + done) / turned->head_rows;
        uint64_t first = (begin + done) % turned->head_rows;

        n_here = turned->head_rows - first < n - done ? turned->head_rows - first : n - done;
        for (uint64_t c = 0; c < turned->n_cols; c++) {
            ag_status_t status = read_line(files, turned, dtype, head * turned->n_cols + c, &line);

            if (status != AG_OK) {
                return status;
            }
            for (uint64_t i = 0; i < n_here; i++) {
                memcpy(rows + (done + i) * row_bytes + c * element,
                       line.elements + (first + i) * element, element);
            }
        }
    }
    return AG_OK;
}
