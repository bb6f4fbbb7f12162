#define _GNU_SOURCE /* nftw */

#include "make_data.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *room_path(const room_t *room, const char *name)
{
    static char paths[8][512];
    static unsigned n_calls;
    char *path = paths[n_calls++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", room->folder, name);
    return path;
}

const char *room_write(const room_t *room, const char *name, const void *bytes, size_t n_bytes)
{
    const char *path = room_path(room, name);
    FILE *file = fopen(path, "wb");

    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, n_bytes, file), n_bytes);
    cr_assert_eq(fclose(file), 0);
    return path;
}

const char *room_text(const room_t *room, const char *name, const char *text)
{
    return room_write(room, name, text, strlen(text));
}

const char *room_lines(const room_t *room, const char *name, const char *json)
{
    char *text = strdup(json);
    const char *path;

    cr_assert_not_null(text);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    path = room_text(room, name, text);
    free(text);
    return path;
}

const char *room_ids(const room_t *room, const char *name, const int32_t *ids, size_t n)
{
    ag_array_t bytes = AG_ARRAY(char);
    char dict[119];
    const char *path;
    int n_dict = snprintf(dict, sizeof(dict),
                          "{'descr': '<i4', 'fortran_order': False, 'shape': (%zu,), }", n);

    memset(dict + n_dict, ' ', sizeof(dict) - (size_t)n_dict);
    dict[117] = '\n';
    cr_assert_eq(ag_array_append(&bytes, "\x93NUMPY\1\0\x76\0", 10), AG_OK);
    cr_assert_eq(ag_array_append(&bytes, dict, 118), AG_OK);
    cr_assert_eq(ag_array_append(&bytes, ids, n * sizeof(*ids)), AG_OK);
    path = room_write(room, name, bytes.items, bytes.n_items);
    ag_array_fini(&bytes);
    return path;
}

static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 20);

    cr_assert_not_null(file, "%s", path);
    cr_assert_not_null(text);
    cr_assert_lt(fread(text, 1, (1 << 20) - 1, file), (1 << 20) - 1);
    fclose(file);
    return text;
}

static void make_folder(room_t *room)
{
    static const char no_tensors[] = "\2\0\0\0\0\0\0\0{}";

    *room = (room_t){.folder = "/tmp/argosy-data-XXXXXX"};
    cr_assert_not_null(mkdtemp(room->folder));
    cr_assert_eq(mkdir(room_path(room, "model"), 0700), 0);
    room_write(room, "model/model.safetensors", no_tensors, sizeof(no_tensors) - 1);
}

static void open_tokenizer(room_t *room, const char *path)
{
    cr_assert_eq(ag_model_files_open(path, &room->files), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_tokenizer_open(room->files, &room->tokenizer), AG_OK, "%s", ag_error());
}

void room_open(room_t *room, const char *chat, bool bos)
{
    static const char none[] = "\"post_processor\": null";
    char *json = read_text(AG_TEST_DATA "/tiny/llama/tokenizer.json"), *at = strstr(json, none);
    ag_array_t text = AG_ARRAY(char);

    make_folder(room);
    cr_assert_not_null(at);
    cr_assert_eq(ag_array_append(&text, json, (size_t)(at - json)), AG_OK);
    if (bos) {
        static const char template[] =
            "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [{\"SpecialToken\""
            ": {\"id\": \"<s>\"}}], \"special_tokens\": {\"<s>\": {\"ids\": [1]}}}";

        cr_assert_eq(ag_array_append(&text, template, strlen(template)), AG_OK);
    } else {
        cr_assert_eq(ag_array_append(&text, none, strlen(none)), AG_OK);
    }
    at += strlen(none);
    cr_assert_eq(ag_array_append(&text, at, strlen(at)), AG_OK);
    room_write(room, "model/tokenizer.json", text.items, text.n_items);
    room_lines(room, "model/config.json", "{'eos_token_id':2}");
    if (chat != NULL) {
        room_text(room, "model/chat_template.jinja", chat);
    }
    ag_array_fini(&text);
    free(json);
    open_tokenizer(room, room_path(room, "model"));
}

void room_open_file(room_t *room, const char *path)
{
    make_folder(room);
    if (strstr(path, ".gguf") != NULL) {
        open_tokenizer(room, path);
        return;
    }
    {
        char *json = read_text(path);

        room_text(room, "model/tokenizer.json", json);
        room_text(room, "model/config.json", "{}");
        free(json);
    }
    open_tokenizer(room, room_path(room, "model"));
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

void room_close(room_t *room)
{
    ag_tokenizer_close(room->tokenizer);
    ag_model_files_close(room->files);
    nftw(room->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

size_t room_caches(const room_t *room, char path[512])
{
    const char *folder = room_path(room, "cache");
    DIR *dir = opendir(folder);
    struct dirent *entry;
    size_t n = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.') {
            n++;
            if (path != NULL) {
                snprintf(path, 512, "%.200s/%.300s", folder, entry->d_name);
            }
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n;
}

ag_dataset_opts_t room_opts(const room_t *room, const char *path, uint32_t seq_length)
{
    static const char *paths[64];
    static unsigned n_calls;
    const char **kept = &paths[n_calls++ % 64];
    static char cache[64][512];

    *kept = path;
    snprintf(cache[n_calls % 64], sizeof(cache[0]), "%s/cache", room->folder);
    return (ag_dataset_opts_t){.paths = kept,
                               .n_paths = 1,
                               .tokenizer = room->tokenizer,
                               .vocab_size = ag_tokenizer_size(room->tokenizer),
                               .seq_length = seq_length,
                               .cache_dir = cache[n_calls % 64]};
}

ag_dataset_t *open_data(const ag_dataset_opts_t *opts)
{
    ag_dataset_t *dataset = NULL;

    cr_assert_eq(ag_dataset_open(opts, &dataset), AG_OK, "%s", ag_error());
    return dataset;
}

void expect_fails(const ag_dataset_opts_t *opts, ag_status_t status, const char *words)
{
    ag_dataset_t *dataset = NULL;
    ag_status_t found = ag_dataset_open(opts, &dataset);

    cr_expect_eq(found, status, "%s, not %s: %s", ag_status_name(found), ag_status_name(status),
                 ag_error());
    cr_expect_null(dataset);
    cr_expect_not_null(strstr(ag_error(), words), "\"%s\" does not say \"%s\"", ag_error(), words);
    cr_expect_null(strchr(ag_error(), '\n'), "more than a line: %s", ag_error());
}

void batch_open(batch_t *batch, uint32_t n_rows, uint32_t seq_length)
{
    size_t n = (size_t)n_rows * seq_length;

    *batch = (batch_t){.n_rows = n_rows,
                       .seq_length = seq_length,
                       .rows = {.tokens = calloc(n, sizeof(int32_t)),
                                .targets = calloc(n, sizeof(int32_t)),
                                .positions = calloc(n, sizeof(int32_t)),
                                .n_tokens = calloc(n_rows, sizeof(uint32_t)),
                                .n_targets = calloc(n_rows, sizeof(uint32_t))}};
    cr_assert(batch->rows.tokens != NULL && batch->rows.targets != NULL &&
              batch->rows.positions != NULL && batch->rows.n_tokens != NULL &&
              batch->rows.n_targets != NULL);
}

void batch_read(batch_t *batch, const ag_dataset_t *dataset, ag_data_position_t position)
{
    uint64_t n_targets, n_found = 0;

    cr_assert_eq(ag_dataset_read(dataset, position, batch->n_rows, &batch->rows), AG_OK, "%s",
                 ag_error());
    cr_assert_eq(ag_dataset_targets(dataset, position, batch->n_rows, &n_targets), AG_OK);
    for (uint32_t r = 0; r < batch->n_rows; r++) {
        n_found += batch->rows.n_targets[r];
    }
    cr_expect_eq(n_targets, n_found);
}

void batch_close(batch_t *batch)
{
    free(batch->rows.tokens);
    free(batch->rows.targets);
    free(batch->rows.positions);
    free(batch->rows.n_tokens);
    free(batch->rows.n_targets);
}

bool batch_equal(const batch_t *one, const batch_t *other)
{
    size_t n = (size_t)one->n_rows * one->seq_length * sizeof(int32_t);

    return one->n_rows == other->n_rows && one->seq_length == other->seq_length &&
           memcmp(one->rows.tokens, other->rows.tokens, n) == 0 &&
           memcmp(one->rows.targets, other->rows.targets, n) == 0 &&
           memcmp(one->rows.positions, other->rows.positions, n) == 0 &&
           memcmp(one->rows.n_tokens, other->rows.n_tokens, one->n_rows * 4) == 0 &&
           memcmp(one->rows.n_targets, other->rows.n_targets, one->n_rows * 4) == 0;
}

void batch_check(const batch_t *batch, uint32_t vocab_size)
{
    for (uint32_t r = 0; r < batch->n_rows; r++) {
        const int32_t *tokens = batch->rows.tokens + (size_t)r * batch->seq_length;
        const int32_t *targets = batch->rows.targets + (size_t)r * batch->seq_length;
        const int32_t *positions = batch->rows.positions + (size_t)r * batch->seq_length;
        uint32_t n = batch->rows.n_tokens[r], n_targets = 0;

        cr_assert(n >= 1 && n <= batch->seq_length);
        for (uint32_t i = 0; i < batch->seq_length; i++) {
            bool begins = i == 0 || i == n || positions[i] == 0;

            cr_assert(tokens[i] >= 0 && (uint32_t)tokens[i] < vocab_size);
            cr_assert(targets[i] >= -1 && targets[i] < (int32_t)vocab_size);
            cr_assert_eq(positions[i], begins ? 0 : positions[i - 1] + 1);
            /* within a document the target is the next token */
            cr_assert(begins || targets[i - 1] < 0 || targets[i - 1] == tokens[i]);
            cr_assert(i < n || targets[i] == -1);
            n_targets += targets[i] >= 0;
        }
        cr_assert_eq(batch->rows.n_targets[r], n_targets);
        cr_assert_gt(n_targets, 0);
    }
}

ag_array_t ids_of(const ag_tokenizer_t *tokenizer, const char *text)
{
    ag_array_t ids = AG_ARRAY(int32_t);

    cr_assert_eq(ag_tokenizer_encode(tokenizer, text, strlen(text), AG_TOKEN_SPECIAL, &ids, NULL),
                 AG_OK);
    return ids;
}
