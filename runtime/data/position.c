/* Where training stands in the data. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/data/dataset_priv.h"

ag_data_position_t ag_dataset_start(const ag_dataset_t *dataset)
{
    return (ag_data_position_t){.fingerprint = dataset->fingerprint};
}

ag_data_position_t ag_dataset_after(const ag_dataset_t *dataset, ag_data_position_t position,
                                    uint64_t n_rows)
{
    position.row += n_rows;
    position.epoch += position.row / dataset->counts.rows;
    position.row %= dataset->counts.rows;
    return position;
}

ag_status_t ag_dataset_check(const ag_dataset_t *dataset, ag_data_position_t position)
{
    if (position.fingerprint != dataset->fingerprint) {
        return ag_fail(AG_ERR_INVALID,
                       "the checkpoint's place is one in other data, or with another tokenizer, "
                       "chat template, --seq-length, --seed or order: give the same, for training "
                       "goes on in that order, or begin anew");
    }
    if (position.row >= dataset->counts.rows) {
        return ag_fail(AG_ERR_INVALID, "row %llu of %llu: the position is damaged",
                       (unsigned long long)position.row, (unsigned long long)dataset->counts.rows);
    }
    return AG_OK;
}

ag_json_t *ag_data_position_json(ag_data_position_t position)
{
    ag_json_t *json = ag_json_new_object();
    char text[17];

    /* as text: all 64 bits count, and numbers of JSON have 53 */
    snprintf(text, sizeof(text), "%016" PRIx64, position.fingerprint);
    ag_json_set(json, "fingerprint", ag_json_new_string(text, 16));
    ag_json_set(json, "epoch", ag_json_new_integer((int64_t)position.epoch));
    ag_json_set(json, "row", ag_json_new_integer((int64_t)position.row));
    return json;
}

ag_status_t ag_data_position_read(const ag_json_t *json, ag_data_position_t *position_p)
{
    size_t n = 0;
    const char *text = ag_json_string(ag_json_get(json, "fingerprint"), &n);
    int64_t epoch = ag_json_integer(ag_json_get(json, "epoch"), -1);
    int64_t row = ag_json_integer(ag_json_get(json, "row"), -1);

    if (text == NULL || n != 16 || strspn(text, "0123456789abcdef") != 16 || epoch < 0 || row < 0) {
        return ag_fail(AG_ERR_FORMAT, "a position in the data is damaged");
    }
    *position_p = (ag_data_position_t){
        .fingerprint = strtoull(text, NULL, 16), .epoch = (uint64_t)epoch, .row = (uint64_t)row};
    return AG_OK;
}
