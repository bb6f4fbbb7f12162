#include "runtime/kernel/gemm.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPES_PER_THREAD = 96 };

typedef struct shape {
    ag_gemm_kind_t kind;
    uint64_t m, n, k;
} shape_t;

typedef struct entry {
    shape_t shape;
    uint64_t last_used; /* 0: empty */
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
} entry_t;

typedef struct thread_cache {
    entry_t entries[SHAPES_PER_THREAD];
    uint64_t n_calls;
    dnnl_stream_t stream;
    bool omp_is_set;
} thread_cache_t;

struct ag_gemm_cache {
    dnnl_engine_t engine;
    bool fast[AG_N_GEMM_KINDS];
    unsigned n_threads;
    thread_cache_t *threads; /* (n_threads) */
};

static const struct {
    dnnl_data_type_t a, b, c;
} types[AG_N_GEMM_KINDS] = {
    [AG_GEMM_F32] = {dnnl_f32, dnnl_f32, dnnl_f32},
    [AG_GEMM_BF16] = {dnnl_bf16, dnnl_bf16, dnnl_f32},
    [AG_GEMM_INT8] = {dnnl_u8, dnnl_s8, dnnl_s32},
};

static void drop_entry(entry_t *entry)
{
    if (entry->last_used > 0) {
        dnnl_primitive_destroy(entry->primitive);
        dnnl_memory_destroy(entry->a);
        dnnl_memory_destroy(entry->b);
        dnnl_memory_destroy(entry->c);
        *entry = (entry_t){0};
    }
}

/* a (m, k), b as (k, n) with k running fastest, c (m, n) */
static dnnl_status_t describe(const shape_t *shape, dnnl_memory_desc_t *a, dnnl_memory_desc_t *b,
                              dnnl_memory_desc_t *c)
{
    dnnl_dim_t m = (dnnl_dim_t)shape->m, n = (dnnl_dim_t)shape->n, k = (dnnl_dim_t)shape->k;
    dnnl_status_t status =
        dnnl_memory_desc_init_by_tag(a, 2, (dnnl_dims_t){m, k}, types[shape->kind].a, dnnl_ab);

    if (status == dnnl_success) {
        status =
            dnnl_memory_desc_init_by_tag(b, 2, (dnnl_dims_t){k, n}, types[shape->kind].b, dnnl_ba);
    }
    return status != dnnl_success ? status
                                  : dnnl_memory_desc_init_by_tag(c, 2, (dnnl_dims_t){m, n},
                                                                 types[shape->kind].c, dnnl_ab);
}

/* @param fast_p  out: whether a tuned implementation was found. */
static dnnl_status_t build_entry(dnnl_engine_t engine, const shape_t *shape, entry_t *entry,
                                 bool *fast_p)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t matmul;
    dnnl_primitive_desc_t desc;
    const char *implementation = "";
    dnnl_status_t status = describe(shape, &a, &b, &c);

    if (status == dnnl_success) {
        status = dnnl_matmul_desc_init(&matmul, &a, &b, NULL, &c);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_desc_create(&desc, &matmul, NULL, engine, NULL);
    }
    if (status != dnnl_success) {
        return status;
    }
    dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &implementation);
    *fast_p = strncmp(implementation, "brg", 3) == 0 || strncmp(implementation, "jit", 3) == 0 ||
              strncmp(implementation, "gemm:jit", 8) == 0;
    status = dnnl_primitive_create(&entry->primitive, desc);
    dnnl_primitive_desc_destroy(desc);
    if (status != dnnl_success) {
        return status;
    }
    entry->shape = *shape;
    if (dnnl_memory_create(&entry->a, &a, engine, DNNL_MEMORY_NONE) != dnnl_success ||
        dnnl_memory_create(&entry->b, &b, engine, DNNL_MEMORY_NONE) != dnnl_success ||
        dnnl_memory_create(&entry->c, &c, engine, DNNL_MEMORY_NONE) != dnnl_success) {
        entry->last_used = 1;
        drop_entry(entry);
        return dnnl_out_of_memory;
    }
    return dnnl_success;
}

static bool same_shape(const shape_t *a, const shape_t *b)
{
    return a->kind == b->kind && a->m == b->m && a->n == b->n && a->k == b->k;
}

static ag_status_t find_entry(ag_gemm_cache_t *cache, thread_cache_t *thread, const shape_t *shape,
                              entry_t **entry_p)
{
    entry_t *oldest = &thread->entries[0];
    dnnl_status_t status;
    bool fast;

    thread->n_calls++;
    for (int i = 0; i < SHAPES_PER_THREAD; i++) {
        entry_t *entry = &thread->entries[i];

        if (entry->last_used > 0 && same_shape(&entry->shape, shape)) {
            entry->last_used = thread->n_calls;
            *entry_p = entry;
            return AG_OK;
        }
        oldest = entry->last_used < oldest->last_used ? entry : oldest;
    }
    drop_entry(oldest);
    status = build_entry(cache->engine, shape, oldest, &fast);
    if (status != dnnl_success) {
        return ag_fail(status == dnnl_out_of_memory ? AG_ERR_NOMEM : AG_ERR_UNSUPPORTED,
                       "oneDNN has no product of (%llu, %llu) and (%llu, %llu)^T: status %d",
                       (unsigned long long)shape->m, (unsigned long long)shape->k,
                       (unsigned long long)shape->n, (unsigned long long)shape->k, (int)status);
    }
    oldest->last_used = thread->n_calls;
    *entry_p = oldest;
    return AG_OK;
}

ag_status_t ag_gemm_cache_create(unsigned n_threads, ag_gemm_cache_t **cache_p)
{
    ag_gemm_cache_t *cache = calloc(1, sizeof(*cache));

    if (cache == NULL) {
        return ag_fail_nomem("making a cache of products", sizeof(*cache));
    }
    cache->threads = calloc(n_threads, sizeof(*cache->threads));
    if (cache->threads == NULL) {
        free(cache);
        return ag_fail_nomem("making a cache of products", n_threads * sizeof(thread_cache_t));
    }
    if (dnnl_engine_create(&cache->engine, dnnl_cpu, 0) != dnnl_success) {
        free(cache->threads);
        free(cache);
        return ag_fail(AG_ERR_UNSUPPORTED, "oneDNN does not start on this machine");
    }
    for (; cache->n_threads < n_threads; cache->n_threads++) {
        if (dnnl_stream_create(&cache->threads[cache->n_threads].stream, cache->engine,
                               dnnl_stream_default_flags) != dnnl_success) {
            ag_gemm_cache_destroy(cache);
            return ag_fail_nomem("making a cache of products", sizeof(thread_cache_t));
        }
    }
    for (int kind = 0; kind < AG_N_GEMM_KINDS; kind++) {
        shape_t shape = {.kind = (ag_gemm_kind_t)kind, .m = 64, .n = 64, .k = 64};
        entry_t entry = {0};

        if (build_entry(cache->engine, &shape, &entry, &cache->fast[kind]) == dnnl_success) {
            entry.last_used = 1;
            drop_entry(&entry);
        } else {
            cache->fast[kind] = false;
        }
    }
    *cache_p = cache;
    return AG_OK;
}

void ag_gemm_cache_destroy(ag_gemm_cache_t *cache)
{
    if (cache == NULL) {
        return;
    }
    for (unsigned t = 0; t < cache->n_threads; t++) {
        for (int i = 0; i < SHAPES_PER_THREAD; i++) {
            drop_entry(&cache->threads[t].entries[i]);
        }
        dnnl_stream_destroy(cache->threads[t].stream);
    }
    dnnl_engine_destroy(cache->engine);
    free(cache->threads);
    free(cache);
}

bool ag_gemm_is_fast(const ag_gemm_cache_t *cache, ag_gemm_kind_t kind)
{
    return cache->fast[kind];
}

ag_status_t ag_gemm(ag_gemm_cache_t *cache, unsigned thread, ag_gemm_kind_t kind, uint64_t m,
                    uint64_t n, uint64_t k, const void *a, const void *b, void *c)
{
    thread_cache_t *mine = &cache->threads[thread];
    shape_t shape = {.kind = kind, .m = m, .n = n, .k = k};
    entry_t *entry = NULL;
    dnnl_exec_arg_t args[3];
    ag_status_t status;

    if (!mine->omp_is_set) {
        omp_set_num_threads(1); /* of the calling thread: our team's threads work side by side */
        mine->omp_is_set = true;
    }
    status = find_entry(cache, mine, &shape, &entry);
    if (status != AG_OK) {
        return status;
    }
    dnnl_memory_set_data_handle(entry->a, (void *)a);
    dnnl_memory_set_data_handle(entry->b, (void *)b);
    dnnl_memory_set_data_handle(entry->c, c);
    args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, entry->a};
    args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, entry->b};
    args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, entry->c};
    if (dnnl_primitive_execute(entry->primitive, mine->stream, 3, args) != dnnl_success ||
        dnnl_stream_wait(mine->stream) != dnnl_success) {
        return ag_fail(AG_ERR_UNSUPPORTED, "oneDNN fails to compute a product");
    }
    return AG_OK;
}
