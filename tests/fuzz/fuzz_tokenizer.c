/*
 * Tokenizers: a GGUF file, whose own bytes are the text to encode too; or a line that is
 * tokenizer.json, a line that is tokenizer_config.json, and the rest is text. Ids must be the
 * tokenizer's, and what they decode to must come out of a stream the same however it is cut. Each
 * kind is written as the other, too, and read again.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_file.h"

#include "runtime/text/export.h"
#include "runtime/text/stream.h"
#include "runtime/text/tokenizer.h"

static char folder[] = "/tmp/argosy-fuzz-XXXXXX";
static ag_model_files_t *files;

static void remove_folder(void)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    char path[64];

    ag_model_files_close(files);
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

static void make_folder(void)
{
    static const char no_tensors[] = "\2\0\0\0\0\0\0\0{}";

    expect(mkdtemp(folder) != NULL);
    write_file(folder, "model.safetensors", no_tensors, sizeof(no_tensors) - 1);
    write_file(folder, "config.json", "{\"eos_token_id\":[0,1,2147483648]}", 33);
    expect(ag_model_files_open(folder, &files) == AG_OK);
    atexit(remove_folder);
}

static void stream_all(const char *bytes, size_t n_bytes, size_t part, ag_array_t *text)
{
    static const char *const stops[] = {"stop", "</s>", "aab"};
    ag_text_stream_t stream;

    ag_text_stream_init(&stream, stops, 3);
    for (size_t at = 0; at < n_bytes; at += part) {
        expect(ag_text_stream_push(&stream, bytes + at, part < n_bytes - at ? part : n_bytes - at,
                                   text) == AG_OK);
    }
    expect(ag_text_stream_flush(&stream, text) == AG_OK);
    ag_text_stream_fini(&stream);
}

static void use_stream(const char *bytes, size_t n_bytes)
{
    ag_array_t one = AG_ARRAY(char), another = AG_ARRAY(char);

    stream_all(bytes, n_bytes, n_bytes, &one);
    stream_all(bytes, n_bytes, 3, &another);
    expect(one.n_items == another.n_items);
    expect(one.n_items == 0 || memcmp(one.items, another.items, one.n_items) == 0);
    ag_array_fini(&one);
    ag_array_fini(&another);
}

static void use_tokenizer(const ag_tokenizer_t *tokenizer, const char *text, size_t n_bytes)
{
    for (unsigned flags = 0; flags <= (AG_TOKEN_SPECIAL | AG_TOKEN_CONTINUES); flags++) {
        ag_array_t ids = AG_ARRAY(int32_t), bytes = AG_ARRAY(char);

        /* an expression may give up on a text */
        if (ag_tokenizer_encode(tokenizer, text, n_bytes, flags, &ids, NULL) != AG_OK) {
            expect_one_line();
        }
        for (size_t i = 0; i < ids.n_items; i++) {
            int32_t id = AG_ITEMS(&ids, int32_t)[i];

            expect(id >= 0 && (uint32_t)id < ag_tokenizer_size(tokenizer));
        }
        expect(ag_tokenizer_decode(tokenizer, ids.items, ids.n_items, flags, &bytes) == AG_OK);
        use_stream(bytes.items, bytes.n_items);
        ag_array_fini(&ids);
        ag_array_fini(&bytes);
    }
    use_stream(text, n_bytes);
    expect(ag_tokenizer_bos(tokenizer) < (int64_t)ag_tokenizer_size(tokenizer));
}

/* The next line; what follows it is left in *at_p. */
static const char *next_line(const char **at_p, const char *end, size_t *n_bytes_p)
{
    const char *line = *at_p, *feed = line < end ? memchr(line, '\n', (size_t)(end - line)) : NULL;

    *n_bytes_p = (size_t)((feed != NULL ? feed : end) - line);
    *at_p = feed != NULL ? feed + 1 : end;
    return line;
}

/* What was written must be read: the vocabulary is as long as it was. */
static void read_again(const void *bytes, size_t n_bytes, uint32_t n_vocab, const char *text,
                       size_t n_text)
{
    char path[MEMORY_PATH_BYTES];
    int fd = memory_file(bytes, n_bytes, path);
    ag_model_files_t *model;
    ag_tokenizer_t *tokenizer;

    expect(ag_model_files_open(path, &model) == AG_OK);
    expect(ag_tokenizer_open(model, &tokenizer) == AG_OK);
    expect(ag_tokenizer_size(tokenizer) == n_vocab);
    use_tokenizer(tokenizer, text, n_text);
    ag_tokenizer_close(tokenizer);
    ag_model_files_close(model);
    close(fd);
}

/* A GGUF file without tensors of what the folder says. */
static void try_as_gguf(const ag_tokenizer_t *from, const char *text, size_t n_text)
{
    ag_gguf_metadata_t metadata = AG_GGUF_METADATA;
    uint32_t version = 3, n_vocab = ag_tokenizer_size(from);
    uint64_t counts[2] = {0};
    ag_array_t file = AG_ARRAY(char);

    if (ag_tokenizer_to_gguf(files, n_vocab, &metadata) != AG_OK) {
        expect_one_line();
        ag_gguf_metadata_fini(&metadata);
        return;
    }
    counts[1] = metadata.n_entries;
    expect(ag_array_append(&file, "GGUF", 4) == AG_OK &&
           ag_array_append(&file, (char *)&version, sizeof(version)) == AG_OK &&
           ag_array_append(&file, (char *)counts, sizeof(counts)) == AG_OK &&
           ag_array_append(&file, metadata.bytes.items, metadata.bytes.n_items) == AG_OK);
    read_again(file.items, file.n_items, n_vocab, text, n_text);
    ag_array_fini(&file);
    ag_gguf_metadata_fini(&metadata);
}

/* tokenizer.json of what a GGUF file says, in the folder. */
static void try_as_json(const ag_model_files_t *model, const char *text, size_t n_text)
{
    ag_json_t *json;
    ag_tokenizer_t *tokenizer;
    char *bytes;

    expect(ag_tokenizer_to_json(model, &json) == AG_OK);
    expect(ag_json_text(json, AG_JSON_LINE, &bytes) == AG_OK);
    if (files == NULL) {
        make_folder();
    }
    write_file(folder, "tokenizer.json", bytes, strlen(bytes));
    write_file(folder, "tokenizer_config.json", "{}", 2);
    if (ag_tokenizer_open(files, &tokenizer) == AG_OK) {
        use_tokenizer(tokenizer, text, n_text);
        ag_tokenizer_close(tokenizer);
    } else {
        expect_one_line();
    }
    free(bytes);
    ag_json_destroy(json);
}

static void try_gguf(const uint8_t *bytes, size_t n_bytes)
{
    char path[MEMORY_PATH_BYTES];
    int fd = memory_file(bytes, n_bytes, path);
    ag_model_files_t *model;
    ag_tokenizer_t *tokenizer;

    if (ag_model_files_open(path, &model) == AG_OK) {
        if (ag_tokenizer_open(model, &tokenizer) == AG_OK) {
            use_tokenizer(tokenizer, (const char *)bytes, n_bytes);
            try_as_json(model, (const char *)bytes, n_bytes);
            ag_tokenizer_close(tokenizer);
        } else {
            expect_one_line();
        }
        ag_model_files_close(model);
    }
    close(fd);
}

static void try_folder(const char *bytes, size_t n_bytes)
{
    const char *at = bytes, *end = at + n_bytes, *json, *config;
    size_t n_json, n_config;
    ag_tokenizer_t *tokenizer;

    if (files == NULL) {
        make_folder();
    }
    json = next_line(&at, end, &n_json);
    config = next_line(&at, end, &n_config);
    write_file(folder, "tokenizer.json", json, n_json);
    write_file(folder, "tokenizer_config.json", n_config > 0 ? config : "{}",
               n_config > 0 ? n_config : 2);
    if (ag_tokenizer_open(files, &tokenizer) == AG_OK) {
        use_tokenizer(tokenizer, at, (size_t)(end - at));
        try_as_gguf(tokenizer, at, (size_t)(end - at));
        ag_tokenizer_close(tokenizer);
    } else {
        expect_one_line();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    if (n_bytes >= 4 && memcmp(bytes, "GGUF", 4) == 0) {
        try_gguf(bytes, n_bytes);
    } else {
        try_folder((const char *)bytes, n_bytes);
    }
    return 0;
}
