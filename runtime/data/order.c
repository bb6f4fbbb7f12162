/*
 * Permutations that need no memory: a Feistel network whose round function is Philox, walked until
 * it falls within the range (Black, Rogaway, "Ciphers with arbitrary finite domains", 2002).
 */
#include "runtime/base/philox.h"
#include "runtime/data/order_priv.h"

enum { N_ROUNDS = 6, LEAST_HALF_BITS = 3, KEY = 0x64617461 };

static uint64_t permute(const ag_order_t *order, uint64_t index)
{
    /* not the key that weights are drawn with from the same seed */
    const uint32_t key[2] = {(uint32_t)order->seed, (uint32_t)(order->seed >> 32) ^ KEY};
    uint32_t mask = (uint32_t)((1ull << order->half_bits) - 1);
    uint32_t left = (uint32_t)(index >> order->half_bits), right = (uint32_t)index & mask;

    for (uint32_t round = 0; round < N_ROUNDS; round++) {
        const uint32_t counter[4] = {right, order->site * N_ROUNDS + round, (uint32_t)order->epoch,
                                     (uint32_t)(order->epoch >> 32)};
        uint32_t words[4], next;

        ag_philox(key, counter, words);
        next = left ^ (words[0] & mask);
        left = right;
        right = next;
    }
    return (uint64_t)left << order->half_bits | right;
}

ag_order_t ag_order(uint64_t seed, ag_order_site_t site, uint64_t epoch, uint64_t n)
{
    ag_order_t order = {
        .seed = seed, .epoch = epoch, .n = n, .site = site, .half_bits = LEAST_HALF_BITS};

    while (order.half_bits < 32 && n > 1ull << 2 * order.half_bits) {
        order.half_bits++;
    }
    return order;
}

uint64_t ag_order_at(const ag_order_t *order, uint64_t index)
{
    do {
        index = permute(order, index);
    } while (index >= order->n);
    return index;
}
