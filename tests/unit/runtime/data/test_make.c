/* Large files in batches, by several threads; and what is no data. */
#include "runtime/data/make_priv.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "make_data.h"
#include "runtime/base/philox.h"

/* A text of words, n_bytes long. */
static char *make_text(size_t n_bytes, char line_end)
{
    char *text = malloc(n_bytes + 1);

    cr_assert_not_null(text);
    for (size_t i = 0; i < n_bytes; i++) {
        unsigned drawn = (unsigned)(ag_philox_uniform(3, 1, i) * 64);

        text[i] = drawn < 52 ? (char)('a' + drawn % 26) : drawn == 63 ? line_end : ' ';
    }
    text[n_bytes] = '\0';
    return text;
}

static void read_first(const ag_dataset_opts_t *opts, uint32_t n_rows, batch_t *batch,
                       ag_dataset_counts_t *counts)
{
    ag_dataset_t *dataset = open_data(opts);

    *counts = ag_dataset_counts(dataset);
    cr_expect_not(counts->from_cache);
    batch_open(batch, n_rows, opts->seq_length);
    batch_read(batch, dataset, ag_dataset_start(dataset));
    ag_dataset_close(dataset);
}

/* Longer than a batch, and than a block; each thread count has batches of its own. */
Test(make, a_long_text_is_its_tokens_for_any_number_of_threads)
{
    enum { BYTES = 2500 * 1000 };
    char *text = make_text(BYTES, '\n');
    ag_array_t ids;
    room_t room;

    room_open(&room, NULL, false);
    room_write(&room, "long.txt", text, BYTES);
    ids = ids_of(room.tokenizer, text);
    for (unsigned n_threads = 0; n_threads <= 3; n_threads++) {
        ag_dataset_opts_t opts = room_opts(&room, room_path(&room, "long.txt"), 4096);
        uint32_t n_rows = (uint32_t)(ids.n_items / 4096);
        ag_dataset_counts_t counts;
        char cache[512];
        batch_t batch;

        if (n_threads > 0) {
            cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = n_threads}, &opts.team),
                         AG_OK);
        }
        opts.order = AG_DATA_IN_ORDER;
        read_first(&opts, n_rows, &batch, &counts);
        cr_expect_eq(counts.documents, 1);
        cr_expect_eq(counts.tokens, ids.n_items + 1);
        cr_expect_arr_eq(batch.rows.tokens, ids.items, (size_t)n_rows * 4096 * 4);
        batch_close(&batch);
        ag_team_destroy(opts.team);
        cr_assert_eq(room_caches(&room, cache), 1);
        remove(cache);
    }
    ag_array_fini(&ids);
    free(text);
    room_close(&room);
}

/* A tokenizer that puts a space before a text: not before each part of it. */
Test(make, parts_of_a_text_get_no_space_in_front)
{
    enum { BYTES = 400 * 1000, ROWS = 20, LENGTH = 1024 };
    char *text = make_text(BYTES, '\n');
    ag_dataset_opts_t opts;
    ag_dataset_counts_t counts;
    ag_array_t ids;
    batch_t batch;
    room_t room;

    room_open_file(&room, AG_TEST_DATA "/tokenizer/prefix/tokenizer.json");
    opts = room_opts(&room, room_write(&room, "long.txt", text, BYTES), LENGTH);
    opts.order = AG_DATA_IN_ORDER;
    ids = ids_of(room.tokenizer, text);
    read_first(&opts, ROWS, &batch, &counts);
    cr_expect_eq(counts.tokens, ids.n_items); /* it names no EOS */
    cr_expect_arr_eq(batch.rows.tokens, ids.items, ROWS * LENGTH * 4);
    batch_close(&batch);
    ag_array_fini(&ids);
    free(text);
    room_close(&room);
}

/* Lines of any length, some longer than a block, in the order of the file. */
Test(make, lines_keep_their_order_for_any_number_of_threads)
{
    enum { LINES = 3000 };
    ag_array_t file = AG_ARRAY(char);
    ag_dataset_counts_t one = {0};
    batch_t first = {0};
    room_t room;

    room_open(&room, NULL, false);
    for (int i = 0; i < LINES; i++) {
        char line[64];
        size_t n_pad = i == 1500 ? 1100 * 1000 : (size_t)i % 300;
        int n = snprintf(line, sizeof(line), "{\"text\":\"%d\"", i);

        cr_assert_eq(ag_array_append(&file, line, (size_t)n), AG_OK);
        cr_assert_eq(ag_array_append(&file, NULL, n_pad), AG_OK);
        memset(AG_ITEMS(&file, char) + file.n_items - n_pad, ' ', n_pad);
        cr_assert_eq(ag_array_append(&file, "}\n", 2), AG_OK);
    }
    room_write(&room, "lines", file.items, file.n_items);
    for (unsigned n_threads = 1; n_threads <= 3; n_threads++) {
        ag_dataset_opts_t opts = room_opts(&room, room_path(&room, "lines"), 8);
        ag_dataset_counts_t counts;
        char cache[512];
        batch_t batch;

        cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = n_threads}, &opts.team), AG_OK);
        read_first(&opts, 1000, &batch, &counts);
        batch_check(&batch, TINY_VOCAB);
        cr_expect_eq(counts.documents, LINES);
        if (n_threads == 1) {
            first = batch;
            one = counts;
        } else {
            cr_expect(batch_equal(&batch, &first), "%u threads", n_threads);
            cr_expect_eq(counts.tokens, one.tokens);
            batch_close(&batch);
        }
        ag_team_destroy(opts.team);
        cr_assert_eq(room_caches(&room, cache), 1);
        remove(cache);
    }
    batch_close(&first);
    ag_array_fini(&file);
    room_close(&room);
}

Test(make, the_first_error_of_a_file_is_told_whoever_finds_it)
{
    ag_array_t file = AG_ARRAY(char);
    ag_dataset_opts_t opts;
    room_t room;

    room_open(&room, NULL, false);
    for (int i = 1; i <= 4000; i++) {
        const char *line = i == 17 || i == 3999 ? "{}\n" : "{\"text\":\"a\"}\n";

        cr_assert_eq(ag_array_append(&file, line, strlen(line)), AG_OK);
    }
    opts = room_opts(&room, room_write(&room, "d.jsonl", file.items, file.n_items), 8);
    cr_assert_eq(ag_team_create(&(ag_team_opts_t){.n_threads = 3}, &opts.team), AG_OK);
    expect_fails(&opts, AG_ERR_FORMAT, "d.jsonl:17: ");
    ag_team_destroy(opts.team);
    cr_expect_eq(room_caches(&room, NULL), 0, "a file is complete or absent");
    ag_array_fini(&file);
    room_close(&room);
}

static bool yes(void *arg)
{
    (void)arg;
    return true;
}

Test(make, it_stops_when_asked_to)
{
    const ag_cancel_t cancel = {.is_asked = yes};
    const char *path = AG_TEST_DATA "/tiny/train_stream.npy";
    ag_dataset_opts_t opts;
    ag_dataset_t *dataset;
    room_t room;

    room_open(&room, NULL, false);
    opts = room_opts(&room, room_lines(&room, "d.jsonl", "{'text':'a'}"), 8);
    opts.cancel = &cancel;
    expect_fails(&opts, AG_ERR_INTERRUPTED, "interrupted");
    cr_expect_eq(room_caches(&room, NULL), 0);
    opts.cancel = NULL;
    dataset = open_data(&opts);
    ag_dataset_close(dataset);
    opts.cancel = &cancel;
    expect_fails(&opts, AG_ERR_INTERRUPTED, "interrupted while checking");
    opts = room_opts(&room, path, 32);
    opts.cancel = &cancel;
    expect_fails(&opts, AG_ERR_INTERRUPTED, "train_stream.npy");
    room_close(&room);
}

/* Asked whether to stop, somebody writes to the file. */
static bool append_to(void *arg)
{
    FILE *file = fopen(arg, "ab");

    fputs("\n{\"text\":\"more\"}", file);
    fclose(file);
    return false;
}

Test(make, a_file_that_grows_while_it_is_read_is_told)
{
    char path[512];
    const ag_cancel_t cancel = {.is_asked = append_to, .arg = path};
    ag_dataset_opts_t opts;
    room_t room;

    room_open(&room, NULL, false);
    snprintf(path, sizeof(path), "%s", room_lines(&room, "d.jsonl", "{'text':'a'}"));
    opts = room_opts(&room, path, 8);
    opts.cancel = &cancel;
    expect_fails(&opts, AG_ERR_IO, "d.jsonl was changed while it was read: start again");
    cr_expect_eq(room_caches(&room, NULL), 0);
    room_close(&room);
}

static void expect_refused(const room_t *room, const char *name, const char *bytes, size_t n_bytes,
                           const char *words)
{
    ag_dataset_opts_t opts = room_opts(room, room_write(room, name, bytes, n_bytes), 8);

    expect_fails(&opts, AG_ERR_FORMAT, words);
    cr_expect_not_null(strstr(ag_error(), name), "%s", ag_error());
}

Test(make, what_is_no_data_is_told)
{
    ag_dataset_opts_t opts;
    const char *paths[2];
    room_t room;

    room_open(&room, NULL, false);
    expect_refused(&room, "a.jsonl", "", 0, "is empty");
    expect_refused(&room, "a.txt", "", 0, "is empty");
    expect_refused(&room, "a.jsonl", "\n \n", 3, "nothing but blank lines");
    expect_refused(&room, "a.jsonl.gz", "\x1f\x8b\x08\0", 4, "gzip data: unpack it");
    expect_refused(&room, "a.parquet", "PAR1x", 5, "Parquet");
    expect_refused(&room, "a.npy", "x", 1, "not a .npy file");
    expect_refused(&room, "a.txt",
                   "\xff\xfe"
                   "a\0",
                   4, "UTF-16");
    expect_refused(&room, "a.json", "[\n{\"text\":\"a\"}\n]", 17,
                   "a.json:1: each line is one JSON");
    expect_refused(&room, "a.npy", "\x93NUMPY\1\0\4\0none", 14, "header");
    opts = room_opts(&room, room_path(&room, "nowhere"), 8);
    expect_fails(&opts, AG_ERR_IO, "nowhere");
    opts = room_opts(&room, room.folder, 8);
    expect_fails(&opts, AG_ERR_IO, "is a folder: give the files in it");
    cr_assert_eq(mkfifo(room_path(&room, "pipe"), 0600), 0);
    opts = room_opts(&room, room_path(&room, "pipe"), 8);
    expect_fails(&opts, AG_ERR_IO, "no regular file");
    paths[0] = AG_TEST_DATA "/tiny/train_stream.npy";
    paths[1] = room_text(&room, "t.txt", "a");
    opts.paths = paths;
    opts.n_paths = 2;
    expect_fails(&opts, AG_ERR_INVALID, "of text or of ids, not of both");
    opts = room_opts(&room, paths[1], 0);
    expect_fails(&opts, AG_ERR_INVALID, "sequence length of 0");
    opts.seq_length = 8;
    opts.tokenizer = NULL;
    expect_fails(&opts, AG_ERR_INVALID, "no tokenizer");
    room_close(&room);
}
