/* What is kept between runs: used again where it is right, made again where it is not. */
#include "runtime/data/cache_priv.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "make_data.h"

static const char lines[] = "{'text':'One and two'}\n{'prompt':'three','completion':' four'}\n";

/* Read an epoch; @return it was taken from the cache. */
static bool read_all(const ag_dataset_opts_t *opts, batch_t *batch)
{
    ag_dataset_t *dataset = open_data(opts);
    ag_dataset_counts_t counts = ag_dataset_counts(dataset);

    batch_open(batch, (uint32_t)counts.rows, opts->seq_length);
    batch_read(batch, dataset, ag_dataset_start(dataset));
    ag_dataset_close(dataset);
    return counts.from_cache;
}

static void expect_read(const ag_dataset_opts_t *opts, const batch_t *expected, bool from_cache,
                        const char *what)
{
    batch_t batch;

    cr_expect_eq(read_all(opts, &batch), from_cache, "%s: %staken from the cache", what,
                 from_cache ? "not " : "");
    cr_expect(batch_equal(&batch, expected), "%s: other rows", what);
    batch_close(&batch);
}

static size_t read_file(const char *path, unsigned char *bytes, size_t most)
{
    FILE *file = fopen(path, "rb");
    size_t n;

    cr_assert_not_null(file, "%s", path);
    n = fread(bytes, 1, most, file);
    fclose(file);
    return n;
}

static void write_file(const char *path, const unsigned char *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");

    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fwrite(bytes, 1, n, file), n);
    cr_assert_eq(fclose(file), 0);
}

Test(cache, it_is_used_again_and_every_flipped_bit_is_found)
{
    static unsigned char bytes[65536];
    char path[512];
    ag_dataset_opts_t opts;
    batch_t batch;
    room_t room;
    size_t n;

    room_open(&room, NULL, false);
    opts = room_opts(&room, room_lines(&room, "d.jsonl", lines), 16);
    cr_expect_not(read_all(&opts, &batch));
    expect_read(&opts, &batch, true, "again");
    cr_assert_eq(room_caches(&room, path), 1);
    n = read_file(path, bytes, sizeof(bytes));
    for (size_t bit = 0; bit < 8 * n; bit++) {
        ag_cache_t *cache;
        uint64_t key = 0;

        memcpy(&key, bytes + n - sizeof(ag_cache_foot_t), sizeof(key));
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        write_file(path, bytes, n);
        cr_assert_eq(ag_cache_open(path, key, NULL, NULL, &cache), AG_ERR_FORMAT, "bit %zu", bit);
        if (bit % 97 == 0) {
            expect_read(&opts, &batch, false, "after a flipped bit");
            expect_read(&opts, &batch, true, "after it was made again");
        }
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    for (size_t length = 0; length < n; length += 13) {
        write_file(path, bytes, length);
        expect_read(&opts, &batch, false, "after it was cut short");
    }
    cr_expect_eq(room_caches(&room, NULL), 1);
    batch_close(&batch);
    room_close(&room);
}

Test(cache, of_another_version_or_key_it_is_refused)
{
    char path[512];
    ag_dataset_opts_t opts;
    ag_cache_t *cache;
    batch_t batch;
    room_t room;

    room_open(&room, NULL, false);
    opts = room_opts(&room, room_lines(&room, "d.jsonl", lines), 16);
    read_all(&opts, &batch);
    batch_close(&batch);
    room_caches(&room, path);
    cr_expect_eq(ag_cache_open(path, 1, NULL, NULL, &cache), AG_ERR_FORMAT);
    cr_expect_not_null(strstr(ag_error(), "another version, tokenizer or data"));
    cr_expect_eq(ag_cache_open("/nowhere", 1, NULL, NULL, &cache), AG_ERR_IO);
    room_close(&room);
}

/* Move a file's times, as if it had been written so many seconds ago. */
static void age(const char *path, long seconds)
{
    struct timespec times[2];
    struct stat info;

    cr_assert_eq(stat(path, &info), 0);
    times[0] = times[1] = info.st_mtim;
    times[0].tv_sec = times[1].tv_sec -= seconds;
    cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

Test(cache, a_file_that_changed_is_read_again_and_one_that_only_looks_so_is_not)
{
    const char *path;
    ag_dataset_opts_t opts;
    batch_t first, second;
    room_t room;

    room_open(&room, NULL, false);
    path = room_lines(&room, "d.jsonl", "{'text':'abcd'}\n");
    opts = room_opts(&room, path, 16);
    cr_expect_not(read_all(&opts, &first));
    room_lines(&room, "d.jsonl", "{'text':'abce'}\n"); /* as long, at once */
    cr_expect_not(read_all(&opts, &second));
    cr_expect_not(batch_equal(&first, &second));
    room_lines(&room, "d.jsonl", "{'text':'abcd'}\n");
    age(path, 0); /* nothing but its content tells */
    expect_read(&opts, &first, false, "the first again");
    age(path, 3600);
    expect_read(&opts, &first, true, "the same content, other times");
    cr_expect_eq(room_caches(&room, NULL), 1, "one cache for a file, however often it changes");
    batch_close(&first);
    batch_close(&second);
    room_close(&room);
}

/* The same cache, but for what it says that the file's bytes were. */
static void forge(const char *path)
{
    ag_cache_foot_t foot;
    ag_data_stamp_t stamp;
    ag_data_doc_t docs[2];
    int32_t ids[64];
    ag_cache_writer_t *writer;
    ag_cache_t *cache;
    FILE *file = fopen(path, "rb");

    cr_assert_not_null(file);
    cr_assert_eq(fseek(file, -(long)sizeof(foot), SEEK_END), 0);
    cr_assert_eq(fread(&foot, sizeof(foot), 1, file), 1);
    fclose(file);
    cr_assert(foot.n_docs == 2 && foot.n_ids <= 64 && foot.n_files == 1);
    cr_assert_eq(ag_cache_open(path, foot.key, NULL, NULL, &cache), AG_OK);
    cr_assert_eq(ag_cache_ids(cache, 0, foot.n_ids, ids), AG_OK);
    cr_assert_eq(ag_cache_docs(cache, 0, 2, docs), AG_OK);
    cr_assert_eq(ag_cache_stamps(cache, &stamp), AG_OK);
    ag_cache_close(cache);
    stamp.hash++;
    cr_assert_eq(ag_cache_create(path, foot.key, &writer), AG_OK);
    cr_assert_eq(ag_cache_add(writer, ids, foot.n_ids, docs, 2), AG_OK);
    cr_assert_eq(ag_cache_complete(writer, &stamp, 1, 0), AG_OK);
}

/* A clock with coarse steps may give a change right after the reading the same time as before it.
 */
Test(cache, times_of_a_file_that_has_just_been_written_are_not_trusted)
{
    char path[512];
    ag_dataset_opts_t opts;
    batch_t batch;
    room_t room;
    const char *data;

    room_open(&room, NULL, false);
    data = room_lines(&room, "d.jsonl", lines);
    opts = room_opts(&room, data, 16);
    cr_expect_not(read_all(&opts, &batch));
    room_caches(&room, path);
    age(data, -3600); /* in the future: that stays just written however long the test takes */
    expect_read(&opts, &batch, true, "its content is the same");
    cr_assert_eq(unlink(path), 0);
    expect_read(&opts, &batch, false, "made with the file's times as they are");
    expect_read(&opts, &batch, true, "its content is the same");
    forge(path);
    expect_read(&opts, &batch, false, "its times are the same, but not its content");
    batch_close(&batch);
    room_close(&room);
}

Test(cache, another_tokenizer_vocabulary_or_choice_of_files_has_its_own)
{
    const char *paths[2];
    ag_dataset_opts_t opts, others[3];
    batch_t batch, other;
    room_t room, with_bos;

    room_open(&room, NULL, false);
    room_open(&with_bos, NULL, true);
    paths[0] = room_lines(&room, "d.jsonl", lines);
    paths[1] = room_text(&room, "e.txt", "more");
    opts = room_opts(&room, paths[0], 16);
    read_all(&opts, &batch);
    others[0] = others[1] = others[2] = opts;
    others[0].tokenizer = with_bos.tokenizer;
    others[1].vocab_size = 307;
    others[2].paths = paths;
    others[2].n_paths = 2;
    for (size_t i = 0; i < 3; i++) {
        cr_expect_not(read_all(&others[i], &other));
        batch_close(&other);
        cr_expect_eq(room_caches(&room, NULL), 2 + i);
        expect_read(&opts, &batch, true, "the first stays");
    }
    batch_close(&batch);
    room_close(&room);
    room_close(&with_bos);
}

Test(cache, a_folder_that_cannot_be_written_to_is_told)
{
    ag_dataset_opts_t opts;
    room_t room;
    batch_t batch;

    room_open(&room, NULL, false);
    opts = room_opts(&room, room_lines(&room, "d.jsonl", lines), 16);
    opts.cache_dir = opts.paths[0];
    expect_fails(&opts, AG_ERR_IO, "d.jsonl");
    opts.cache_dir = "/proc/nowhere/cache";
    expect_fails(&opts, AG_ERR_IO, "making the folder /proc/nowhere");
    opts.cache_dir = room_path(&room, "some/new/folder/");
    cr_expect_not(read_all(&opts, &batch));
    expect_read(&opts, &batch, true, "from a new folder");
    batch_close(&batch);
    room_close(&room);
}

/* Four processes at once, each of which makes the cache and reads; started again and again. */
Test(cache, several_processes_may_make_the_same_one_at_once)
{
    enum { PROCESSES = 4, ROUNDS = 5 };
    static char program[512], folder[128];
    char *arguments[] = {program, "-j1", "--filter", "cache/reads_for_another_process", NULL};
    /* nothing else: Criterion would take it for a test of the one that started it */
    char *environment[] = {folder, NULL};
    ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
    room_t room;

    cr_assert_gt(n, 0);
    room_open(&room, NULL, false);
    room_lines(&room, "d.jsonl", lines);
    snprintf(folder, sizeof(folder), "AG_TEST_ROOM=%s", room.folder);
    for (int round = 0; round < ROUNDS; round++) {
        pid_t pids[PROCESSES];
        char path[512];

        for (int i = 0; i < PROCESSES; i++) {
            cr_assert_eq(posix_spawn(&pids[i], program, NULL, NULL, arguments, environment), 0);
        }
        for (int i = 0; i < PROCESSES; i++) {
            int status;

            cr_assert_eq(waitpid(pids[i], &status, 0), pids[i]);
            cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        cr_assert_eq(room_caches(&room, path), 1, "what was written aside is gone");
        cr_assert_eq(unlink(path), 0);
    }
    room_close(&room);
}

/* Part of the test above: without a folder in the environment there is nothing to read. */
Test(cache, reads_for_another_process)
{
    const char *folder = getenv("AG_TEST_ROOM");
    char data[256], cache[256];
    ag_dataset_opts_t opts;
    batch_t batch;
    room_t room;

    if (folder == NULL) {
        return;
    }
    room_open(&room, NULL, false);
    snprintf(data, sizeof(data), "%s/d.jsonl", folder);
    snprintf(cache, sizeof(cache), "%s/cache", folder);
    opts = room_opts(&room, data, 16);
    opts.cache_dir = cache;
    read_all(&opts, &batch);
    batch_check(&batch, TINY_VOCAB);
    batch_close(&batch);
    room_close(&room);
}
