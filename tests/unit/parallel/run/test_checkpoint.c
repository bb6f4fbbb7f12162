/* What is saved on some ranks is what others load, however both hold it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "make_checkpoints.h"

static const ag_saver_opts_t plain;

static bool is_there(const world_t *world, const char *name)
{
    char path[2 * WORLD_PATH_BYTES];

    snprintf(path, sizeof(path), "%s/%s", world->dir, name);
    return access(path, F_OK) == 0;
}

Test(checkpoint, resumes_on_any_layout_of_any_number_of_ranks)
{
    for (uint64_t seed = 0; seed < 100; seed++) {
        uint32_t from = 1 + (uint32_t)seed % MOST_WORLD_RANKS;
        uint32_t to = 1 + (uint32_t)(seed / 3) % MOST_WORLD_RANKS;
        saving_t saving = {.layout_seed = seed, .n_steps = 1, .opts = plain};
        uint64_t step, n_wrong;
        world_t world;

        open_world(seed, &world);
        saving.world = &world;
        cr_assert_eq(save_all(&saving, from, seed), AG_OK, "seed %llu: %s",
                     (unsigned long long)seed, ag_error());
        cr_assert_eq(saving.statuses[0], AG_OK, "%s", saving.errors[0]);
        cr_assert_eq(load_all(&world, seed + 1000, to, AG_STEP_LAST, &step, &n_wrong, NULL), AG_OK,
                     "seed %llu: %s", (unsigned long long)seed, ag_error());
        cr_assert_eq(step, 1);
        cr_assert_eq(n_wrong, 0, "seed %llu: %llu wrong", (unsigned long long)seed,
                     (unsigned long long)n_wrong);
        close_world(&world);
    }
    for (int kind = 0; kind < N_LAYOUT_KINDS; kind++) {
        cr_expect_geq(n_laid_out[kind], 40, "kind %d: %u", kind, n_laid_out[kind]);
    }
    cr_expect_geq(n_empty_shares, 100, "%u", n_empty_shares);
}

Test(checkpoint, has_the_numbers_of_the_moment_at_which_it_was_begun)
{
    for (uint64_t seed = 0; seed < 36; seed++) {
        static const uint64_t rooms[] = {0, 1, 5000};
        saving_t saving = {.layout_seed = seed, .n_steps = 3, .trains = true};
        uint64_t step, n_wrong;
        world_t world;

        open_world(seed, &world);
        saving.world = &world;
        saving.opts.snapshot_bytes = rooms[seed % 3];
        cr_assert_eq(save_all(&saving, 1 + (uint32_t)seed % 4, seed), AG_OK);
        for (uint64_t wanted = 2; wanted <= 3; wanted++) {
            cr_assert_eq(load_all(&world, seed, 2, wanted, &step, &n_wrong, NULL), AG_OK, "%s",
                         ag_error());
            cr_assert_eq(n_wrong, 0, "seed %llu", (unsigned long long)seed);
        }
        close_world(&world);
    }
}

Test(checkpoint, what_several_hold_is_written_once_and_evenly)
{
    enum { N_RANKS = 4, N_TENSORS = 9, COLS = 1000 };
    ag_held_t *held = calloc(N_TENSORS * N_RANKS, sizeof(*held));
    ag_array_t sources = AG_ARRAY(size_t);
    ag_manifest_t manifest;
    const ag_stored_file_t *files;
    uint64_t sum = 0;

    for (uint32_t i = 0; i < N_TENSORS * N_RANKS; i++) {
        uint64_t rows = i / N_RANKS == 0 ? 20000 : 100 * (i / N_RANKS); /* one is large */

        held[i] = (ag_held_t){
            .rows = rows, .cols = COLS, .rect = {{0, rows}, {0, COLS}}, .rank = i % N_RANKS};
        snprintf(held[i].name, sizeof(held[i].name), "%u", i / N_RANKS);
    }
    ag_manifest_init(&manifest);
    cr_assert_eq(ag_pieces_share(held, N_TENSORS * N_RANKS, N_RANKS, &manifest, &sources), AG_OK);
    files = manifest.files.items;
    for (uint32_t r = 0; r < N_RANKS; r++) {
        sum += files[r].bytes;
        cr_expect_leq(files[r].bytes, (20000 + 3600) * COLS + AG_PIECE_BYTES, "rank %u", r);
    }
    cr_expect_eq(sum, (20000 + 3600) * COLS * sizeof(float));
    for (size_t i = 0; i < manifest.pieces.n_items; i++) {
        cr_expect_leq(ag_rect_floats(&AG_ITEMS(&manifest.pieces, ag_piece_t)[i].rect) *
                          sizeof(float),
                      AG_PIECE_BYTES);
    }
    ag_manifest_fini(&manifest);
    ag_array_fini(&sources);
    free(held);
}

Test(checkpoint, large_tensors_come_in_pieces)
{
    /* rows, a single row, and rows that are larger than a piece */
    static const uint64_t shapes[][2] = {{3000, 1000}, {1, 2500001}, {3, 1100000}};

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        saving_t saving = {.n_steps = 1};
        uint64_t step, n_wrong;
        world_t world;

        open_world(0, &world);
        world.n_tensors = 1;
        world.rows[0] = shapes[i][0];
        world.cols[0] = shapes[i][1];
        saving.world = &world;
        cr_assert_eq(save_all(&saving, 3, 5), AG_OK);
        cr_assert_eq(load_all(&world, 8, 2, AG_STEP_LAST, &step, &n_wrong, NULL), AG_OK, "%s",
                     ag_error());
        cr_assert_eq(n_wrong, 0);
        close_world(&world);
    }
}

Test(checkpoint, is_read_row_by_row_without_a_job)
{
    saving_t saving = {.n_steps = 1, .layout_seed = 3};
    const ag_stored_tensor_t *tensors;
    ag_checkpoint_t *checkpoint;
    size_t n_tensors;
    world_t world;

    open_world(5, &world);
    saving.world = &world;
    cr_assert_eq(save_all(&saving, 5, 1), AG_OK);
    cr_assert_eq(ag_checkpoint_open(world.dir, 1, &checkpoint), AG_OK, "%s", ag_error());
    tensors = ag_checkpoint_tensors(checkpoint, &n_tensors);
    cr_assert_eq(n_tensors, world.n_tensors);
    for (size_t t = 0; t < n_tensors; t++) {
        uint32_t i = 0;
        float *row = malloc(tensors[t].cols * sizeof(float));

        cr_assert(t == 0 || strcmp(tensors[t - 1].name, tensors[t].name) < 0);
        while (strcmp(world.names[i], tensors[t].name) != 0) {
            i++;
        }
        for (uint64_t r = 0; r < tensors[t].rows; r++) {
            cr_assert_eq(ag_checkpoint_read_rows(checkpoint, t, (ag_range_t){r, r + 1}, row),
                         AG_OK);
            for (uint64_t c = 0; c < tensors[t].cols; c++) {
                cr_assert_eq(row[c], number_at(i, r, c, 1));
            }
        }
        free(row);
    }
    ag_checkpoint_close(checkpoint);
    close_world(&world);
}

Test(checkpoint, the_last_ones_stay)
{
    saving_t saving = {.n_steps = 5};
    world_t world;

    open_world(1, &world);
    saving.world = &world;
    cr_assert_eq(save_all(&saving, 3, 1), AG_OK);
    cr_expect(!is_there(&world, "step-3") && is_there(&world, "step-4") &&
              is_there(&world, "step-5"));
    close_world(&world);
    open_world(1, &world);
    saving.opts.keep = 4;
    cr_assert_eq(save_all(&saving, 3, 1), AG_OK);
    cr_expect(!is_there(&world, "step-1") && is_there(&world, "step-2"));
    close_world(&world);
}

Test(checkpoint, what_was_saved_after_the_step_that_is_resumed_goes_with_the_next_complete_one)
{
    saving_t saving = {.n_steps = 5, .opts.keep = 3};
    uint64_t step, n_wrong;
    world_t world;

    open_world(1, &world);
    saving.world = &world;
    cr_assert_eq(save_all(&saving, 3, 1), AG_OK);
    saving.n_steps = 0;
    saving.opts.from_step = 3;
    cr_assert_eq(save_all(&saving, 2, 1), AG_OK);
    cr_expect(is_there(&world, "step-5"), "nothing is complete yet");
    saving.n_steps = 1; /* a new run, over a folder of an old one */
    saving.opts.from_step = 0;
    cr_assert_eq(save_all(&saving, 2, 1), AG_OK);
    cr_expect(is_there(&world, "step-1") && !is_there(&world, "step-3") &&
              !is_there(&world, "step-5"));
    cr_assert_eq(load_all(&world, 2, 1, AG_STEP_LAST, &step, &n_wrong, NULL), AG_OK);
    cr_expect(step == 1 && n_wrong == 0);
    close_world(&world);
}

Test(checkpoint, one_of_the_same_step_takes_the_place_of_the_other_when_it_is_complete)
{
    saving_t saving = {.n_steps = 1};
    uint64_t step, n_wrong;
    world_t world;

    open_world(2, &world);
    saving.world = &world;
    for (uint64_t i = 0; i < 3; i++) {
        saving.opts.from_step = i > 0;
        saving.layout_seed = i;
        cr_assert_eq(save_all(&saving, 4 - (uint32_t)i, 1), AG_OK);
        cr_assert_eq(load_all(&world, 2, 3, AG_STEP_LAST, &step, &n_wrong, NULL), AG_OK, "%s",
                     ag_error());
        cr_expect(step == 1 && n_wrong == 0);
        cr_expect_eq(is_there(&world, "step-1/rank-0.bin"), i != 1);
        cr_expect_eq(is_there(&world, "step-1/rank-0.1.bin"), i == 1);
        cr_expect_eq(is_there(&world, "step-1/rank-3.bin"), i == 0, "files of no use go");
    }
    close_world(&world);
}

/* ---- what ranks may not ask for ---- */

typedef struct wrong {
    const world_t *world;
    void (*spoil)(int rank, ag_saved_tensor_t *tensor, ag_saved_slice_t *slice);
} wrong_t;

static ag_status_t create_spoilt(ag_turn_t *turn)
{
    const wrong_t *wrong = turn->arg;
    float data[12] = {0};
    ag_saved_slice_t slice = {{0, 3}, {0, 4}, data, 4};
    ag_saved_tensor_t tensor = {"weight", 3, 4, 1, &slice};
    ag_saver_opts_t opts = {.dir = wrong->world->dir, .spec_hash = "0", .is_stepped = true};
    ag_saver_t *saver = NULL;
    ag_status_t status;

    wrong->spoil(turn->net->rank, &tensor, &slice);
    status = ag_saver_create(turn->net, &turn->idle, &opts, &tensor, 1, &saver);
    ag_saver_destroy(saver);
    return status;
}

static void leave_a_gap(int rank, ag_saved_tensor_t *tensor, ag_saved_slice_t *slice)
{
    (void)tensor;
    slice->cols = rank == 0 ? (ag_range_t){0, 1} : (ag_range_t){2, 4};
}

static void hold_nothing_of_a_row(int rank, ag_saved_tensor_t *tensor, ag_saved_slice_t *slice)
{
    (void)tensor;
    slice->rows = rank == 0 ? (ag_range_t){0, 1} : (ag_range_t){2, 3};
}

static void differ(int rank, ag_saved_tensor_t *tensor, ag_saved_slice_t *slice)
{
    (void)slice;
    tensor->rows = rank == 0 ? 3 : 4;
}

static void reach_outside(int rank, ag_saved_tensor_t *tensor, ag_saved_slice_t *slice)
{
    (void)tensor;
    slice->rows.end += rank == 1;
}

static void have_no_data(int rank, ag_saved_tensor_t *tensor, ag_saved_slice_t *slice)
{
    (void)tensor;
    slice->data = rank == 1 ? NULL : slice->data;
}

Test(checkpoint, ranks_that_do_not_agree_on_what_there_is_are_told_so)
{
    static const struct {
        void (*spoil)(int rank, ag_saved_tensor_t *tensor, ag_saved_slice_t *slice);
        const char *error;
    } cases[] = {
        {leave_a_gap, "saving weight: no rank holds all of its row 0"},
        {hold_nothing_of_a_row, "saving weight: no rank holds all of its row 1"},
        {differ, "saving weight: it is 3 x 4 on rank 0, 4 x 4 on rank 1"},
        {reach_outside, "rank 1: tensor weight: slice 0 lies outside 3 x 4"},
        {have_no_data, "rank 1: tensor weight: slice 0 has no data, or rows that overlap"},
    };
    world_t world;

    open_world(0, &world);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ag_turns_end_t ends[2];

        ag_turns_play(&(ag_turns_opts_t){.n_ranks = 2, .seed = i}, create_spoilt,
                      &(wrong_t){&world, cases[i].spoil}, ends);
        for (int r = 0; r < 2; r++) {
            cr_expect_eq(ends[r].status, AG_ERR_INVALID);
            cr_expect_str_eq(ends[r].error, cases[i].error);
        }
    }
    close_world(&world);
}
