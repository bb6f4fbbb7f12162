#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/model/export_priv.h"
#include "runtime/model/params.h"
#include "runtime/model/transform.h"

#define TINY AG_TEST_DATA "/tiny/llama"
#define MIXTRAL AG_TEST_DATA "/tiny/mixtral"

static ag_model_t *open_model(const char *path)
{
    ag_model_t *model;

    cr_assert_eq(ag_model_open(path, &model), AG_OK, "%s", ag_error());
    return model;
}

Test(transform, storing_undoes_loading_and_moves_rows_within_their_heads)
{
    for (uint32_t head_dim = 2; head_dim <= 12; head_dim += 2) {
        bool seen[48] = {false};

        cr_expect_eq(ag_transform_rows(AG_TRANSFORM_UNPERMUTE_ROPE, head_dim), head_dim);
        for (uint64_t r = 0; r < 4 * head_dim; r++) {
            uint64_t at = ag_transform_load(AG_TRANSFORM_UNPERMUTE_ROPE, head_dim, r);

            cr_expect_eq(at / head_dim, r / head_dim);
            cr_expect_eq(ag_transform_store(AG_TRANSFORM_UNPERMUTE_ROPE, head_dim, at), r);
            cr_expect_eq(ag_transform_store(AG_TRANSFORM_NONE, head_dim, r), r);
            cr_expect(!seen[at]);
            seen[at] = true;
        }
    }
    /* a head of 4: halves (0 1)(2 3) stand in the file as pairs (0 2)(1 3) */
    cr_expect_eq(ag_transform_store(AG_TRANSFORM_UNPERMUTE_ROPE, 4, 1), 2);
}

Test(weights, the_list_is_what_the_files_hold_and_each_is_found)
{
    static const char *const paths[] = {TINY, MIXTRAL, AG_TEST_DATA "/variants/bias"};

    for (size_t p = 0; p < sizeof(paths) / sizeof(*paths); p++) {
        ag_model_t *model = open_model(paths[p]);
        ag_array_t weights = AG_ARRAY(ag_weight_t);
        uint64_t elements = 0, in_files = 0;
        const ag_model_tensor_t *tensors;
        size_t n;

        cr_assert_eq(ag_weights_list(model->spec, &weights), AG_OK);
        for (size_t i = 0; i < weights.n_items; i++) {
            const ag_weight_t *weight = &AG_ITEMS(&weights, ag_weight_t)[i];
            ag_place_in_file_t place;

            cr_assert_eq(ag_weight_find(model, weight, &place), AG_OK, "%s", ag_error());
            elements += (weight->rows > 0 ? weight->rows : 1) * weight->cols;
        }
        tensors = ag_model_files_tensors(model->files, &n);
        for (size_t i = 0; i < n; i++) {
            in_files += tensors[i].bytes / ag_dtype_bytes(tensors[i].dtype, 1);
        }
        cr_expect_eq(elements, in_files, "%s", paths[p]);
        ag_array_fini(&weights);
        ag_model_close(model);
    }
}

/* Weights of which every element says whose it is; rows must be asked for in order. */
typedef struct made {
    ag_weight_t last;
    uint64_t next_row;
    unsigned n_weights, n_unordered, fails_at;
} made_t;

static float element(const ag_weight_t *weight, uint64_t row, uint64_t col)
{
    return (float)weight->role + (float)weight->layer * 0.125f + (float)weight->expert * 0.0625f +
           (float)(row % 64) * 64 + (float)(col % 8) * 0.0078125f;
}

static ag_status_t make_rows(void *arg, const ag_weight_t *weight, uint64_t begin, uint64_t n,
                             void *rows)
{
    made_t *made = arg;
    float *values = rows;

    if (begin == 0) {
        made->n_weights++;
        made->next_row = 0;
        made->last = *weight;
    }
    made->n_unordered += begin != made->next_row || made->last.role != weight->role ||
                         made->last.layer != weight->layer || made->last.expert != weight->expert;
    made->next_row = begin + n;
    if (made->fails_at > 0 && made->n_weights == made->fails_at) {
        return ag_fail(AG_ERR_PEER, "rank 3 is gone");
    }
    for (uint64_t r = 0; r < n; r++) {
        for (uint64_t c = 0; c < weight->cols; c++) {
            values[r * weight->cols + c] = element(weight, begin + r, c);
        }
    }
    return AG_OK;
}

static void make_place(char *path)
{
    strcpy(path, "/tmp/argosy_export_XXXXXX");
    cr_assert_not_null(mkdtemp(path));
}

/* Remove a folder of files. @return how many there were. */
static unsigned clear(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    unsigned n = 0;

    cr_assert_not_null(folder);
    while ((entry = readdir(folder)) != NULL) {
        n += unlinkat(dirfd(folder), entry->d_name, 0) == 0;
    }
    closedir(folder);
    cr_expect_eq(rmdir(path), 0);
    return n;
}

static ag_status_t write_folder(const ag_model_t *model, const ag_weight_source_t *source,
                                const ag_export_opts_t *opts, const char *path)
{
    ag_export_t *export;
    ag_folder_t *folder;
    ag_json_t *config;
    ag_status_t status;

    cr_assert_eq(ag_export_create(model, source, opts, &export), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_folder_open(path, &folder), AG_OK, "%s", ag_error());
    status = ag_export_to_folder(export, folder);
    if (status == AG_OK) {
        cr_assert_eq(ag_export_config(export, &config), AG_OK, "%s", ag_error());
        cr_assert_eq(ag_folder_add_json(folder, "config.json", config), AG_OK);
        cr_assert_eq(ag_folder_complete(folder, ag_export_is_old), AG_OK, "%s", ag_error());
    } else {
        ag_folder_discard(folder);
    }
    ag_export_destroy(export);
    return status;
}

/* What the model has is what was made. */
static void expect_made(const char *path)
{
    ag_model_t *model = open_model(path);
    ag_weight_source_t source = ag_model_source(model);
    ag_array_t weights = AG_ARRAY(ag_weight_t);

    cr_assert_eq(ag_weights_list(model->spec, &weights), AG_OK);
    for (size_t i = 0; i < weights.n_items; i++) {
        const ag_weight_t *weight = &AG_ITEMS(&weights, ag_weight_t)[i];
        uint64_t n_rows = weight->rows > 0 ? weight->rows : 1;
        float *rows = malloc(n_rows * weight->cols * sizeof(float));

        cr_assert_eq(source.dtype(source.arg, weight), AG_F32);
        cr_assert_eq(source.read(source.arg, weight, 0, n_rows, rows), AG_OK, "%s", ag_error());
        for (uint64_t k = 0; k < n_rows * weight->cols; k++) {
            cr_assert_eq(rows[k], element(weight, k / weight->cols, k % weight->cols),
                         "role %d, layer %u, expert %u, element %llu", (int)weight->role,
                         weight->layer, weight->expert, (unsigned long long)k);
        }
        free(rows);
    }
    ag_array_fini(&weights);
    ag_model_close(model);
}

Test(export, weights_of_any_source_become_a_folder_of_one_file_or_of_several)
{
    static const char *const models[] = {TINY, MIXTRAL};

    for (int m = 0; m < 2; m++) {
        ag_model_t *model = open_model(models[m]);

        for (uint64_t shard_bytes = 0; shard_bytes <= 60000; shard_bytes += 60000) {
            made_t made = {.n_unordered = 0};
            ag_weight_source_t source = {.arg = &made, .read = make_rows};
            ag_export_opts_t opts = {.shard_bytes = shard_bytes, .dtype = AG_F32};
            char path[64];
            unsigned n_files;

            make_place(path);
            cr_assert_eq(write_folder(model, &source, &opts, path), AG_OK, "%s", ag_error());
            cr_expect_eq(made.n_unordered, 0);
            expect_made(path);
            n_files = clear(path);
            cr_expect(shard_bytes == 0 ? n_files == 2 : n_files > 4, "%u files", n_files);
        }
        ag_model_close(model);
    }
}

Test(export, a_folder_that_is_written_again_holds_the_new_model_alone)
{
    ag_model_t *model = open_model(TINY);
    made_t made = {.n_unordered = 0};
    ag_weight_source_t source = {.arg = &made, .read = make_rows};
    char path[64];

    make_place(path);
    cr_assert_eq(write_folder(model, &source, &(ag_export_opts_t){.shard_bytes = 60000}, path),
                 AG_OK);
    made = (made_t){.fails_at = 5};
    cr_expect_eq(write_folder(model, &source, &(ag_export_opts_t){0}, path), AG_ERR_PEER);
    cr_expect_str_eq(ag_error(), "rank 3 is gone");
    expect_made(path);
    made = (made_t){.n_unordered = 0};
    cr_assert_eq(write_folder(model, &source, &(ag_export_opts_t){0}, path), AG_OK);
    expect_made(path);
    cr_expect_eq(clear(path), 2);
    ag_model_close(model);
}

static void write_gguf(const ag_model_t *model, const ag_weight_source_t *source,
                       const ag_export_opts_t *opts, const char *path)
{
    ag_gguf_metadata_t metadata = AG_GGUF_METADATA;
    ag_export_t *export;
    ag_aside_t *aside;

    cr_assert_eq(ag_export_create(model, source, opts, &export), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_export_metadata(export, "name", &metadata), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_aside_open(path, &aside), AG_OK);
    cr_assert_eq(ag_export_to_gguf(export, &metadata, aside), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_aside_complete(aside), AG_OK, "%s", ag_error());
    ag_gguf_metadata_fini(&metadata);
    ag_export_destroy(export);
}

Test(export, weights_of_any_source_become_a_gguf_file)
{
    static const char *const models[] = {TINY, MIXTRAL, AG_TEST_DATA "/variants/bias"};

    for (int m = 0; m < 3; m++) {
        ag_model_t *model = open_model(models[m]), *again;
        made_t made = {.n_unordered = 0};
        ag_weight_source_t source = {.arg = &made, .read = make_rows};
        char path[64], file[80];

        make_place(path);
        snprintf(file, sizeof(file), "%s/m.gguf", path);
        write_gguf(model, &source, &(ag_export_opts_t){.gguf = true, .dtype = AG_F32}, file);
        cr_expect_eq(made.n_unordered, 0);
        expect_made(file);
        again = open_model(file);
        cr_expect_str_eq(again->family->name, model->family->name);
        cr_expect_eq(again->spec->context_tokens, model->spec->context_tokens);
        cr_expect_eq(again->spec->norm_eps, model->spec->norm_eps);
        cr_expect_eq(again->spec->layer_kinds[0].q_bias, model->spec->layer_kinds[0].q_bias);
        ag_model_close(again);
        clear(path);
        ag_model_close(model);
    }
}

static bool is_asked(void *arg)
{
    unsigned *n = arg;

    return (*n)++ == 3;
}

static void count_progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
    uint64_t *last = arg;

    cr_expect_gt(done_bytes, *last);
    cr_expect_leq(done_bytes, all_bytes);
    *last = done_bytes;
}

Test(export, it_tells_how_far_it_is_and_stops_when_asked)
{
    ag_model_t *model = open_model(TINY);
    ag_weight_source_t source = ag_model_source(model);
    uint64_t last = 0;
    unsigned n_asked = 0;
    ag_cancel_t cancel = {.is_asked = is_asked, .arg = &n_asked};
    ag_export_opts_t opts = {
        .keeps_types = true, .progress = count_progress, .progress_arg = &last};
    char path[64];

    make_place(path);
    cr_assert_eq(write_folder(model, &source, &opts, path), AG_OK);
    cr_expect_eq(clear(path), 2);
    opts.cancel = &cancel;
    opts.progress = NULL;
    cr_expect_eq(write_folder(model, &source, &opts, path), AG_ERR_INTERRUPTED);
    cr_expect_neq(access(path, F_OK), 0, "the folder was made, and is gone");
    ag_model_close(model);
}

/* The divisors that a GGUF file lists are those of the rope that config.json then names. */
static void expect_rope(double base, uint32_t head_dim, double factor, double low, double high,
                        uint32_t context)
{
    ag_rope_spec_t rope = {.kind = AG_ROPE_LLAMA3,
                           .base = base,
                           .rotary = head_dim,
                           .factor = factor,
                           .low_freq_factor = low,
                           .high_freq_factor = high,
                           .original_context_tokens = context},
                   named;
    float wanted[64], divided[64], *factors;
    ag_spec_t spec = {.layer_kinds = {{.rope = rope, .inverse_freq = wanted}}};
    ag_rope_spec_t *own = &spec.layer_kinds[0].rope;
    ag_model_t model = {.spec = &spec};

    ag_rope_frequencies(&rope, NULL, wanted);
    cr_assert_eq(ag_export_rope_factors(&model, &factors), AG_OK);
    cr_assert_not_null(factors);
    own->kind = AG_ROPE_DEFAULT;
    ag_rope_frequencies(own, factors, divided);
    for (uint32_t i = 0; i < head_dim / 2; i++) { /* not every float is a quotient of another */
        cr_expect_float_eq(divided[i], wanted[i], 1.2e-7f * wanted[i], "frequency %u", i);
    }

    cr_assert_eq(ag_export_rope(&model, &named), AG_OK, "%s", ag_error());
    cr_expect_eq(named.kind, AG_ROPE_LLAMA3);
    cr_expect_eq(named.factor, factor);
    ag_rope_frequencies(&named, NULL, divided);
    for (uint32_t i = 0; i < head_dim / 2; i++) {
        cr_expect_float_eq(divided[i], wanted[i], 2e-6f * wanted[i], "base %g, frequency %u", base,
                           i);
    }
    factors[0] = 3; /* the shortest wavelength divided: no such rope does that */
    *own = (ag_rope_spec_t){.base = base, .rotary = head_dim};
    ag_rope_frequencies(own, factors, wanted);
    cr_expect_eq(ag_export_rope(&model, &named), AG_ERR_UNSUPPORTED);
    free(factors);
}

Test(export, ropes_of_listed_divisors_are_named_and_the_reverse)
{
    expect_rope(500000, 128, 8, 1, 4, 8192); /* Llama 3.1 */
    expect_rope(500000, 64, 32, 1, 4, 8192); /* Llama 3.2 */
    expect_rope(500000, 128, 16, 1, 2, 8192);
    expect_rope(10000, 128, 4, 2, 8, 1000);
    expect_rope(10000, 8, 8, 1, 4, 32);
}
