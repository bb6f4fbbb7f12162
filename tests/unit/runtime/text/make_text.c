#define _GNU_SOURCE /* nftw */

#include "make_text.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void file_write(const made_t *made, const char *name, const void *bytes, size_t n_bytes)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", made->folder, name);
    file = fopen(path, "wb");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, n_bytes, file), n_bytes);
    cr_assert_eq(fclose(file), 0);
}

static void make_folder(made_t *made)
{
    *made = (made_t){.folder = "/tmp/argosy-text-XXXXXX"};
    cr_assert_not_null(mkdtemp(made->folder));
}

void folder_begin(made_t *made)
{
    static const char no_tensors[] = "\2\0\0\0\0\0\0\0{}";

    make_folder(made);
    file_write(made, "model.safetensors", no_tensors, sizeof(no_tensors) - 1);
    folder_write(made, "config.json", "{}");
}

void folder_write(const made_t *made, const char *name, const char *json)
{
    char *text = strdup(json);

    cr_assert_not_null(text);
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    file_write(made, name, text, strlen(text));
    free(text);
}

void folder_copy(const made_t *made, const char *name, const char *path)
{
    char *text;
    ag_json_t *json;

    cr_assert_eq(ag_json_read(path, &json), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_json_text(json, AG_JSON_LINE, &text), AG_OK);
    file_write(made, name, text, strlen(text));
    ag_json_destroy(json);
    free(text);
}

ag_status_t folder_open(made_t *made)
{
    cr_assert_eq(ag_model_files_open(made->folder, &made->files), AG_OK, "%s", ag_error());
    return ag_tokenizer_open(made->files, &made->tokenizer);
}

void made_open(made_t *made, const char *json)
{
    folder_begin(made);
    folder_write(made, "tokenizer.json", json);
    cr_assert_eq(folder_open(made), AG_OK, "%s", ag_error());
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info;
    (void)kind;
    (void)walk;
    return remove(path);
}

void made_close(made_t *made)
{
    ag_tokenizer_close(made->tokenizer);
    ag_model_files_close(made->files);
    nftw(made->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

void expect_ids(const ag_tokenizer_t *tokenizer, const char *text, unsigned flags, const char *ids)
{
    ag_array_t found = AG_ARRAY(int32_t), said = AG_ARRAY(char);

    cr_assert_eq(ag_tokenizer_encode(tokenizer, text, strlen(text), flags, &found, NULL), AG_OK,
                 "%s", ag_error());
    for (size_t i = 0; i < found.n_items; i++) {
        char id[16];
        int n = snprintf(id, sizeof(id), "%s%d", i > 0 ? " " : "", AG_ITEMS(&found, int32_t)[i]);

        cr_assert_eq(ag_array_append(&said, id, (size_t)n), AG_OK);
    }
    cr_assert_eq(ag_array_append(&said, "", 1), AG_OK);
    cr_expect_str_eq(said.items, ids, "\"%s\" gives %s, not %s", text, AG_ITEMS(&said, char), ids);
    ag_array_fini(&found);
    ag_array_fini(&said);
}

ag_status_t join_word(void *arg, const char *bytes, size_t n_bytes)
{
    ag_array_t *joined = arg;

    cr_expect_gt(n_bytes, 0, "an empty word");
    cr_assert_eq(ag_array_append(joined, "|", joined->n_items > 0), AG_OK);
    cr_assert_eq(ag_array_append(joined, bytes, n_bytes), AG_OK);
    return AG_OK;
}

void expect_refused(const char *json, ag_status_t status, const char *words)
{
    made_t made;

    folder_begin(&made);
    folder_write(&made, "tokenizer.json", json);
    cr_expect_eq(folder_open(&made), status, "%s", json);
    cr_expect_null(made.tokenizer);
    cr_expect_not_null(strstr(ag_error(), words), "\"%s\" does not say \"%s\"", ag_error(), words);
    made_close(&made);
}

static void put(gguf_text_t *gguf, const void *bytes, size_t n_bytes)
{
    gguf->bytes.item_bytes = 1;
    cr_assert_eq(ag_array_append(&gguf->bytes, bytes, n_bytes), AG_OK);
}

static void put_text(gguf_text_t *gguf, const char *bytes, size_t n_bytes)
{
    put(gguf, &(uint64_t){n_bytes}, 8);
    put(gguf, bytes, n_bytes);
}

static void put_key(gguf_text_t *gguf, const char *key, ag_gguf_kind_t kind)
{
    put_text(gguf, key, strlen(key));
    put(gguf, &(uint32_t){kind}, 4);
    gguf->n_entries++;
}

void gguf_string(gguf_text_t *gguf, const char *key, const char *bytes, size_t n_bytes)
{
    put_key(gguf, key, AG_GGUF_STRING);
    put_text(gguf, bytes, n_bytes);
}

void gguf_integer(gguf_text_t *gguf, const char *key, ag_gguf_kind_t kind, uint64_t value)
{
    put_key(gguf, key, kind);
    put(gguf, &value, kind == AG_GGUF_BOOL ? 1 : kind == AG_GGUF_U64 ? 8 : 4);
}

static void put_array(gguf_text_t *gguf, const char *key, ag_gguf_kind_t kind, size_t n)
{
    put_key(gguf, key, AG_GGUF_ARRAY);
    put(gguf, &(uint32_t){kind}, 4);
    put(gguf, &(uint64_t){n}, 8);
}

void gguf_strings(gguf_text_t *gguf, const char *key, const char *const *texts, size_t n)
{
    put_array(gguf, key, AG_GGUF_STRING, n);
    for (size_t i = 0; i < n; i++) {
        put_text(gguf, texts[i], strlen(texts[i]));
    }
}

void gguf_integers(gguf_text_t *gguf, const char *key, const int32_t *values, size_t n)
{
    put_array(gguf, key, AG_GGUF_I32, n);
    put(gguf, values, n * sizeof(*values));
}

void gguf_floats(gguf_text_t *gguf, const char *key, const float *values, size_t n)
{
    put_array(gguf, key, AG_GGUF_F32, n);
    put(gguf, values, n * sizeof(*values));
}

ag_status_t gguf_open(made_t *made, gguf_text_t *gguf)
{
    gguf_text_t file = {0};
    char path[64];

    make_folder(made);
    put(&file, "GGUF\3\0\0\0", 8);
    put(&file, &(uint64_t){0}, 8);
    put(&file, &gguf->n_entries, 8);
    put(&file, gguf->bytes.items, gguf->bytes.n_items);
    file_write(made, "model.gguf", file.bytes.items, file.bytes.n_items);
    ag_array_fini(&file.bytes);
    ag_array_fini(&gguf->bytes);
    snprintf(path, sizeof(path), "%s/model.gguf", made->folder);
    cr_assert_eq(ag_model_files_open(path, &made->files), AG_OK, "%s", ag_error());
    return ag_tokenizer_open(made->files, &made->tokenizer);
}
