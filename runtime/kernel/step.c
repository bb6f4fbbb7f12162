#include "runtime/kernel/step.h"

static int32_t clamp(int64_t row, uint64_t begin, uint64_t end)
{
    int64_t within = row < (int64_t)begin ? (int64_t)begin
                     : row > (int64_t)end ? (int64_t)end
                                          : row;

    return (int32_t)(within - (int64_t)begin);
}

ag_step_t ag_step_rows(const ag_step_t *step, uint64_t begin, uint64_t end, int32_t *row_begin)
{
    uint64_t first = 0, n = 0;

    while (first < step->counts[AG_COUNT_SEQUENCES] &&
           step->row_begin[first + 1] <= (int64_t)begin) {
        first++;
    }
    row_begin[0] = 0;
    while (begin < end && first + n < step->counts[AG_COUNT_SEQUENCES] &&
           step->row_begin[first + n] < (int64_t)end) {
        n++;
        row_begin[n] = clamp(step->row_begin[first + n], begin, end);
    }
    return (ag_step_t){
        .counts = {[AG_COUNT_ONE] = 1, [AG_COUNT_TOKENS] = end - begin, [AG_COUNT_SEQUENCES] = n},
        .tokens = step->tokens + begin,
        .positions = step->positions + begin,
        .row_begin = row_begin,
        .block_tables = step->block_tables + first * step->table_stride,
        .table_stride = step->table_stride};
}
