#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device_lazy.h"
#include "runtime/model/params.h"
#include "runtime/tensor/half.h"

#define TINY AG_TEST_DATA "/tiny/llama"

/* Load with a team of so many threads. @param cancel  may be NULL. */
static ag_status_t load_unless(ag_params_t *params, const ag_model_t *model, unsigned n_threads,
                               const ag_cancel_t *cancel, unsigned char *memory)
{
    ag_device_t *device;
    ag_team_t *team;
    ag_status_t status;

    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = n_threads, .spin_us = 1}, &team),
                 AG_OK);
    cr_assert_eq(ag_device_cpu_open(team, NULL, &device), AG_OK);
    status = ag_params_load(params, model, team, cancel, device, memory);
    ag_device_close(device);
    ag_team_destroy(team);
    return status;
}

static ag_status_t load(ag_params_t *params, const ag_model_t *model, unsigned n_threads,
                        unsigned char *memory)
{
    return load_unless(params, model, n_threads, NULL, memory);
}

/* Into the memory of a device that keeps it to itself, and from there: the params' data are here.
 */
static ag_status_t load_by_copies(ag_params_t *params, const ag_model_t *model, unsigned n_threads,
                                  unsigned char *memory)
{
    ag_region_t region = {0};
    ag_device_t *device;
    ag_team_t *team;
    ag_ledger_t *ledger;
    ag_status_t status;

    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = n_threads, .spin_us = 1}, &team),
                 AG_OK);
    cr_assert_eq(ag_ledger_create(0, &ledger), AG_OK);
    cr_assert_eq(ag_device_lazy_open(team, ledger, NULL, &device), AG_OK);
    cr_assert_eq(device->ops->alloc(device, "weights", params->bytes, 0, &region), AG_OK);
    status = ag_params_load(params, model, team, NULL, device, region.base);
    cr_assert_eq(device->ops->copy_out(device, 0, memory, region.base, params->bytes), AG_OK);
    cr_assert_eq(ag_device_finish(device, 0), AG_OK);
    for (size_t i = 0; i < params->items.n_items; i++) {
        AG_ITEMS(&params->held, ag_graph_param_t)
        [i].data = memory + AG_ITEMS(&params->items, ag_param_t)[i].offset_bytes;
    }
    device->ops->free(device, &region);
    ag_device_close(device);
    ag_ledger_destroy(ledger);
    ag_team_destroy(team);
    return status;
}

Test(params, a_slice_asked_for_twice_is_held_once_and_a_wrong_shape_is_named)
{
    ag_model_t *model;
    ag_params_t params;
    ag_slice_t slice = {.rows = 307, .cols = 72, .row_begin = 64, .row_end = 128, .col_end = 72};
    int32_t first, second;

    cr_assert_eq(ag_model_open(TINY, &model), AG_OK, "%s", ag_error());
    ag_params_init(&params, true);
    cr_assert_eq(ag_params_add(&params, model, AG_ROLE_EMBED, 0, &slice, &first), AG_OK);
    cr_assert_eq(ag_params_add(&params, model, AG_ROLE_EMBED, 0, &slice, &second), AG_OK);
    cr_expect_eq(first, second);
    cr_expect_eq(params.bytes, 64 * 72 * sizeof(float));
    slice.rows = 308;
    cr_expect_eq(ag_params_add(&params, model, AG_ROLE_EMBED, 0, &slice, &second), AG_ERR_FORMAT);
    cr_expect(strstr(ag_error(), "(307, 72)") && strstr(ag_error(), "(308, 72)"), "%s", ag_error());
    ag_params_fini(&params);
    ag_model_close(model);
}

/* (rows, cols) floats of a slice, unpacked from how it is held; free() them. */
static float *load_slice(const ag_model_t *model, ag_role_t role, const ag_slice_t *slice,
                         bool exact, ag_packing_t packing)
{
    uint64_t n_rows = slice->row_end - slice->row_begin;
    float *rows = malloc(n_rows * slice->cols * sizeof(float));
    ag_slice_t looked_up = *slice;
    const ag_graph_param_t *held;
    unsigned char *memory;
    ag_params_t params;
    int32_t first, second;

    looked_up.is_looked_up = true;
    ag_params_init(&params, exact);
    cr_assert_eq(ag_params_add(&params, model, role, 0, &looked_up, &first), AG_OK, "%s",
                 ag_error());
    cr_assert_eq(ag_params_add(&params, model, role, 0, slice, &second), AG_OK);
    cr_assert_eq(first, second);
    memory = aligned_alloc(64, params.bytes);
    cr_assert(memory != NULL && rows != NULL);
    cr_assert_eq(load(&params, model, 2, memory), AG_OK, "%s", ag_error());
    held = ag_params_held(&params);
    cr_assert_eq(held->packing, packing);
    for (uint64_t i = 0; i < n_rows; i++) {
        ag_packing_unpack_row(held->packing, held->dtype, held->data, slice->cols, i,
                              rows + i * slice->cols);
    }
    free(memory);
    ag_params_fini(&params);
    return rows;
}

/* Of tables, and of query rows, which some files hold in another order. */
Test(params, a_slice_that_a_linear_layer_shares_is_packed_and_keeps_its_rows)
{
    static const char *const files[] = {"gguf_q8_0/model.gguf", "gguf_q4_0/model.gguf",
                                        "gguf_f16_linear/model.gguf", "gguf_k/model.gguf"};

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[512];
        ag_model_t *model;

        snprintf(path, sizeof(path), AG_TEST_DATA "/variants/%s", files[i]);
        cr_assert_eq(ag_model_open(path, &model), AG_OK, "%s", ag_error());
        for (int q = 0; q < 2; q++) {
            const ag_layer_spec_t *layer = ag_spec_layer(model->spec, 0);
            uint64_t heads = layer->n_heads * (uint64_t)layer->head_dim;
            uint64_t rows = q == 1 ? heads : model->spec->vocab;
            ag_slice_t slice = {.rows = rows,
                                .cols = model->spec->hidden,
                                .row_begin = q == 1 ? layer->head_dim : 5,
                                .row_end = rows,
                                .col_end = model->spec->hidden};
            ag_role_t role = q == 1 ? AG_ROLE_Q : AG_ROLE_EMBED;
            float *packed = load_slice(model, role, &slice, false, AG_PACKING_R16);
            float *exact = load_slice(model, role, &slice, true, AG_PACKING_ROWS);

            cr_expect_eq(
                memcmp(packed, exact, (rows - slice.row_begin) * slice.cols * sizeof(float)), 0,
                "%s, role %d", files[i], (int)role);
            free(packed);
            free(exact);
        }
        ag_model_close(model);
    }
}

/* A column slice has just its columns: compared with the whole tensor. */
Test(params, columns_and_rows_of_a_slice_are_those_of_the_tensor)
{
    ag_model_t *model;
    ag_params_t params;
    ag_slice_t whole = {.rows = 72, .cols = 187, .row_end = 72, .col_end = 187};
    ag_slice_t part = {
        .rows = 72, .cols = 187, .row_begin = 3, .row_end = 70, .col_begin = 64, .col_end = 187};
    int32_t a, b;
    unsigned char *memory;

    cr_assert_eq(ag_model_open(TINY, &model), AG_OK, "%s", ag_error());
    ag_params_init(&params, true);
    cr_assert_eq(ag_params_add(&params, model, AG_ROLE_DOWN, 1, &whole, &a), AG_OK);
    cr_assert_eq(ag_params_add(&params, model, AG_ROLE_DOWN, 1, &part, &b), AG_OK);
    memory = malloc(params.bytes);
    cr_assert_not_null(memory);
    cr_assert_eq(load(&params, model, 2, memory), AG_OK, "%s", ag_error());
    for (uint64_t row = 3; row < 70; row++) {
        const float *x = (const float *)ag_params_held(&params)[a].data + row * 187 + 64;
        const float *y = (const float *)ag_params_held(&params)[b].data + (row - 3) * 123;

        cr_expect_eq(memcmp(x, y, 123 * sizeof(float)), 0, "row %lu", (unsigned long)row);
    }
    free(memory);
    ag_params_fini(&params);
    ag_model_close(model);
}

/* What a rank may hold: tables, heads whose rows are moved, columns, vectors. */
static void add_slices(const ag_model_t *model, ag_params_t *params)
{
    const ag_layer_spec_t *layer = ag_spec_layer(model->spec, 0);
    uint64_t hidden = model->spec->hidden, vocab = model->spec->vocab, ffn = layer->ffn_width;
    uint64_t head = layer->head_dim, heads = layer->n_heads * head, kv = layer->n_kv_heads * head;
    const struct {
        ag_role_t role;
        ag_slice_t slice;
    } wanted[] = {
        {AG_ROLE_EMBED, {vocab, hidden, 5, vocab, 0, hidden, 0, 0, true, false, false, false}},
        {AG_ROLE_Q, {heads, hidden, head, heads, 0, hidden, 0, 0, false, false, false, false}},
        {AG_ROLE_K, {kv, hidden, 0, kv, 0, hidden, 0, 0, false, false, false, false}},
        {AG_ROLE_V, {kv, hidden, 3, kv - 2, 0, hidden, 0, 0, false, false, false, false}},
        {AG_ROLE_O,
         {hidden, heads, 0, hidden, heads / 64 * 32, heads, 0, 0, false, false, false, false}},
        {AG_ROLE_GATE, {ffn, hidden, 1, ffn, 0, hidden, 0, 0, false, false, false, false}},
        {AG_ROLE_DOWN,
         {hidden, ffn, 0, hidden, 0, ffn / 64 * 32, 0, 0, false, false, false, false}},
        {AG_ROLE_ATTN_NORM, {0, hidden, 0, 0, 0, hidden, 0, 0, false, false, false, false}},
        {AG_ROLE_Q_BIAS, {0, heads, 0, 0, head, heads, 0, 0, false, false, false, false}},
    };

    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]) - !layer->q_bias; i++) {
        int32_t at;
        ag_status_t status = ag_params_add(params, model, wanted[i].role, 0, &wanted[i].slice, &at);

        /* some of the types have blocks that these columns cut through */
        cr_assert(status == AG_OK || status == AG_ERR_UNSUPPORTED, "%s", ag_error());
    }
    cr_assert_geq(params->items.n_items, 5);
}

typedef ag_status_t (*load_fn_t)(ag_params_t *params, const ag_model_t *model, unsigned n_threads,
                                 unsigned char *memory);

/* Bytes of everything, loaded by so many threads; free() them. */
static unsigned char *load_all(const ag_model_t *model, bool exact, unsigned n_threads,
                               load_fn_t load_fn, uint64_t *n_bytes_p)
{
    unsigned char *memory;
    ag_params_t params;

    ag_params_init(&params, exact);
    add_slices(model, &params);
    memory = calloc(1, params.bytes);
    cr_assert_not_null(memory);
    cr_assert_eq(load_fn(&params, model, n_threads, memory), AG_OK, "%s", ag_error());
    *n_bytes_p = params.bytes;
    ag_params_fini(&params);
    return memory;
}

Test(params, any_number_of_threads_loads_the_same_bytes_by_copies_too)
{
    static const char *const files[] = {
        "/variants/gguf_q8_0/model.gguf",     "/variants/gguf_q4_1/model.gguf",
        "/variants/gguf_k/model.gguf",        "/variants/gguf_f16_linear/model.gguf",
        "/variants/gguf_f32_bias/model.gguf", "/tiny/llama"};

    for (size_t i = 0; i < 2 * sizeof(files) / sizeof(files[0]); i++) {
        static const unsigned n_threads[] = {2, 3, 5, 40};
        uint64_t n_wanted, n_bytes;
        unsigned char *wanted, *bytes;
        ag_model_t *model;
        char path[512];

        snprintf(path, sizeof(path), AG_TEST_DATA "%s", files[i / 2]);
        cr_assert_eq(ag_model_open(path, &model), AG_OK, "%s", ag_error());
        wanted = load_all(model, i % 2, 1, load, &n_wanted);
        for (size_t t = 0; t < sizeof(n_threads) / sizeof(n_threads[0]); t++) {
            bytes = load_all(model, i % 2, n_threads[t], t % 2 ? load_by_copies : load, &n_bytes);
            cr_assert_eq(n_bytes, n_wanted);
            cr_expect_eq(memcmp(bytes, wanted, n_bytes), 0, "%s, exact %zu, %u threads", path,
                         i % 2, n_threads[t]);
            free(bytes);
        }
        free(wanted);
        ag_model_close(model);
    }
}

/* A copy of a file; its path, to be unlinked, in `path`. */
static void copy_file(const char *from, char *path)
{
    FILE *in = fopen(from, "rb"), *out;
    char buffer[4096];
    size_t n;
    int fd = mkstemp(path);

    cr_assert(in != NULL && fd >= 0);
    out = fdopen(fd, "wb");
    cr_assert_not_null(out);
    while ((n = fread(buffer, 1, sizeof(buffer), in)) > 0) {
        cr_assert_eq(fwrite(buffer, 1, n, out), n);
    }
    fclose(in);
    cr_assert_eq(fclose(out), 0);
}

/* The table's rows come last to the last thread, first to the first. */
Test(params, a_file_cut_while_it_is_open_is_one_error_whichever_thread_meets_its_end)
{
    for (unsigned n_threads = 1; n_threads <= 5; n_threads++) {
        for (unsigned eighth = 0; eighth < 8; eighth++) {
            char path[] = "/tmp/argosy-params-XXXXXX";
            const ag_model_tensor_t *table;
            ag_slice_t slice = {0};
            unsigned char *memory;
            ag_params_t params;
            ag_model_t *model;
            int32_t at;

            copy_file(AG_TEST_DATA "/variants/gguf_q8_0/model.gguf", path);
            cr_assert_eq(ag_model_open(path, &model), AG_OK, "%s", ag_error());
            cr_assert_eq(ag_model_files_require(model->files, "token_embd.weight", &table), AG_OK);
            cr_assert_eq(truncate(path, (off_t)(table->offset_bytes + table->bytes * eighth / 8)),
                         0);
            slice.rows = slice.row_end = table->dims[0];
            slice.cols = slice.col_end = table->dims[1];
            ag_params_init(&params, false);
            cr_assert_eq(ag_params_add(&params, model, AG_ROLE_EMBED, 0, &slice, &at), AG_OK);
            memory = calloc(1, params.bytes);
            cr_assert_not_null(memory);
            cr_expect_eq(load(&params, model, n_threads, memory), AG_ERR_IO);
            cr_expect(strstr(ag_error(), path) != NULL &&
                          strstr(ag_error(), "token_embd.weight") != NULL &&
                          strstr(ag_error(), "too early") != NULL,
                      "%u threads, %u/8: %s", n_threads, eighth, ag_error());
            free(memory);
            ag_params_fini(&params);
            ag_model_close(model);
            unlink(path);
        }
    }
}

enum { TALL_ROWS = 9001, TALL_COLS = 72 };

static void write_file(const char *folder, const char *name, const void *head, size_t n_head,
                       const void *rest, size_t n_rest)
{
    char path[512];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    file = fopen(path, "wb");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(head, 1, n_head, file), n_head);
    cr_assert_eq(fwrite(rest, 1, n_rest, file), n_rest);
    cr_assert_eq(fclose(file), 0);
}

/* A model with one tensor, of several pieces: its bf16 values are value_at(row, column). */
static uint16_t value_at(uint64_t row, uint64_t column)
{
    return (uint16_t)(0x3f80 + row * 31 % 97 + column);
}

static void write_tall_model(char *folder)
{
    static const char config[] =
        "{\"model_type\": \"llama\", \"vocab_size\": 9001, \"hidden_size\": 72, "
        "\"num_hidden_layers\": 1, \"num_attention_heads\": 9, \"num_key_value_heads\": 3, "
        "\"intermediate_size\": 64, \"rms_norm_eps\": 1e-5, \"hidden_act\": \"silu\", "
        "\"max_position_embeddings\": 64, \"tie_word_embeddings\": true}";
    static uint16_t values[TALL_ROWS * TALL_COLS];
    char head[256] = {0};
    uint64_t n_head;

    for (uint64_t i = 0; i < TALL_ROWS * TALL_COLS; i++) {
        values[i] = value_at(i / TALL_COLS, i % TALL_COLS);
    }
    n_head = (uint64_t)snprintf(head + 8, sizeof(head) - 8,
                                "{\"model.embed_tokens.weight\": {\"dtype\": \"BF16\", "
                                "\"shape\": [%d, %d], \"data_offsets\": [0, %zu]}}",
                                TALL_ROWS, TALL_COLS, sizeof(values));
    memcpy(head, &n_head, sizeof(n_head));
    cr_assert_not_null(mkdtemp(folder));
    write_file(folder, "config.json", config, strlen(config), "", 0);
    write_file(folder, "model.safetensors", head, 8 + n_head, values, sizeof(values));
}

static void remove_tall_model(const char *folder)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/config.json", folder);
    unlink(path);
    snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    unlink(path);
    rmdir(folder);
}

Test(params, a_slice_of_many_pieces_has_every_row_at_its_place)
{
    char folder[] = "/tmp/argosy-params-XXXXXX";
    ag_model_t *model;

    write_tall_model(folder);
    cr_assert_eq(ag_model_open(folder, &model), AG_OK, "%s", ag_error());
    for (unsigned i = 0; i < 24; i++) {
        unsigned n_threads = 1 + i / 4 % 3;
        load_fn_t load_fn = i < 12 ? load : load_by_copies;
        ag_slice_t slice = {
            .rows = TALL_ROWS, .cols = TALL_COLS, .row_begin = 7, .row_end = TALL_ROWS - 1};
        float row[TALL_COLS];
        unsigned char *memory;
        ag_params_t params;
        int32_t at;

        slice.col_begin = i % 4 / 2 * 10; /* else whole rows are read at once */
        slice.col_end = TALL_COLS;
        ag_params_init(&params, i % 2);
        cr_assert_eq(ag_params_add(&params, model, AG_ROLE_EMBED, 0, &slice, &at), AG_OK);
        cr_assert_lt(ag_params_load_bytes(&params, 1, false),
                     sizeof(uint16_t) * TALL_ROWS * TALL_COLS);
        memory = calloc(1, params.bytes);
        cr_assert_not_null(memory);
        cr_assert_eq(load_fn(&params, model, n_threads, memory), AG_OK, "%s", ag_error());
        for (uint64_t r = slice.row_begin; r < slice.row_end; r++) {
            const ag_graph_param_t *held = ag_params_held(&params);

            ag_packing_unpack_row(held->packing, held->dtype, held->data, held->cols,
                                  r - slice.row_begin, row);
            for (uint64_t c = slice.col_begin; c < TALL_COLS; c++) {
                cr_assert_eq(row[c - slice.col_begin], ag_bf16_to_f32(value_at(r, c)),
                             "%u threads, case %u: row %lu, column %lu", n_threads, i,
                             (unsigned long)r, (unsigned long)c);
            }
        }
        free(memory);
        ag_params_fini(&params);
    }
    ag_model_close(model);
    remove_tall_model(folder);
}

Test(params, each_thread_has_a_piece_that_holds_a_row_at_least)
{
    ag_model_t *model;
    ag_params_t params;

    cr_assert_eq(ag_model_open(TINY, &model), AG_OK, "%s", ag_error());
    ag_params_init(&params, false);
    add_slices(model, &params);
    cr_expect_eq(ag_params_load_bytes(&params, 5, true),
                 5 * ag_params_load_bytes(&params, 1, true));
    cr_expect_geq(ag_params_load_bytes(&params, 1, false), 187 * sizeof(float));
    ag_params_fini(&params);
    ag_model_close(model);
}

static bool is_asked(void *arg)
{
    return __atomic_sub_fetch((int *)arg, 1, __ATOMIC_RELAXED) < 0;
}

Test(params, a_load_that_is_asked_to_stop_does_whichever_thread_hears_it)
{
    for (unsigned n_threads = 1; n_threads <= 5; n_threads++) {
        ag_params_t params;
        ag_model_t *model;
        unsigned char *memory;
        int n_pieces = 3; /* that are loaded yet */
        int32_t param;
        ag_cancel_t cancel = {.is_asked = is_asked, .arg = &n_pieces};

        cr_assert_eq(ag_model_open(TINY, &model), AG_OK, "%s", ag_error());
        ag_params_init(&params, true);
        for (uint32_t layer = 0; layer < 3; layer++) {
            ag_slice_t slice = {.rows = 187, .cols = 72, .row_end = 187, .col_end = 72};

            cr_assert_eq(ag_params_add(&params, model, AG_ROLE_GATE, layer, &slice, &param), AG_OK);
            cr_assert_eq(ag_params_add(&params, model, AG_ROLE_UP, layer, &slice, &param), AG_OK);
        }
        memory = aligned_alloc(64, (params.bytes + 63) / 64 * 64);
        cr_assert_not_null(memory);
        cr_expect_eq(load_unless(&params, model, n_threads, &cancel, memory), AG_ERR_INTERRUPTED);
        cr_expect_not_null(strstr(ag_error(), "interrupted"), "%s", ag_error());
        free(memory);
        ag_params_fini(&params);
        ag_model_close(model);
    }
}

/* What a weight of heads is, by the one tensor of a folder, (heads, keys then values, latent). */
typedef struct latent_model {
    ag_model_t *model;
    uint32_t n_heads, rank;
    uint32_t n[2]; /* of keys and of values */
    float *tensor;
} latent_model_t;

static latent_model_t open_latent(void)
{
    latent_model_t latent = {0};
    const ag_model_tensor_t *tensor;
    const ag_layer_spec_t *kind;
    const ag_dtype_info_t *info;
    unsigned char *bytes;
    uint64_t n;

    cr_assert_eq(ag_model_open(AG_TEST_DATA "/experts/deepseek_v3", &latent.model), AG_OK, "%s",
                 ag_error());
    kind = ag_spec_layer(latent.model->spec, 1);
    latent.n_heads = kind->n_heads;
    latent.rank = kind->kv_rank;
    latent.n[0] = kind->head_dim - kind->rope.rotary;
    latent.n[1] = ag_layer_value_dim(kind);
    tensor = ag_model_files_find(latent.model->files, "model.layers.1.self_attn.kv_b_proj.weight");
    cr_assert_not_null(tensor);
    info = ag_dtype_info(tensor->dtype);
    n = (uint64_t)latent.n_heads * (latent.n[0] + latent.n[1]) * latent.rank;
    bytes = malloc(n * info->block_bytes);
    latent.tensor = malloc(n * sizeof(float));
    cr_assert(bytes != NULL && latent.tensor != NULL);
    cr_assert_eq(ag_model_files_read(latent.model->files, tensor, 0, n * info->block_bytes, bytes),
                 AG_OK);
    info->unpack(bytes, latent.tensor, n);
    free(bytes);
    return latent;
}

static float latent_at(const latent_model_t *latent, int which, uint64_t head, uint64_t row,
                       uint64_t col)
{
    uint64_t first = head * (latent->n[0] + latent->n[1]) + (which == 1 ? latent->n[0] : 0);

    return latent->tensor[(first + row) * latent->rank + col];
}

/* A slice of heads [head, end) of keys (0) or values (1), each as it is or its transpose. */
static ag_slice_t slice_of_heads(const latent_model_t *latent, int which, uint32_t head,
                                 uint32_t end, bool is_turned)
{
    uint64_t rows = is_turned ? latent->rank : latent->n[which];
    uint64_t cols = is_turned ? latent->n[which] : latent->rank;

    return (ag_slice_t){.rows = latent->n_heads * rows,
                        .cols = cols,
                        .row_begin = head * rows,
                        .row_end = end * rows,
                        .col_end = cols,
                        .n_turned = is_turned ? latent->n_heads : 0};
}

static void expect_heads(const latent_model_t *latent, const ag_graph_param_t *held, int which,
                         uint32_t head, bool is_turned)
{
    float row[256];
    uint64_t per_head = is_turned ? latent->rank : latent->n[which];

    for (uint64_t r = 0; r < held->rows; r++) {
        ag_packing_unpack_row(held->packing, held->dtype, held->data, held->cols, r, row);
        for (uint64_t c = 0; c < held->cols; c++) {
            uint64_t within = r % per_head, h = head + r / per_head;
            float wanted =
                latent_at(latent, which, h, is_turned ? c : within, is_turned ? within : c);

            cr_assert_eq(row[c], wanted, "%s from head %u on%s: (%lu, %lu) is %g, not %g",
                         which == 0 ? "keys" : "values", head, is_turned ? ", turned" : "",
                         (unsigned long)r, (unsigned long)c, (double)row[c], (double)wanted);
        }
    }
}

Test(params, keys_and_values_of_heads_are_told_apart_and_turned)
{
    static const struct {
        int which;
        uint32_t head, end;
        bool is_turned;
    } cases[] = {{0, 1, 4, false}, {1, 1, 4, false}, {0, 0, 4, true},
                 {0, 2, 3, true},  {1, 2, 3, false}, {0, 3, 4, false}};
    enum { N_CASES = sizeof(cases) / sizeof(cases[0]) };
    latent_model_t latent = open_latent();

    cr_assert_geq(latent.n_heads, 4);
    for (unsigned i = 0; i < 8; i++) {
        load_fn_t load_fn = i < 4 ? load : load_by_copies;
        unsigned char *memory;
        ag_params_t params;
        int32_t numbers[N_CASES];

        ag_params_init(&params, i % 2);
        for (int j = 0; j < N_CASES; j++) {
            ag_slice_t slice = slice_of_heads(&latent, cases[j].which, cases[j].head, cases[j].end,
                                              cases[j].is_turned);

            cr_assert_eq(ag_params_add(&params, latent.model,
                                       cases[j].which == 0 ? AG_ROLE_K_B : AG_ROLE_V_B, 1, &slice,
                                       &numbers[j]),
                         AG_OK, "%s", ag_error());
            cr_assert_eq(numbers[j], j, "it was taken for another");
        }
        memory = aligned_alloc(64, params.bytes);
        cr_assert_not_null(memory);
        cr_assert_eq(load_fn(&params, latent.model, 1 + i / 2 % 2 * 2, memory), AG_OK, "%s",
                     ag_error());
        for (int j = 0; j < N_CASES; j++) {
            expect_heads(&latent, &ag_params_held(&params)[j], cases[j].which, cases[j].head,
                         cases[j].is_turned);
        }
        free(memory);
        ag_params_fini(&params);
    }
    free(latent.tensor);
    ag_model_close(latent.model);
}
