/*
 * Data to train on: the first byte says what kind of file it is and what becomes of it, the second
 * how long rows are, the rest is the file. What is read must be rows as they were promised, the
 * same from the cache as when they were made.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory_file.h"

#include "runtime/data/dataset.h"

enum { MOST_ROWS = 64, VOCAB = 6 };

static char folder[] = "/dev/shm/argosy-fuzz-XXXXXX";
static char cache[64];
static ag_model_files_t *files;
static ag_tokenizer_t *tokenizer;

/* No run may find what another left. */
static void empty_cache(void)
{
    DIR *dir = opendir(cache);
    struct dirent *entry;
    char path[64 + sizeof(entry->d_name)];

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof(path), "%s/%s", cache, entry->d_name);
        expect(entry->d_name[0] == '.' || unlink(path) == 0);
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static void remove_all(void)
{
    char command[64];

    ag_tokenizer_close(tokenizer);
    ag_model_files_close(files);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    expect(system(command) == 0);
}

/* Few tokens: most bytes are dropped, "ab" and the marks of turns are not. */
static void make_tokenizer(void)
{
    static const char no_tensors[] = "\2\0\0\0\0\0\0\0{}";
    static const char json[] =
        "{\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\\u0120\":3},\"merges\":[\"a b\"]},"
        "\"added_tokens\":[{\"id\":4,\"content\":\"<|im_end|>\",\"special\":true},"
        "{\"id\":5,\"content\":\"<s>\",\"special\":true}],"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true},"
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
        "{\"id\":\"<s>\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[5]}}}}";
    static const char template[] =
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
        "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

    expect(mkdtemp(folder) != NULL);
    atexit(remove_all);
    write_file(folder, "model.safetensors", no_tensors, sizeof(no_tensors) - 1);
    write_file(folder, "config.json", "{\"eos_token_id\":4}", 18);
    write_file(folder, "tokenizer.json", json, sizeof(json) - 1);
    write_file(folder, "chat_template.jinja", template, sizeof(template) - 1);
    snprintf(cache, sizeof(cache), "%s/cache", folder);
    expect(ag_model_files_open(folder, &files) == AG_OK);
    expect(ag_tokenizer_open(files, &tokenizer) == AG_OK);
}

static void check_row(const int32_t *tokens, const int32_t *targets, const int32_t *positions,
                      uint32_t length, uint32_t n_tokens, uint32_t n_targets)
{
    uint32_t found = 0;

    expect(n_tokens >= 1 && n_tokens <= length && n_targets >= 1);
    for (uint32_t i = 0; i < length; i++) {
        bool begins = i == 0 || i == n_tokens || positions[i] == 0;

        expect(tokens[i] >= 0 && tokens[i] < VOCAB && targets[i] >= -1 && targets[i] < VOCAB);
        expect(positions[i] == (begins ? 0 : positions[i - 1] + 1));
        expect(begins || targets[i - 1] < 0 || targets[i - 1] == tokens[i]);
        expect(i < n_tokens || targets[i] < 0);
        found += targets[i] >= 0;
    }
    expect(found == n_targets);
}

/* @param rows  out: of (MOST_ROWS, seq_length). @return how many. */
static uint64_t read_rows(const ag_dataset_t *dataset, uint32_t length, const ag_data_rows_t *rows)
{
    ag_dataset_counts_t counts = ag_dataset_counts(dataset);
    uint64_t n = counts.rows < MOST_ROWS ? counts.rows : MOST_ROWS;
    ag_array_t text = AG_ARRAY(char);

    expect(counts.rows > 0 && counts.row_tokens <= counts.rows * length);
    expect(ag_dataset_read(dataset, ag_dataset_start(dataset), n, rows) == AG_OK);
    for (uint64_t i = 0; i < n; i++) {
        check_row(rows->tokens + i * length, rows->targets + i * length,
                  rows->positions + i * length, length, rows->n_tokens[i], rows->n_targets[i]);
    }
    expect(ag_dataset_show(dataset, ag_dataset_start(dataset), 0, &text) == AG_OK);
    ag_array_fini(&text);
    return n;
}

static void use_file(const ag_dataset_opts_t *opts, int32_t *numbers[2], uint32_t *counts)
{
    size_t n = (size_t)MOST_ROWS * opts->seq_length;
    uint64_t n_rows = 0;

    for (int again = 0; again < 2; again++) {
        ag_data_rows_t rows = {.tokens = numbers[again],
                               .targets = numbers[again] + n,
                               .positions = numbers[again] + 2 * n,
                               .n_tokens = counts,
                               .n_targets = counts + MOST_ROWS};
        ag_dataset_t *dataset;

        memset(numbers[again], 0, 3 * n * sizeof(int32_t));
        if (ag_dataset_open(opts, &dataset) != AG_OK) {
            expect(again == 0 && strchr(ag_error(), '\n') == NULL);
            return;
        }
        expect(ag_dataset_counts(dataset).from_cache == (again == 1));
        n_rows = read_rows(dataset, opts->seq_length, &rows);
        ag_dataset_close(dataset);
    }
    expect(n_rows > 0 && memcmp(numbers[0], numbers[1], 3 * n * sizeof(int32_t)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n_bytes)
{
    static const char *const names[] = {"data.jsonl", "data.txt", "data", "data.json"};
    int32_t *numbers[2];
    char data[64];
    const char *path = data;
    uint32_t *counts;
    ag_dataset_opts_t opts = {.paths = &path, .n_paths = 1, .vocab_size = VOCAB};

    if (n_bytes < 2) {
        return 0;
    }
    if (tokenizer == NULL) {
        make_tokenizer();
    }
    opts.tokenizer = tokenizer;
    opts.cache_dir = cache;
    opts.seq_length = 1u + bytes[1];
    opts.train_on_prompt = bytes[0] & 4;
    opts.order = bytes[0] & 8 ? AG_DATA_IN_ORDER : AG_DATA_SHUFFLED;
    opts.seed = bytes[0];
    snprintf(data, sizeof(data), "%s/%s", folder, names[bytes[0] & 3]);
    write_file(folder, names[bytes[0] & 3], bytes + 2, n_bytes - 2);
    for (int i = 0; i < 2; i++) {
        numbers[i] = malloc((size_t)3 * MOST_ROWS * opts.seq_length * sizeof(int32_t));
    }
    counts = calloc(2 * MOST_ROWS, sizeof(*counts));
    expect(numbers[0] != NULL && numbers[1] != NULL && counts != NULL);
    use_file(&opts, numbers, counts);
    free(numbers[0]);
    free(numbers[1]);
    free(counts);
    unlink(data);
    empty_cache();
    return 0;
}
