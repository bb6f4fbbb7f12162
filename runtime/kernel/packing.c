#include "runtime/kernel/packing.h"

#include <string.h>

#include "runtime/kernel/kernel_priv.h"
#include "runtime/kernel/r16_priv.h"

static bool rows_can(ag_dtype_t dtype, uint64_t cols)
{
    return cols % ag_dtype_info(dtype)->block_elements == 0;
}

static uint64_t rows_bytes(ag_dtype_t dtype, uint64_t cols)
{
    return ag_dtype_bytes(dtype, cols);
}

static void rows_pack(ag_dtype_t dtype, const unsigned char *const *rows, uint64_t cols,
                      unsigned char *group)
{
    memcpy(group, rows[0], ag_dtype_bytes(dtype, cols));
}

static void rows_unpack(ag_dtype_t dtype, const unsigned char *group, uint64_t cols, uint32_t row,
                        float *dst)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);

    (void)row;
    info->unpack(group, dst, cols / info->block_elements);
}

static const ag_packing_info_t packings[AG_N_PACKINGS] = {
    [AG_PACKING_ROWS] = {"rows", 1, AG_PANEL_COLUMNS, rows_can, rows_bytes, rows_pack, rows_unpack},
    [AG_PACKING_R16] = {"r16", AG_R16_ROWS, AG_R16_ROWS, ag_r16_can, ag_r16_group_bytes,
                        ag_r16_pack, ag_r16_unpack},
};

const ag_packing_info_t *ag_packing_info(ag_packing_t packing)
{
    return &packings[packing];
}

ag_packing_t ag_packing_choose(ag_dtype_t dtype, uint64_t cols)
{
    return ag_r16_can(dtype, cols) ? AG_PACKING_R16 : AG_PACKING_ROWS;
}

uint64_t ag_packing_bytes(ag_packing_t packing, ag_dtype_t dtype, uint64_t rows, uint64_t cols)
{
    const ag_packing_info_t *info = ag_packing_info(packing);
    uint64_t n_groups = rows / info->group_rows + (rows % info->group_rows != 0);

    return n_groups * info->group_bytes(dtype, cols);
}

void ag_packing_unpack_row(ag_packing_t packing, ag_dtype_t dtype, const void *weight,
                           uint64_t cols, uint64_t row, float *dst)
{
    const ag_packing_info_t *info = ag_packing_info(packing);
    uint64_t group = row / info->group_rows;

    if (cols > 0) { /* a weight without columns may be NULL */
        info->unpack(dtype, (const unsigned char *)weight + group * info->group_bytes(dtype, cols),
                     cols, (uint32_t)(row % info->group_rows), dst);
    }
}
