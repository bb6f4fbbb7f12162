/* Whatever breaks, the last complete checkpoint is there and right, and what is damaged says so. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "make_checkpoints.h"

enum { N_RANKS = 3, FILE_BYTES = 2 * WORLD_PATH_BYTES };

/* A disk that fails at one change, or from it on. */
typedef struct failing {
    uint64_t n_changes, at;
    bool for_good;
    bool has_failed;
} failing_t;

static int fail_at(void *arg, const char *path)
{
    failing_t *failing = arg;
    uint64_t n = failing->n_changes++;

    (void)path;
    if (n == failing->at || (failing->for_good && n > failing->at)) {
        failing->has_failed = true;
        return failing->for_good ? EIO : ENOSPC;
    }
    return 0;
}

/* A world with a complete checkpoint of step 1. */
static void open_saved_world(uint64_t seed, world_t *world)
{
    saving_t saving = {.n_steps = 1, .world = world};

    open_world(seed, world);
    cr_assert_eq(save_all(&saving, N_RANKS, seed), AG_OK);
    cr_assert_eq(saving.statuses[0], AG_OK);
}

static uint64_t load_last(const world_t *world)
{
    uint64_t step, n_wrong;

    cr_assert_eq(load_all(world, 9, 2, AG_STEP_LAST, &step, &n_wrong, NULL), AG_OK, "%s",
                 ag_error());
    cr_assert_eq(n_wrong, 0);
    return step;
}

/* Entries of a folder, but for the two that each has. */
static uint32_t count_entries(const char *path)
{
    DIR *folder = opendir(path);
    uint32_t n = 0;

    cr_assert_not_null(folder);
    while (readdir(folder) != NULL) {
        n++;
    }
    closedir(folder);
    return n - 2;
}

Test(checkpoint_faults, a_run_that_is_killed_at_any_change_of_the_disk_goes_on_from_the_last_one)
{
    failing_t failing = {.for_good = true, .has_failed = true};
    uint32_t n_old = 0, n_new = 0;

    for (uint64_t at = 0; failing.has_failed; at++) {
        saving_t saving = {.n_steps = 1, .first_step = 2, .opts.from_step = 1, .layout_seed = at};
        char folder[FILE_BYTES];
        uint64_t found;
        world_t world;

        open_saved_world(at % 5, &world);
        failing = (failing_t){.at = at, .for_good = true};
        saving.world = &world;
        saving.opts.fault = fail_at;
        saving.opts.fault_arg = &failing;
        saving.statuses[0] = AG_ERR_IO;
        (void)save_all(&saving, N_RANKS, at);
        found = load_last(&world);
        cr_assert(found == 2 || (found == 1 && saving.statuses[0] != AG_OK), "change %llu",
                  (unsigned long long)at);
        n_old += found == 1;
        n_new += found == 2;

        saving.opts = (ag_saver_opts_t){.from_step = found, .keep = 1};
        saving.first_step = found + 1;
        cr_assert_eq(save_all(&saving, 2, at), AG_OK);
        cr_assert_eq(saving.statuses[0], AG_OK, "%s", saving.errors[0]);
        cr_assert_eq(load_last(&world), found + 1);
        cr_assert_eq(count_entries(world.dir), 1);
        snprintf(folder, sizeof(folder), "%s/step-%llu", world.dir, (unsigned long long)found + 1);
        cr_assert_eq(count_entries(folder), 3, "two ranks' files and a manifest");
        close_world(&world);
    }
    cr_expect_geq(n_old, 20, "%u", n_old);
    cr_expect_geq(n_new, 2, "%u", n_new);
}

Test(checkpoint_faults, a_full_disk_loses_one_checkpoint_and_nothing_else)
{
    failing_t failing = {.has_failed = true};
    uint32_t n_lost = 0;

    for (uint64_t at = 0; failing.has_failed; at++) {
        saving_t saving = {.n_steps = 2, .first_step = 2, .opts.from_step = 1, .trains = at % 2};
        ag_status_t *statuses = saving.statuses;
        world_t world;

        open_saved_world(at % 5, &world);
        failing = (failing_t){.at = at};
        saving.world = &world;
        saving.opts.fault = fail_at;
        saving.opts.fault_arg = &failing;
        saving.opts.snapshot_bytes = at % 3 == 0; /* 0: room for all, 1: for nothing */
        statuses[0] = statuses[1] = AG_ERR_PEER;
        if (save_all(&saving, N_RANKS, at) == AG_OK) {
            cr_assert(statuses[0] == AG_OK || statuses[1] == AG_OK);
            cr_assert_eq(load_last(&world), statuses[1] == AG_OK ? 3 : 2);
        }
        for (int i = 0; i < 2; i++) {
            cr_assert(statuses[i] != AG_ERR_IO ||
                          strstr(saving.errors[i], "No space left on device") != NULL,
                      "%s", saving.errors[i]);
            n_lost += statuses[i] == AG_ERR_IO;
        }
        close_world(&world);
    }
    cr_expect_geq(n_lost, 40, "%u", n_lost);
}

/* What an attempt at step 2 has left. */
static void forget_step_2(const world_t *world)
{
    char command[FILE_BYTES + 16];

    snprintf(command, sizeof(command), "rm -rf %s/step-2", world->dir);
    cr_assert_eq(system(command), 0);
}

/* Save step 2 while a rank dies. @return whether rank 0 was told that it is complete. */
static bool save_dying(const world_t *world, const ag_turns_opts_t *opts, uint64_t *n_calls)
{
    saving_t saving = {.n_steps = 1, .first_step = 2, .opts.from_step = 1, .world = world};
    ag_turns_end_t ends[N_RANKS];

    saving.statuses[0] = AG_ERR_PEER;
    ag_turns_play(opts, save_rank, &saving, ends);
    for (uint32_t r = 0; r < N_RANKS; r++) {
        *n_calls = ends[r].n_calls > *n_calls ? ends[r].n_calls : *n_calls;
        cr_assert(ends[r].status == AG_OK ||
                      (opts->has_death && (r == opts->dead_rank || ends[r].status == AG_ERR_PEER)),
                  "%s", ends[r].error);
    }
    return saving.statuses[0] == AG_OK;
}

Test(checkpoint_faults, a_rank_that_dies_whenever_leaves_the_last_complete_one)
{
    uint32_t n_old = 0, n_new = 0;
    uint64_t n_calls = 0;
    world_t world;

    open_saved_world(3, &world);
    cr_assert(save_dying(&world, &(ag_turns_opts_t){.n_ranks = N_RANKS, .seed = 1}, &n_calls));
    for (uint64_t call = 0; call < n_calls; call += 2) {
        ag_turns_opts_t opts = {.n_ranks = N_RANKS,
                                .seed = call,
                                .has_death = true,
                                .dead_rank = (uint32_t)call % N_RANKS,
                                .death_call = call};
        bool is_told;
        uint64_t found;

        forget_step_2(&world);
        is_told = save_dying(&world, &opts, &n_calls);
        found = load_last(&world);
        cr_assert(found == 2 || (found == 1 && !is_told));
        n_old += found == 1;
        n_new += found == 2;
    }
    close_world(&world);
    cr_expect_geq(n_old, 20, "%u", n_old);
    cr_expect_geq(n_new, 3, "%u", n_new);
}

/* ---- damaged files ---- */

/* One in which each rank has written something. */
static void open_full_world(world_t *world)
{
    bool is_full = false;

    for (uint64_t seed = 0; !is_full; seed++) {
        open_saved_world(seed, world);
        is_full = true;
        for (int r = 0; r < N_RANKS; r++) {
            char path[FILE_BYTES];
            struct stat info;

            snprintf(path, sizeof(path), "%s/step-1/rank-%d.bin", world->dir, r);
            cr_assert_eq(stat(path, &info), 0);
            is_full = is_full && info.st_size > 1000;
        }
        if (!is_full) {
            close_world(world);
        }
    }
}

typedef struct bytes {
    char path[FILE_BYTES];
    unsigned char *data;
    size_t n;
} bytes_t;

static void read_file(const world_t *world, const char *name, bytes_t *bytes)
{
    struct stat info;
    FILE *file;

    snprintf(bytes->path, sizeof(bytes->path), "%s/step-1/%s", world->dir, name);
    cr_assert_eq(stat(bytes->path, &info), 0, "%s", bytes->path);
    bytes->n = (size_t)info.st_size;
    bytes->data = malloc(bytes->n + 1);
    file = fopen(bytes->path, "rb");
    cr_assert(file != NULL && fread(bytes->data, 1, bytes->n, file) == bytes->n);
    fclose(file);
}

static void write_file(const bytes_t *bytes, size_t n)
{
    FILE *file = fopen(bytes->path, "wb");

    cr_assert(file != NULL && fwrite(bytes->data, 1, n, file) == n);
    fclose(file);
}

/* @return how loading step 1 fails; its error is one line that names the file. */
static ag_status_t load_damaged(const world_t *world, const bytes_t *bytes, char *error)
{
    uint64_t step, n_wrong;
    ag_status_t status = load_all(world, 9, 2, 1, &step, &n_wrong, error);

    cr_assert(status == AG_OK || strstr(error, bytes->path) != NULL, "%s", error);
    cr_assert(strchr(error, '\n') == NULL, "%s", error);
    cr_assert_eq(n_wrong, 0, "wrong numbers where no error was told");
    return status;
}

static const char *const files[] = {"rank-0.bin", "rank-1.bin", "rank-2.bin", "manifest.json"};

enum { N_FILES = sizeof(files) / sizeof(files[0]) };

Test(checkpoint_faults, a_bit_that_flips_is_found_wherever_it_is)
{
    char error[AG_SAVE_ERROR_BYTES];
    uint32_t n_flips = 0;
    world_t world;

    open_full_world(&world);
    for (int f = 0; f < N_FILES; f++) {
        bytes_t bytes;

        read_file(&world, files[f], &bytes);
        cr_assert_gt(bytes.n, 0, "%s", files[f]);
        for (size_t at = 0; at < bytes.n; at += 53 + bytes.n / 100, n_flips++) {
            unsigned char bit = (unsigned char)(1u << at % 8);
            ag_status_t status;

            bytes.data[at] ^= bit;
            write_file(&bytes, bytes.n);
            status = load_damaged(&world, &bytes, error);
            cr_assert(status == AG_ERR_FORMAT || status == AG_ERR_UNSUPPORTED, "%s, byte %zu: %s",
                      files[f], at, error);
            cr_assert(f == 3 || strstr(error, "(tensor layer.") != NULL, "%s", error);
            bytes.data[at] ^= bit;
        }
        write_file(&bytes, bytes.n);
        cr_assert_eq(load_damaged(&world, &bytes, error), AG_OK, "%s", error);
        free(bytes.data);
    }
    cr_expect_geq(n_flips, 100, "%u", n_flips);
    close_world(&world);
}

Test(checkpoint_faults, the_first_line_of_a_manifest_is_guarded_too)
{
    char error[AG_SAVE_ERROR_BYTES];
    bytes_t bytes;
    world_t world;

    open_full_world(&world);
    read_file(&world, "manifest.json", &bytes);
    for (size_t bit = 0; bit < 8 * 60; bit++) {
        bytes.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
        write_file(&bytes, bytes.n);
        cr_assert_neq(load_damaged(&world, &bytes, error), AG_OK, "bit %zu", bit);
        bytes.data[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    free(bytes.data);
    close_world(&world);
}

Test(checkpoint_faults, a_file_that_is_cut_off_is_passed_over_for_the_one_before)
{
    char error[AG_SAVE_ERROR_BYTES];
    saving_t saving = {.n_steps = 1, .first_step = 2, .opts.from_step = 1};
    uint64_t step, n_wrong;
    world_t world;

    open_full_world(&world);
    saving.world = &world;
    for (int f = 0; f < N_FILES; f++) {
        bytes_t bytes;

        cr_assert_eq(save_all(&saving, N_RANKS, 1), AG_OK);
        read_file(&world, files[f], &bytes);
        free(bytes.data);
        *strstr(bytes.path, "step-1") = '\0';
        strcat(bytes.path, "step-2/");
        strcat(bytes.path, files[f]);
        if (access(bytes.path, F_OK) != 0) { /* the attempt after the first */
            strcpy(strrchr(bytes.path, '.'), ".1.bin");
        }
        cr_assert_eq(truncate(bytes.path, 40), 0);
        cr_assert_eq(load_all(&world, 9, 2, 2, &step, &n_wrong, error), AG_ERR_FORMAT);
        cr_assert(strstr(error, bytes.path) != NULL, "%s", error);
        cr_assert_eq(load_last(&world), 1);
    }
    close_world(&world);
}

static void replace(bytes_t *bytes, const char *from, const char *to)
{
    char *at;

    bytes->data[bytes->n] = '\0';
    at = strstr((char *)bytes->data, from);
    cr_assert(at != NULL && strlen(from) == strlen(to));
    memcpy(at, to, strlen(to));
    write_file(bytes, bytes->n);
}

static void expect_other_model(const ag_checkpoint_t *checkpoint, const ag_saved_tensor_t *tensors,
                               size_t n_tensors, const char *words)
{
    cr_expect_eq(ag_checkpoint_check_model(checkpoint, "ffff", tensors, n_tensors), AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "step-1 is a checkpoint of another model") != NULL &&
                  strstr(ag_error(), words) != NULL,
              "\"%s\" does not say \"%s\"", ag_error(), words);
}

/* By a tensor, where one differs. */
static void expect_other_models(const world_t *world, const ag_checkpoint_t *checkpoint)
{
    ag_saved_tensor_t tensors[MOST_WORLD_TENSORS] = {0};
    uint32_t n = world->n_tensors;
    char words[128];

    for (uint32_t i = 0; i < n; i++) {
        tensors[i] = (ag_saved_tensor_t){
            .name = world->names[i], .rows = world->rows[i], .cols = world->cols[i]};
    }
    cr_expect_eq(ag_checkpoint_check_model(checkpoint, "0123456789abcdef", tensors, n), AG_OK);
    expect_other_model(checkpoint, tensors, n, "have the same shapes");
    snprintf(words, sizeof(words), "it has %u tensors, the model %u", n, n - 1);
    expect_other_model(checkpoint, tensors, n - 1, words);
    tensors[n - 1].rows++;
    snprintf(words, sizeof(words), "its %s is (%llu, %llu), the model's is (%llu, ",
             world->names[n - 1], (unsigned long long)world->rows[n - 1],
             (unsigned long long)world->cols[n - 1], (unsigned long long)world->rows[n - 1] + 1);
    expect_other_model(checkpoint, tensors, n, words);
    tensors[0].name = "no such";
    expect_other_model(checkpoint, tensors, n, "it has no no such");
}

Test(checkpoint_faults, each_kind_of_trouble_has_its_line)
{
    char error[AG_SAVE_ERROR_BYTES], path[FILE_BYTES];
    ag_checkpoint_t *checkpoint;
    uint64_t step, n_wrong;
    bytes_t bytes;
    world_t world;

    open_full_world(&world);
    cr_assert_eq(ag_checkpoint_open(world.dir, 1, &checkpoint), AG_OK);
    expect_other_models(&world, checkpoint);
    ag_checkpoint_close(checkpoint);

    read_file(&world, "rank-1.bin", &bytes);
    unlink(bytes.path);
    cr_expect_eq(load_damaged(&world, &bytes, error), AG_ERR_IO);
    cr_expect(strstr(error, "rank-1.bin is missing") != NULL, "%s", error);
    cr_expect(strstr(error, "on several hosts all must share the checkpoints' folder") != NULL);
    write_file(&bytes, bytes.n);
    free(bytes.data);

    read_file(&world, "manifest.json", &bytes);
    replace(&bytes, "checkpoint\": 1,", "checkpoint\": 2,");
    cr_expect_eq(load_damaged(&world, &bytes, error), AG_ERR_UNSUPPORTED);
    cr_expect(strstr(error, "manifest.json is of version 2, this argosy reads 1") != NULL, "%s",
              error);
    cr_expect_eq(load_all(&world, 9, 2, AG_STEP_LAST, &step, &n_wrong, error), AG_ERR_UNSUPPORTED,
                 "it is not passed over");
    replace(&bytes, "checkpoint\": 2,", "checkpoint\": 1,");

    snprintf(path, sizeof(path), "%s/step-1", world.dir);
    snprintf(error, sizeof(error), "%s/step-7", world.dir);
    cr_assert_eq(rename(path, error), 0);
    cr_expect_eq(ag_checkpoint_open(world.dir, 7, &checkpoint), AG_ERR_FORMAT);
    cr_expect(strstr(ag_error(), "is of step 1: its folder was renamed") != NULL);
    cr_assert_eq(rename(error, path), 0);

    unlink(bytes.path);
    cr_expect_eq(ag_checkpoint_open(world.dir, 1, &checkpoint), AG_ERR_FORMAT);
    cr_expect(strstr(ag_error(), "step-1 is half-written") != NULL, "%s", ag_error());
    cr_expect_eq(ag_checkpoint_open(world.dir, AG_STEP_LAST, &checkpoint), AG_ERR_IO);
    cr_expect(strstr(ag_error(), "no complete checkpoint in") != NULL, "%s", ag_error());
    cr_expect_eq(ag_checkpoint_open("/tmp/argosy-is-not-there", AG_STEP_LAST, &checkpoint),
                 AG_ERR_IO);
    free(bytes.data);
    close_world(&world);
}

Test(checkpoint_faults, a_tensor_that_is_not_there_or_of_another_shape_is_named)
{
    ag_checkpoint_t *checkpoint;
    float number;
    ag_saved_slice_t slice = {{0, 1}, {0, 1}, &number, 1};
    ag_saved_tensor_t tensor = {"other", 1, 1, 1, &slice};
    world_t world;

    open_full_world(&world);
    cr_assert_eq(ag_checkpoint_open(world.dir, AG_STEP_LAST, &checkpoint), AG_OK);
    cr_expect_eq(ag_checkpoint_load(checkpoint, &tensor, 1), AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "has no tensor other") != NULL, "%s", ag_error());
    tensor.name = world.names[0];
    tensor.rows = 1000;
    cr_expect_eq(ag_checkpoint_load(checkpoint, &tensor, 1), AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), ", not 1000 x 1") != NULL, "%s", ag_error());
    ag_checkpoint_close(checkpoint);
    close_world(&world);
}
