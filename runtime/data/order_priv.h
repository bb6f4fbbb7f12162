/* Which item comes when: a permutation for each seed, site and epoch. */
#pragma once

#include <stdint.h>

typedef enum ag_order_site { AG_ORDER_PIECES, AG_ORDER_ROWS } ag_order_site_t;

typedef struct ag_order {
    uint64_t seed, epoch, n;
    ag_order_site_t site;
    uint32_t half_bits;
} ag_order_t;

/** Of n items, 1 or more. */
ag_order_t ag_order(uint64_t seed, ag_order_site_t site, uint64_t epoch, uint64_t n);

/** The item that comes as number index, which is below n. */
uint64_t ag_order_at(const ag_order_t *order, uint64_t index);
