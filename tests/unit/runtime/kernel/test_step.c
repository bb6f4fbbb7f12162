/* Some rows of a step are a step. */
#include <criterion/criterion.h>

#include "runtime/kernel/step.h"

enum { N = 7, N_SEQUENCES = 3, STRIDE = 2 };

static const int32_t tokens[N] = {10, 11, 12, 13, 14, 15, 16};
static const int32_t positions[N] = {4, 5, 0, 7, 8, 9, 10};
static const int32_t row_begin[N_SEQUENCES + 1] = {0, 2, 3, 7};
static const int32_t tables[N_SEQUENCES * STRIDE] = {0, 1, 2, 3, 4, 5};
static const ag_step_t step = {.counts = {1, N, 2, N_SEQUENCES},
                               .tokens = tokens,
                               .positions = positions,
                               .row_begin = row_begin,
                               .outputs = (const int32_t[]){1, 6},
                               .block_tables = tables,
                               .table_stride = STRIDE};

/* Each row keeps its token, its position and its sequence's blocks; sequences keep their order. */
Test(step, any_rows_keep_what_they_are)
{
    for (uint64_t begin = 0; begin <= N; begin++) {
        for (uint64_t end = begin; end <= N; end++) {
            int32_t begins[N_SEQUENCES + 1];
            ag_step_t rows = ag_step_rows(&step, begin, end, begins);
            uint64_t row = begin;

            cr_assert_eq(rows.counts[AG_COUNT_TOKENS], end - begin);
            cr_expect_eq(rows.counts[AG_COUNT_ONE], 1);
            cr_expect_eq(rows.counts[AG_COUNT_OUTPUTS], 0);
            cr_assert_leq(rows.counts[AG_COUNT_SEQUENCES], N_SEQUENCES);
            cr_expect_eq(rows.row_begin[0], 0);
            cr_expect_eq((uint64_t)rows.row_begin[rows.counts[AG_COUNT_SEQUENCES]], end - begin);
            for (uint64_t s = 0; s < rows.counts[AG_COUNT_SEQUENCES]; s++) {
                cr_expect_lt(rows.row_begin[s], rows.row_begin[s + 1]);
                for (int32_t r = rows.row_begin[s]; r < rows.row_begin[s + 1]; r++, row++) {
                    int32_t whole = row < 2 ? 0 : row < 3 ? 1 : 2;

                    cr_expect_eq(rows.tokens[r], tokens[row]);
                    cr_expect_eq(rows.positions[r], positions[row]);
                    cr_expect_eq(rows.block_tables[s * rows.table_stride], tables[whole * STRIDE]);
                }
            }
            cr_expect_eq(row, end);
        }
    }
}
