#include "runtime/kernel/gemm.h"

#include <dnnl.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { FORMS_PER_THREAD = 96 };

typedef struct entry {
    ag_gemm_form_t form;
    uint64_t last_used; /* 0: empty */
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
} entry_t;

typedef struct thread_cache {
    entry_t entries[FORMS_PER_THREAD];
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

/* a (m, k), b (k, n), c (m, n) */
static dnnl_status_t describe(const ag_gemm_form_t *form, dnnl_memory_desc_t *a,
                              dnnl_memory_desc_t *b, dnnl_memory_desc_t *c)
{
    dnnl_dim_t m = (dnnl_dim_t)form->m, n = (dnnl_dim_t)form->n, k = (dnnl_dim_t)form->k;
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(
        a, 2, (dnnl_dims_t){m, k}, types[form->kind].a, form->a_by_columns ? dnnl_ba : dnnl_ab);

    if (status == dnnl_success) {
        status = dnnl_memory_desc_init_by_tag(b, 2, (dnnl_dims_t){k, n}, types[form->kind].b,
                                              form->b_by_columns ? dnnl_ba : dnnl_ab);
    }
    return status != dnnl_success
               ? status
               : dnnl_memory_desc_init_by_tag(c, 2, (dnnl_dims_t){m, n},
                                              form->c_rounded ? dnnl_bf16 : types[form->kind].c,
                                              dnnl_ab);
}

/* @param attr_p  out: what the product is added to; NULL for nothing. */
static dnnl_status_t describe_sum(const ag_gemm_form_t *form, dnnl_primitive_attr_t *attr_p)
{
    dnnl_post_ops_t sum = NULL;
    dnnl_status_t status;

    *attr_p = NULL;
    if (!form->add) {
        return dnnl_success;
    }
    status = dnnl_primitive_attr_create(attr_p);
    if (status == dnnl_success) {
        status = dnnl_post_ops_create(&sum);
    }
    if (status == dnnl_success) {
        status = dnnl_post_ops_append_sum(sum, 1.0f);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_attr_set_post_ops(*attr_p, sum);
    }
    dnnl_post_ops_destroy(sum);
    return status;
}

static dnnl_status_t describe_product(dnnl_engine_t engine, const ag_gemm_form_t *form,
                                      const dnnl_memory_desc_t *a, const dnnl_memory_desc_t *b,
                                      const dnnl_memory_desc_t *c, dnnl_primitive_desc_t *desc_p)
{
    dnnl_primitive_attr_t attr;
    dnnl_matmul_desc_t matmul;
    dnnl_status_t status = describe_sum(form, &attr);

    if (status == dnnl_success) {
        status = dnnl_matmul_desc_init(&matmul, a, b, NULL, c);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_desc_create(desc_p, &matmul, attr, engine, NULL);
    }
    dnnl_primitive_attr_destroy(attr);
    return status;
}

/* @param fast_p  out: whether a tuned implementation was found. */
static dnnl_status_t build_entry(dnnl_engine_t engine, const ag_gemm_form_t *form, entry_t *entry,
                                 bool *fast_p)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_primitive_desc_t desc;
    const char *implementation = "";
    dnnl_status_t status = describe(form, &a, &b, &c);

    if (status == dnnl_success) {
        status = describe_product(engine, form, &a, &b, &c, &desc);
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
    entry->form = *form;
    if (dnnl_memory_create(&entry->a, &a, engine, DNNL_MEMORY_NONE) != dnnl_success ||
        dnnl_memory_create(&entry->b, &b, engine, DNNL_MEMORY_NONE) != dnnl_success ||
        dnnl_memory_create(&entry->c, &c, engine, DNNL_MEMORY_NONE) != dnnl_success) {
        entry->last_used = 1;
        drop_entry(entry);
        return dnnl_out_of_memory;
    }
    return dnnl_success;
}

static bool same_form(const ag_gemm_form_t *a, const ag_gemm_form_t *b)
{
    return a->kind == b->kind && a->m == b->m && a->n == b->n && a->k == b->k &&
           a->a_by_columns == b->a_by_columns && a->b_by_columns == b->b_by_columns &&
           a->add == b->add && a->c_rounded == b->c_rounded;
}

static ag_status_t find_entry(ag_gemm_cache_t *cache, thread_cache_t *thread,
                              const ag_gemm_form_t *form, entry_t **entry_p)
{
    entry_t *oldest = &thread->entries[0];
    dnnl_status_t status;
    bool fast;

    thread->n_calls++;
    for (int i = 0; i < FORMS_PER_THREAD; i++) {
        entry_t *entry = &thread->entries[i];

        if (entry->last_used > 0 && same_form(&entry->form, form)) {
            entry->last_used = thread->n_calls;
            *entry_p = entry;
            return AG_OK;
        }
        oldest = entry->last_used < oldest->last_used ? entry : oldest;
    }
    drop_entry(oldest);
    status = build_entry(cache->engine, form, oldest, &fast);
    if (status != dnnl_success) {
        return ag_fail(status == dnnl_out_of_memory ? AG_ERR_NOMEM : AG_ERR_UNSUPPORTED,
                       "oneDNN has no product of (%llu, %llu) and (%llu, %llu): status %d",
                       (unsigned long long)form->m, (unsigned long long)form->k,
                       (unsigned long long)form->k, (unsigned long long)form->n, (int)status);
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
        ag_gemm_form_t form = {
            .kind = (ag_gemm_kind_t)kind, .b_by_columns = true, .m = 64, .n = 64, .k = 64};
        entry_t entry = {0};

        if (build_entry(cache->engine, &form, &entry, &cache->fast[kind]) == dnnl_success) {
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
        for (int i = 0; i < FORMS_PER_THREAD; i++) {
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

ag_status_t ag_gemm_run(ag_gemm_cache_t *cache, unsigned thread, const ag_gemm_form_t *form,
                        const void *a, const void *b, void *c)
{
    thread_cache_t *mine = &cache->threads[thread];
    entry_t *entry = NULL;
    dnnl_exec_arg_t args[3];
    ag_status_t status;

    if (!mine->omp_is_set) {
        omp_set_num_threads(1); /* of the calling thread: our team's threads work side by side */
        mine->omp_is_set = true;
    }
    status = find_entry(cache, mine, form, &entry);
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

ag_status_t ag_gemm(ag_gemm_cache_t *cache, unsigned thread, ag_gemm_kind_t kind, uint64_t m,
                    uint64_t n, uint64_t k, const void *a, const void *b, void *c)
{
    ag_gemm_form_t form = {.kind = kind, .b_by_columns = true, .m = m, .n = n, .k = k};

    return ag_gemm_run(cache, thread, &form, a, b, c);
}
