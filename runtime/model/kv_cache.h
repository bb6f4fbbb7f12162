/* The KV cache of one rank: blocks of positions, handed to sequences and taken back. */
#pragma once

#include "runtime/model/model.h"

/* Which blocks are free; the same on every rank, kept by the driver alone. */
typedef struct ag_kv_pool {
    int32_t *free_blocks; /* a stack */
    uint32_t n_free;
    uint32_t n_blocks;
} ag_kv_pool_t;

ag_status_t ag_kv_pool_init(uint32_t n_blocks, ag_kv_pool_t *pool_p);
void ag_kv_pool_fini(ag_kv_pool_t *pool);

/** Bytes that a pool of so many blocks takes. */
uint64_t ag_kv_pool_bytes(uint32_t n_blocks);

/** Take n blocks. @return AG_OK; AG_ERR_BUDGET: fewer are free, none was taken. */
ag_status_t ag_kv_pool_take(ag_kv_pool_t *pool, uint32_t n, int32_t *blocks);
void ag_kv_pool_give(ag_kv_pool_t *pool, uint32_t n, const int32_t *blocks);

/** Blocks that n_tokens positions need. */
uint32_t ag_kv_blocks(uint64_t n_tokens);

/** Bytes of the layers' caches that a rank holds: n_blocks in each of layers [begin, end). */
uint64_t ag_kv_bytes(const ag_spec_t *spec, const ag_shard_t *shard, uint32_t layer_begin,
                     uint32_t layer_end, ag_dtype_t dtype, uint32_t n_blocks);

/** Lay the layers' caches out in memory of ag_kv_bytes(). @param kv  out: (layer_end -
 * layer_begin). */
void ag_kv_bind(const ag_spec_t *spec, const ag_shard_t *shard, uint32_t layer_begin,
                uint32_t layer_end, ag_dtype_t dtype, uint32_t n_blocks, unsigned char *memory,
                ag_kv_t *kv);
