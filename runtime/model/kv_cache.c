#include "runtime/model/kv_cache.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN_BYTES = 64 };

uint64_t ag_kv_pool_bytes(uint32_t n_blocks)
{
    return ((uint64_t)n_blocks + 1) * sizeof(int32_t);
}

ag_status_t ag_kv_pool_init(uint32_t n_blocks, ag_kv_pool_t *pool_p)
{
    ag_kv_pool_t pool = {.n_free = n_blocks, .n_blocks = n_blocks};

    pool.free_blocks = malloc(ag_kv_pool_bytes(n_blocks));
    if (pool.free_blocks == NULL) {
        return ag_fail_nomem("making a KV cache", n_blocks * sizeof(*pool.free_blocks));
    }
    for (uint32_t i = 0; i < n_blocks; i++) {
        pool.free_blocks[i] = (int32_t)(n_blocks - 1 - i);
    }
    *pool_p = pool;
    return AG_OK;
}

void ag_kv_pool_fini(ag_kv_pool_t *pool)
{
    free(pool->free_blocks);
    *pool = (ag_kv_pool_t){0};
}

ag_status_t ag_kv_pool_take(ag_kv_pool_t *pool, uint32_t n, int32_t *blocks)
{
    if (n > pool->n_free) {
        return ag_fail(AG_ERR_BUDGET, "the KV cache has %u of %u blocks free, %u are needed",
                       pool->n_free, pool->n_blocks, n);
    }
    for (uint32_t i = 0; i < n; i++) {
        blocks[i] = pool->free_blocks[--pool->n_free];
    }
    return AG_OK;
}

void ag_kv_pool_give(ag_kv_pool_t *pool, uint32_t n, const int32_t *blocks)
{
    for (uint32_t i = n; i > 0; i--) {
        pool->free_blocks[pool->n_free++] = blocks[i - 1];
    }
}

uint32_t ag_kv_blocks(uint64_t n_tokens)
{
    return (uint32_t)((n_tokens + AG_KV_BLOCK_TOKENS - 1) / AG_KV_BLOCK_TOKENS);
}

/* A layer's cache, not in memory yet. */
static ag_kv_t cache_of(const ag_spec_t *spec, const ag_shard_t *shard, uint32_t layer,
                        ag_dtype_t dtype)
{
    const ag_layer_spec_t *kind = ag_spec_layer(spec, layer);
    const ag_layer_shard_t *held = &shard->layers[spec->kind_of_layer[layer]];
    ag_kv_t kv = {.dtype = dtype,
                  .n_kv_heads = held->kv_end - held->kv_begin,
                  .head_dim = kind->head_dim,
                  .block_tokens = AG_KV_BLOCK_TOKENS};

    if (kind->kv_rank > 0) { /* all heads' keys and values are made of it */
        kv.n_kv_heads = held->head_end > held->head_begin;
        kv.head_dim = kind->kv_rank + kind->rope.rotary;
        kv.value_dim = kind->kv_rank;
    }
    return kv;
}

static uint64_t layer_bytes(const ag_spec_t *spec, const ag_shard_t *shard, uint32_t layer,
                            ag_dtype_t dtype, uint32_t n_blocks)
{
    ag_kv_t kv = cache_of(spec, shard, layer, dtype);
    uint64_t bytes = ag_kv_blocks_bytes(&kv, n_blocks);

    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

uint64_t ag_kv_bytes(const ag_spec_t *spec, const ag_shard_t *shard, uint32_t layer_begin,
                     uint32_t layer_end, ag_dtype_t dtype, uint32_t n_blocks)
{
    uint64_t bytes = 0;

    for (uint32_t layer = layer_begin; layer < layer_end; layer++) {
        bytes += layer_bytes(spec, shard, layer, dtype, n_blocks);
    }
    return bytes;
}

void ag_kv_bind(const ag_spec_t *spec, const ag_shard_t *shard, uint32_t layer_begin,
                uint32_t layer_end, ag_dtype_t dtype, uint32_t n_blocks, unsigned char *memory,
                ag_kv_t *kv)
{
    for (uint32_t layer = layer_begin; layer < layer_end; layer++) {
        kv[layer - layer_begin] = cache_of(spec, shard, layer, dtype);
        kv[layer - layer_begin].blocks = memory;
        memory += layer_bytes(spec, shard, layer, dtype, n_blocks);
    }
}
