/* Files in, rows out. */
#include "runtime/data/dataset.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "make_data.h"
#include "runtime/file/npy.h"

Test(dataset, the_references_stream_comes_out_of_ids)
{
    enum { ROWS = 2, LENGTH = 32, STEPS = 20 };
    const char *path = AG_TEST_DATA "/tiny/train_stream.npy";
    ag_dataset_opts_t opts = {
        .paths = &path, .n_paths = 1, .vocab_size = 307, .seq_length = LENGTH};
    ag_dataset_t *dataset = open_data(&opts);
    ag_data_position_t position = ag_dataset_start(dataset);
    ag_dataset_counts_t counts = ag_dataset_counts(dataset);
    int32_t *stream;
    size_t n;
    batch_t batch;

    cr_assert_eq(ag_npy_read_ids(path, &stream, &n), AG_OK);
    cr_assert_eq(n, 1281);
    cr_expect_eq(counts.rows, STEPS * ROWS);
    cr_expect_eq(counts.unused_tokens, 0);
    batch_open(&batch, ROWS, LENGTH);
    for (size_t s = 0; s < 2 * STEPS; s++) { /* the second epoch is the first again */
        batch_read(&batch, dataset, position);
        batch_check(&batch, 307);
        for (size_t b = 0; b < ROWS; b++) {
            const int32_t *x = stream + s % STEPS * 64 + b * 32;

            cr_expect_arr_eq(batch.rows.tokens + b * LENGTH, x, LENGTH * 4);
            cr_expect_arr_eq(batch.rows.targets + b * LENGTH, x + 1, LENGTH * 4);
            cr_expect_eq(batch.rows.n_targets[b], LENGTH);
        }
        position = ag_dataset_after(dataset, position, ROWS);
    }
    cr_expect_eq(position.epoch, 2);
    batch_close(&batch);
    free(stream);
    ag_dataset_close(dataset);
}

Test(dataset, files_of_ids_follow_one_another_and_their_ends_are_counted)
{
    int32_t ids[25];
    const char *paths[2];
    ag_dataset_opts_t opts;
    ag_dataset_t *dataset;
    ag_dataset_counts_t counts;
    batch_t batch;
    room_t room;

    for (int32_t i = 0; i < 25; i++) {
        ids[i] = i;
    }
    room_open(&room, NULL, false);
    paths[0] = room_ids(&room, "a.npy", ids, 25);
    paths[1] = room_ids(&room, "b.npy", ids + 5, 11);
    opts = room_opts(&room, NULL, 5);
    opts.paths = paths;
    opts.n_paths = 2;
    opts.cache_dir = NULL;
    dataset = open_data(&opts);
    counts = ag_dataset_counts(dataset);
    cr_expect_eq(counts.rows, 4 + 2);
    cr_expect_eq(counts.unused_tokens, 4);
    batch_open(&batch, 6, 5);
    batch_read(&batch, dataset, ag_dataset_start(dataset));
    for (int32_t i = 0; i < 30; i++) {
        cr_expect_eq(batch.rows.tokens[i], i < 20 ? i : i - 15);
        cr_expect_eq(batch.rows.targets[i], batch.rows.tokens[i] + 1);
    }
    batch_close(&batch);
    ag_dataset_close(dataset);
    opts.seq_length = 11;
    expect_fails(&opts, AG_ERR_FORMAT, "b.npy holds 11 ids");
    opts.seq_length = 5;
    opts.vocab_size = 24;
    expect_fails(&opts, AG_ERR_FORMAT, "a.npy: element 24, 24, is beyond the model's vocabulary");
    ids[3] = -7;
    room_ids(&room, "a.npy", ids, 25);
    expect_fails(&opts, AG_ERR_FORMAT, "a.npy: element 3, -7,");
    room_close(&room);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The pieces of n_rows rows, sorted, one a line: tokens, and behind a colon targets. */
static char *list_pieces(const batch_t *batch)
{
    size_t n_bytes = (size_t)batch->n_rows * batch->seq_length * 14 + 2, n_pieces = 0, at = 0;
    char *text = calloc(1, n_bytes), *sorted = calloc(1, n_bytes);
    char **pieces = calloc((size_t)batch->n_rows * batch->seq_length, sizeof(*pieces));

    for (uint32_t r = 0; r < batch->n_rows; r++) {
        for (uint32_t i = 0; i < batch->rows.n_tokens[r]; i++) {
            size_t k = (size_t)r * batch->seq_length + i;

            if (batch->rows.positions[k] == 0) {
                at++; /* the end of the one before */
                pieces[n_pieces++] = text + at;
            }
            at +=
                (size_t)sprintf(text + at, "%d:%d ", batch->rows.tokens[k], batch->rows.targets[k]);
        }
    }
    qsort(pieces, n_pieces, sizeof(*pieces), compare_texts);
    at = 0;
    for (size_t i = 0; i < n_pieces; i++) {
        at += (size_t)sprintf(sorted + at, "%s\n", pieces[i]);
    }
    free(text);
    free(pieces);
    return sorted;
}

static char *list_epoch(const ag_dataset_t *dataset, uint32_t seq_length, uint64_t epoch)
{
    ag_dataset_counts_t counts = ag_dataset_counts(dataset);
    ag_data_position_t position = ag_dataset_start(dataset);
    uint64_t n_tokens = 0;
    batch_t batch;
    char *list;

    batch_open(&batch, (uint32_t)counts.rows, seq_length);
    position.epoch = epoch;
    batch_read(&batch, dataset, position);
    batch_check(&batch, TINY_VOCAB);
    for (uint64_t r = 0; r < counts.rows; r++) {
        n_tokens += batch.rows.n_tokens[r];
    }
    cr_expect_eq(n_tokens, counts.row_tokens);
    list = list_pieces(&batch);
    batch_close(&batch);
    return list;
}

/* JSON lines of n texts and samples, of any length up to most letters. */
static const char *many_lines(const room_t *room, const char *name, unsigned n, unsigned most)
{
    ag_array_t text = AG_ARRAY(char);
    uint32_t state = n * 31 + most;
    const char *path;

    for (unsigned i = 0; i < n; i++) {
        char line[4096];
        unsigned length, at;

        state = state * 1664525u + 1013904223u;
        length = (state >> 16) % (most + 1);
        at = (unsigned)sprintf(line, i % 3 ? "{\"text\":\"" : "{\"prompt\":\"why ");
        for (unsigned k = 0; k < length; k++) {
            state = state * 1664525u + 1013904223u;
            line[at++] = k % 7 == 6 ? ' ' : (char)('a' + (state >> 16) % 26);
        }
        at += (unsigned)sprintf(line + at, i % 3 ? "\"}\n" : "\",\"completion\":\"%u\"}\n", i);
        cr_assert_eq(ag_array_append(&text, line, at), AG_OK);
    }
    path = room_write(room, name, text.items, text.n_items);
    ag_array_fini(&text);
    return path;
}

Test(dataset, every_piece_comes_once_an_epoch_whatever_the_order)
{
    static const uint32_t lengths[] = {1, 2, 7, 64, 1000};
    room_t room;
    const char *path;

    room_open(&room, NULL, true);
    path = many_lines(&room, "d.jsonl", 300, 200);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        ag_dataset_opts_t opts = room_opts(&room, path, lengths[i]);
        ag_dataset_t *dataset;
        char *in_order, *shuffled;

        opts.order = AG_DATA_IN_ORDER;
        dataset = open_data(&opts);
        in_order = list_epoch(dataset, lengths[i], 0);
        shuffled = list_epoch(dataset, lengths[i], 1);
        cr_expect_str_eq(in_order, shuffled);
        free(shuffled);
        ag_dataset_close(dataset);
        for (uint64_t seed = 0; seed < 3; seed++) {
            opts.order = AG_DATA_SHUFFLED;
            opts.seed = seed << 31;
            dataset = open_data(&opts);
            for (uint64_t epoch = 0; epoch < 2; epoch++) {
                shuffled = list_epoch(dataset, lengths[i], epoch);
                cr_expect_str_eq(in_order, shuffled, "seed %lu, length %u", (unsigned long)seed,
                                 lengths[i]);
                free(shuffled);
            }
            cr_expect(ag_dataset_counts(dataset).from_cache);
            ag_dataset_close(dataset);
        }
        free(in_order);
    }
    cr_expect_eq(room_caches(&room, NULL), 1);
    room_close(&room);
}

static void read_epochs(const ag_dataset_opts_t *opts, batch_t *batch)
{
    ag_dataset_t *dataset = open_data(opts);

    batch_open(batch, (uint32_t)ag_dataset_counts(dataset).rows * 2, opts->seq_length);
    batch_read(batch, dataset, ag_dataset_start(dataset));
    ag_dataset_close(dataset);
}

Test(dataset, the_order_is_the_seeds_and_each_epoch_has_its_own)
{
    ag_dataset_opts_t opts;
    batch_t one, again, other, in_order;
    size_t n;
    room_t room;

    room_open(&room, NULL, false);
    opts = room_opts(&room, many_lines(&room, "d.jsonl", 200, 60), 32);
    opts.seed = 7;
    read_epochs(&opts, &one);
    read_epochs(&opts, &again);
    cr_expect(batch_equal(&one, &again));
    n = (size_t)one.n_rows / 2 * one.seq_length;
    cr_expect_arr_neq(one.rows.tokens, one.rows.tokens + n, n * sizeof(int32_t));
    opts.seed = 8;
    read_epochs(&opts, &other);
    cr_expect_not(batch_equal(&one, &other));
    opts.order = AG_DATA_IN_ORDER;
    read_epochs(&opts, &in_order);
    cr_expect_arr_eq(in_order.rows.tokens, in_order.rows.tokens + n, n * sizeof(int32_t));
    batch_close(&one);
    batch_close(&again);
    batch_close(&other);
    batch_close(&in_order);
    room_close(&room);
}

Test(dataset, training_goes_on_from_every_position)
{
    ag_dataset_opts_t opts;
    ag_dataset_t *dataset, *resumed;
    ag_data_position_t position;
    batch_t whole, part;
    uint64_t n_rows;
    room_t room;

    room_open(&room, NULL, false);
    opts = room_opts(&room, many_lines(&room, "d.jsonl", 60, 120), 24);
    for (uint64_t seed = 0; seed < 3; seed++) {
        opts.seed = seed;
        dataset = open_data(&opts);
        n_rows = ag_dataset_counts(dataset).rows;
        position = ag_dataset_start(dataset);
        batch_open(&whole, (uint32_t)n_rows * 3, 24);
        batch_read(&whole, dataset, position);
        resumed = open_data(&opts);
        for (uint64_t at = 0; at + 3 <= n_rows * 3; at++) {
            size_t from = at * 24;

            cr_assert_eq(ag_dataset_check(resumed, position), AG_OK);
            batch_open(&part, 3, 24);
            batch_read(&part, resumed, position);
            cr_assert_arr_eq(part.rows.tokens, whole.rows.tokens + from, 72 * 4);
            cr_assert_arr_eq(part.rows.targets, whole.rows.targets + from, 72 * 4);
            cr_assert_arr_eq(part.rows.positions, whole.rows.positions + from, 72 * 4);
            batch_close(&part);
            position = ag_dataset_after(dataset, position, 1);
        }
        cr_expect_eq(position.epoch, 2);
        ag_dataset_close(resumed);
        ag_dataset_close(dataset);
        batch_close(&whole);
    }
    room_close(&room);
}

Test(dataset, a_position_goes_through_json_as_it_is)
{
    static const ag_data_position_t positions[] = {
        {0, 0, 0}, {0xfedcba9876543210ull, 3, 1ull << 40}, {UINT64_MAX, 1, 2}};
    static const char *const damaged[] = {
        "{}", "[]", "{\"fingerprint\":\"0123456789abcdef\",\"epoch\":1}",
        "{\"fingerprint\":\"0123456789abcdeg\",\"epoch\":1,\"row\":1}",
        "{\"fingerprint\":\"0123456789abcdef\",\"epoch\":-1,\"row\":1}"};
    ag_data_position_t read;
    ag_json_t *json;

    for (size_t i = 0; i < 3; i++) {
        json = ag_data_position_json(positions[i]);
        cr_assert_eq(ag_data_position_read(json, &read), AG_OK);
        cr_expect_eq(read.fingerprint, positions[i].fingerprint);
        cr_expect_eq(read.epoch, positions[i].epoch);
        cr_expect_eq(read.row, positions[i].row);
        ag_json_destroy(json);
    }
    for (size_t i = 0; i < sizeof(damaged) / sizeof(*damaged); i++) {
        cr_assert_eq(ag_json_parse(damaged[i], strlen(damaged[i]), "test", &json), AG_OK);
        cr_expect_eq(ag_data_position_read(json, &read), AG_ERR_FORMAT, "%s", damaged[i]);
        ag_json_destroy(json);
    }
}

Test(dataset, a_position_in_other_data_is_refused)
{
    ag_dataset_opts_t opts, others[6];
    ag_dataset_t *dataset;
    ag_data_position_t position;
    room_t room;

    room_open(&room, NULL, false);
    opts = room_opts(&room, many_lines(&room, "d.jsonl", 20, 60), 24);
    dataset = open_data(&opts);
    position = ag_dataset_start(dataset);
    ag_dataset_close(dataset);
    for (int i = 0; i < 6; i++) {
        others[i] = opts;
    }
    others[0].seed = 1;
    others[1].seq_length = 25;
    others[2].train_on_prompt = true;
    others[3].order = AG_DATA_IN_ORDER;
    others[4] = room_opts(&room, many_lines(&room, "e.jsonl", 21, 60), 24);
    others[5] = room_opts(&room, many_lines(&room, "copy.jsonl", 20, 60), 24); /* the same data */
    for (int i = 0; i < 6; i++) {
        dataset = open_data(&others[i]);
        cr_expect_eq(ag_dataset_check(dataset, position), i == 5 ? AG_OK : AG_ERR_INVALID, "%d", i);
        ag_dataset_close(dataset);
    }
    position.row = 1000000;
    dataset = open_data(&opts);
    cr_expect_eq(ag_dataset_check(dataset, position), AG_ERR_INVALID);
    ag_dataset_close(dataset);
    room_close(&room);
}

static void expect_rows(const ag_dataset_opts_t *opts, const char *pieces)
{
    ag_dataset_t *dataset = open_data(opts);
    char *list = list_epoch(dataset, opts->seq_length, 0);

    cr_expect_str_eq(list, pieces);
    free(list);
    ag_dataset_close(dataset);
}

/* The tiny tokenizer has a token for each letter. */
static void letters(const room_t *room, const char *text, int32_t *ids)
{
    for (size_t i = 0; text[i] != '\0'; i++) {
        ag_array_t one = ids_of(room->tokenizer, (char[]){text[i], '\0'});

        cr_assert_eq(one.n_items, 1);
        ids[i] = *AG_ITEMS(&one, int32_t);
        ag_array_fini(&one);
    }
}

Test(dataset, long_texts_are_split_and_long_samples_cut)
{
    ag_dataset_opts_t opts;
    ag_dataset_counts_t counts;
    ag_dataset_t *dataset;
    char expected[256];
    int32_t z[1];
    room_t room;

    room_open(&room, NULL, false);
    letters(&room, "Z", z);
    opts = room_opts(&room, room_lines(&room, "d.jsonl", "{'text':'ZZZZZZZ'}\n"), 3);
    /* seven letters and an end are pieces of 3, 3 and 1: the end is learned after the last */
    snprintf(expected, sizeof(expected), "%d:%d \n%d:%d %d:%d %d:%d \n%d:%d %d:%d %d:%d \n", *z,
             TINY_EOS, *z, *z, *z, *z, *z, *z, *z, *z, *z, *z, *z, *z);
    dataset = open_data(&opts);
    counts = ag_dataset_counts(dataset);
    cr_expect_eq(counts.documents, 1);
    cr_expect_eq(counts.tokens, 8);
    cr_expect_eq(counts.split, 1);
    cr_expect_eq(counts.pieces, 3);
    cr_expect_eq(counts.cut, 0);
    cr_expect_eq(counts.row_tokens, 7);
    ag_dataset_close(dataset);
    expect_rows(&opts, expected);
    opts = room_opts(&room,
                     room_lines(&room, "d.jsonl",
                                "{'prompt':'ZZ','completion':'ZZZZZ'}\n"
                                "{'prompt':'ZZZZ','completion':'Z'}\n"
                                "{'prompt':'Z','completion':'ZZ'}"),
                     3);
    dataset = open_data(&opts);
    counts = ag_dataset_counts(dataset);
    cr_expect_eq(counts.cut, 2);
    cr_expect_eq(counts.cut_tokens, 4 + 2);
    cr_expect_eq(counts.without_target, 1);
    cr_expect_eq(counts.pieces, 2);
    ag_dataset_close(dataset);
    snprintf(expected, sizeof(expected), "%d:-1 %d:%d %d:%d \n%d:%d %d:%d %d:%d \n", *z, *z, *z, *z,
             *z, *z, *z, *z, *z, *z, TINY_EOS);
    expect_rows(&opts, expected);
    opts.train_on_prompt = true;
    dataset = open_data(&opts);
    counts = ag_dataset_counts(dataset);
    cr_expect_eq(counts.without_target, 0);
    cr_expect_eq(counts.pieces, 3);
    ag_dataset_close(dataset);
    room_close(&room);
}

Test(dataset, documents_of_one_token_are_left_out_and_counted)
{
    ag_dataset_opts_t opts;
    ag_dataset_t *dataset;
    room_t room;

    room_open(&room, NULL, false);
    opts = room_opts(&room,
                     room_lines(&room, "d.jsonl", "{'text':''}\n\n{'text':'Z'}\n{'text':''}"), 8);
    dataset = open_data(&opts);
    cr_expect_eq(ag_dataset_counts(dataset).documents, 3);
    cr_expect_eq(ag_dataset_counts(dataset).without_target, 2);
    cr_expect_eq(ag_dataset_counts(dataset).pieces, 1);
    cr_expect_eq(ag_dataset_counts(dataset).rows, 1);
    ag_dataset_close(dataset);
    opts = room_opts(&room, room_lines(&room, "d.jsonl", "{'text':''}"), 8);
    expect_fails(&opts, AG_ERR_FORMAT, "none of 1 documents has a token to learn from");
    room_close(&room);
}

Test(dataset, a_text_file_is_one_document_and_files_come_in_order)
{
    const char *paths[3];
    ag_dataset_opts_t opts;
    ag_dataset_t *dataset;
    ag_dataset_counts_t counts;
    ag_array_t text = AG_ARRAY(char);
    room_t room;

    room_open(&room, NULL, true);
    paths[0] = room_text(&room, "one.txt", "First");
    paths[1] = room_lines(&room, "two", "{'text':'Second'}\n{'text':'Third'}\n");
    paths[2] = room_text(&room, "three", "<s>Fourth</s>");
    opts = room_opts(&room, NULL, 256);
    opts.paths = paths;
    opts.n_paths = 3;
    opts.order = AG_DATA_IN_ORDER;
    dataset = open_data(&opts);
    counts = ag_dataset_counts(dataset);
    cr_expect_eq(counts.documents, 4);
    cr_expect_eq(counts.rows, 1);
    cr_assert_eq(ag_dataset_show(dataset, ag_dataset_start(dataset), 0, &text), AG_OK);
    cr_assert_eq(ag_array_append(&text, "", 1), AG_OK);
    for (int i = 0; i < 4; i++) {
        static const char *const bodies[] = {"First", "Second", "Third", "Fourth"};
        char shown[64];

        snprintf(shown, sizeof(shown), "\n" AG_DATA_MASK_BEGIN "<s>" AG_DATA_MASK_END "%s</s>\n",
                 bodies[i]);
        cr_expect_not_null(strstr(text.items, shown), "%s", AG_ITEMS(&text, char));
    }
    cr_expect_not_null(strstr(text.items, "document 4: "));
    text.n_items = 0;
    cr_assert_eq(ag_dataset_show(dataset, ag_dataset_start(dataset), 2, &text), AG_OK);
    cr_assert_eq(ag_array_append(&text, "", 1), AG_OK);
    cr_expect_not_null(strstr(text.items, "document 2: "));
    cr_expect_null(strstr(text.items, "document 3: "));
    ag_array_fini(&text);
    ag_dataset_close(dataset);
    room_close(&room);
}

Test(dataset, a_shown_sample_has_its_prompt_marked)
{
    ag_array_t text = AG_ARRAY(char);
    ag_dataset_opts_t opts;
    ag_dataset_t *dataset;
    room_t room;

    room_open(&room, CHATML, false);
    opts = room_opts(&room,
                     room_lines(&room, "d.jsonl",
                                "{'messages':[{'role':'user','content':'Hi'},"
                                "{'role':'assistant','content':'Ho'}]}"),
                     256);
    dataset = open_data(&opts);
    cr_assert_eq(ag_dataset_show(dataset, ag_dataset_start(dataset), 0, &text), AG_OK);
    cr_assert_eq(ag_array_append(&text, "", 1), AG_OK);
    cr_expect_not_null(strstr(text.items,
                              "\n" AG_DATA_MASK_BEGIN "<|im_start|>user\nHi<|im_end|>\n"
                              "<|im_start|>assistant\n" AG_DATA_MASK_END "Ho<|im_end|></s>\n"),
                       "%s", AG_ITEMS(&text, char));
    ag_array_fini(&text);
    ag_dataset_close(dataset);
    room_close(&room);
}

Test(dataset, documents_begin_where_positions_do)
{
    static const int32_t positions[] = {0, 1, 2, 0, 0, 1, 0};
    static const int32_t expected[] = {0, 3, 4, 6, 7};
    int32_t row_begin[8];

    cr_assert_eq(ag_data_documents(positions, 7, row_begin), 4);
    cr_expect_arr_eq(row_begin, expected, sizeof(expected));
    cr_expect_eq(ag_data_documents(positions, 0, row_begin), 0);
    cr_expect_eq(row_begin[0], 0);
}
