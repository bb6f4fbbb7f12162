/* One rank's thread that writes, beside threads that train. */
#include <criterion/criterion.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "comm/net_loop.h"
#include "make_checkpoints.h"
#include "parallel/run/checkpoint_saver_priv.h"

enum { N_THREADS = 4 };

/* A rank that is alone. */
typedef struct alone {
    world_t world;
    holding_t holding;
    ag_net_t *net;
    ag_saver_t *saver;
} alone_t;

static void open_alone(uint64_t seed, const ag_saver_opts_t *more, alone_t *alone)
{
    ag_saver_opts_t opts = *more;

    open_world(seed, &alone->world);
    open_holding(&alone->world, seed, 1, 0, &alone->holding);
    fill(&alone->holding, 1);
    opts.dir = alone->world.dir;
    opts.spec_hash = "0123456789abcdef";
    cr_assert_eq(ag_net_loop_create(1, &alone->net), AG_OK);
    cr_assert_eq(ag_saver_create(alone->net, NULL, &opts, alone->holding.tensors,
                                 alone->world.n_tensors, &alone->saver),
                 AG_OK, "%s", ag_error());
}

static void close_alone(alone_t *alone)
{
    ag_saver_destroy(alone->saver);
    ag_net_close(alone->net);
    close_holding(&alone->holding);
    close_world(&alone->world);
}

static void expect_saved(const alone_t *alone, uint64_t step, uint64_t time)
{
    ag_checkpoint_t *checkpoint;
    holding_t holding;

    open_holding(&alone->world, 3, 1, 0, &holding);
    cr_assert_eq(ag_checkpoint_open(alone->world.dir, step, &checkpoint), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_checkpoint_load(checkpoint, holding.tensors, alone->world.n_tensors), AG_OK);
    cr_assert_eq(count_wrong(&holding, time), 0);
    ag_checkpoint_close(checkpoint);
    close_holding(&holding);
}

/* A disk on which nothing is written until it is let. */
typedef struct gate {
    sem_t open;
    atomic_bool is_shut;
} gate_t;

static int stop_at_gate(void *arg, const char *path)
{
    gate_t *gate = arg;

    if (atomic_load(&gate->is_shut) && strstr(path, "rank-0.bin") != NULL) {
        while (sem_wait(&gate->open) != 0) {
        }
        atomic_store(&gate->is_shut, false);
    }
    return 0;
}

Test(checkpoint_writer, an_update_does_not_wait_for_the_disk)
{
    ag_saver_opts_t opts = {.fault = stop_at_gate};
    gate_t gate = {.is_shut = true};
    alone_t alone;

    sem_init(&gate.open, 0, 0);
    opts.fault_arg = &gate;
    open_alone(2, &opts, &alone);
    cr_assert_eq(ag_saver_begin(alone.saver, 1, NULL), AG_OK);
    overwrite(&alone.holding, 2, alone.saver); /* all of it, while not a byte is written */
    overwrite(&alone.holding, 3, alone.saver);
    cr_assert_eq(ag_saver_test(alone.saver), AG_PENDING);
    sem_post(&gate.open);
    cr_assert_eq(ag_saver_wait(alone.saver), AG_OK, "%s", ag_error());
    cr_expect_eq(ag_saver_last_step(alone.saver), 1);
    expect_saved(&alone, 1, 1);
    close_alone(&alone);
    sem_destroy(&gate.open);
}

Test(checkpoint_writer, an_update_copies_nothing_that_the_writer_has_taken_while_it_was_away)
{
    ag_saver_opts_t opts = {.fault = stop_at_gate};
    gate_t gate = {.is_shut = true};
    const ag_copies_t *copies;
    alone_t alone;

    sem_init(&gate.open, 0, 0);
    opts.fault_arg = &gate;
    open_alone(2, &opts, &alone);
    copies = &alone.saver->writer.copies;
    cr_assert_eq(ag_saver_begin(alone.saver, 1, NULL), AG_OK);
    for (int i = 0; i < 10000 && atomic_load(&copies->n_needed) > 0; i++) {
        usleep(1000); /* the disk is shut, memory is not */
    }
    cr_assert_eq(copies->n_needed, 0);
    overwrite(&alone.holding, 2, alone.saver);
    cr_expect_eq(copies->used_bytes, 0);
    sem_post(&gate.open);
    cr_assert_eq(ag_saver_wait(alone.saver), AG_OK, "%s", ag_error());
    expect_saved(&alone, 1, 1);
    close_alone(&alone);
    sem_destroy(&gate.open);
}

/* Two tensors of more than a block, of no whole number of the disk's; one in two slices whose rows
 * lie between each other. */
typedef struct large {
    float *vector, *matrix, *were;
    ag_saved_slice_t slices[3];
    ag_saved_tensor_t tensors[2];
    ag_net_t *net;
    ag_saver_t *saver;
    world_t world;
} large_t;

enum { LONG = 1500001, ROWS = 301, COLS = 1003, CUT = 700 };

static void open_large(large_t *large)
{
    large->vector = malloc((LONG + ROWS * COLS) * sizeof(float));
    large->were = malloc((LONG + ROWS * COLS) * sizeof(float));
    large->matrix = large->vector + LONG;
    for (int i = 0; i < LONG + ROWS * COLS; i++) {
        large->vector[i] = large->were[i] = (float)i;
    }
    large->slices[0] = (ag_saved_slice_t){{0, 1}, {0, LONG}, large->vector, LONG};
    large->slices[1] = (ag_saved_slice_t){{0, ROWS}, {0, CUT}, large->matrix, COLS};
    large->slices[2] = (ag_saved_slice_t){{0, ROWS}, {CUT, COLS}, large->matrix + CUT, COLS};
    large->tensors[0] = (ag_saved_tensor_t){"a", 1, LONG, 1, large->slices};
    large->tensors[1] = (ag_saved_tensor_t){"b", ROWS, COLS, 2, large->slices + 1};
    open_world(0, &large->world);
    cr_assert_eq(ag_net_loop_create(1, &large->net), AG_OK);
    cr_assert_eq(ag_saver_create(large->net, NULL,
                                 &(ag_saver_opts_t){
                                     .dir = large->world.dir, .spec_hash = "0", .is_stepped = true},
                                 large->tensors, 2, &large->saver),
                 AG_OK);
    cr_assert_eq(ag_saver_begin(large->saver, 1, NULL), AG_OK);
}

static void close_large(large_t *large)
{
    ag_saver_destroy(large->saver);
    ag_net_close(large->net);
    close_world(&large->world);
    free(large->vector);
    free(large->were);
}

static void change(large_t *large, int begin, int end)
{
    ag_saver_before_write(large->saver, large->vector + begin, (uint64_t)(end - begin));
    for (int i = begin; i < end; i++) {
        large->vector[i] = -1;
    }
}

static void expect_large(large_t *large)
{
    ag_checkpoint_t *checkpoint;

    cr_assert_eq(ag_checkpoint_open(large->world.dir, 1, &checkpoint), AG_OK, "%s", ag_error());
    cr_assert_eq(ag_checkpoint_read_rows(checkpoint, 0, (ag_range_t){0, 1}, large->vector), AG_OK,
                 "%s", ag_error());
    cr_assert_eq(ag_checkpoint_read_rows(checkpoint, 1, (ag_range_t){0, ROWS}, large->matrix),
                 AG_OK, "%s", ag_error());
    for (int i = 0; i < LONG + ROWS * COLS; i++) {
        cr_assert_eq(large->vector[i], large->were[i], "%d: %g", i, (double)large->vector[i]);
    }
    ag_checkpoint_close(checkpoint);
}

Test(checkpoint_writer, an_update_waits_for_copies_of_what_it_changes_and_no_more)
{
    large_t large = {0};
    const ag_copies_t *copies;

    open_large(&large);
    copies = &large.saver->writer.copies;
    change(&large, 100, 101);
    cr_expect_eq(copies->used_bytes, AG_BLOCK_BYTES);
    change(&large, 5, 90);
    cr_expect_eq(copies->used_bytes, AG_BLOCK_BYTES);
    change(&large, LONG - 1, LONG); /* a last block, which is short */
    cr_expect_lt(copies->used_bytes, 2 * AG_BLOCK_BYTES);
    change(&large, 40000, 50000);
    change(&large, LONG + 5 * COLS + CUT - 2, LONG + 250 * COLS + 3); /* of both slices */
    change(&large, LONG + ROWS * COLS - 7, LONG + ROWS * COLS);
    cr_assert_eq(ag_saver_wait(large.saver), AG_OK, "%s", ag_error());
    cr_expect_eq(copies->used_bytes, 0);
    expect_large(&large);
    close_large(&large);
}

Test(checkpoint_writer, slices_may_lie_between_each_other_in_memory)
{
    enum { N_ROWS = 10, N_COLS = 5 };
    float data[N_ROWS * N_COLS], got[N_ROWS * N_COLS];
    ag_saved_slice_t slices[] = {{{0, N_ROWS}, {0, 2}, data, N_COLS},
                                 {{0, 1}, {2, N_COLS}, data + 2, N_COLS},
                                 {{1, N_ROWS}, {2, N_COLS}, data + N_COLS + 2, N_COLS}};
    ag_saved_tensor_t tensor = {"weight", N_ROWS, N_COLS, 3, slices};
    ag_checkpoint_t *checkpoint;
    ag_saver_t *saver;
    ag_net_t *net;
    world_t world;

    open_world(0, &world);
    cr_assert_eq(ag_net_loop_create(1, &net), AG_OK);
    cr_assert_eq(
        ag_saver_create(net, NULL,
                        &(ag_saver_opts_t){.dir = world.dir, .spec_hash = "0", .is_stepped = true},
                        &tensor, 1, &saver),
        AG_OK);
    for (int i = 0; i < N_ROWS * N_COLS; i++) {
        data[i] = (float)i;
    }
    cr_assert_eq(ag_saver_begin(saver, 1, NULL), AG_OK);
    ag_saver_before_write(saver, data + 5 * N_COLS, N_COLS);
    for (int i = 5 * N_COLS; i < 6 * N_COLS; i++) {
        data[i] = -1;
    }
    cr_assert_eq(ag_saver_wait(saver), AG_OK);
    cr_assert_eq(ag_checkpoint_open(world.dir, 1, &checkpoint), AG_OK);
    cr_assert_eq(ag_checkpoint_read_rows(checkpoint, 0, (ag_range_t){0, N_ROWS}, got), AG_OK);
    for (int i = 0; i < N_ROWS * N_COLS; i++) {
        cr_expect_eq(got[i], (float)i, "%d: %g", i, (double)got[i]);
    }
    ag_checkpoint_close(checkpoint);
    ag_saver_destroy(saver);
    ag_net_close(net);
    close_world(&world);
}

/* ---- several threads ---- */

typedef struct trainer {
    alone_t *alone;
    uint64_t time;
    uint32_t index;
} trainer_t;

/* Each has every fourth row; a row's floats belong to pieces that others overwrite too. */
static void *train(void *arg)
{
    const trainer_t *trainer = arg;
    const holding_t *holding = &trainer->alone->holding;

    for (uint32_t i = 0; i < holding->world->n_tensors; i++) {
        const ag_saved_slice_t *slice = &holding->slices[i][0];
        uint64_t width = slice->cols.end;

        for (uint64_t r = trainer->index; r < slice->rows.end; r += N_THREADS) {
            float *row = slice->data + r * slice->stride;

            ag_saver_before_write(trainer->alone->saver, row, width);
            for (uint64_t c = 0; c < width; c++) {
                row[c] = number_at(i, r, c, trainer->time);
            }
        }
    }
    return NULL;
}

static void train_together(alone_t *alone, uint64_t time)
{
    pthread_t threads[N_THREADS];
    trainer_t trainers[N_THREADS];

    for (uint32_t i = 0; i < N_THREADS; i++) {
        trainers[i] = (trainer_t){alone, time, i};
        cr_assert_eq(pthread_create(&threads[i], NULL, train, &trainers[i]), 0);
    }
    for (uint32_t i = 0; i < N_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

Test(checkpoint_writer, threads_that_overwrite_together_leave_what_was_there_when_it_was_begun)
{
    static const uint64_t rooms[] = {0, 1, 3000, 20000};

    for (uint64_t seed = 0; seed < 40; seed++) {
        ag_saver_opts_t opts = {.snapshot_bytes = rooms[seed % 4]};
        alone_t alone;

        open_alone(seed / 4, &opts, &alone);
        for (uint64_t step = 1; step <= 3; step++) {
            cr_assert_eq(ag_saver_begin(alone.saver, step, NULL), AG_OK);
            train_together(&alone, step + 1);
            cr_assert_eq(ag_saver_wait(alone.saver), AG_OK, "%s", ag_error());
            expect_saved(&alone, step, step);
        }
        cr_assert_eq(count_wrong(&alone.holding, 4), 0);
        close_alone(&alone);
    }
}

Test(checkpoint_writer, a_limit_of_file_sizes_is_told_and_training_goes_on)
{
    ag_saver_opts_t opts = {0};
    struct rlimit limit, small;
    alone_t alone;

    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = (struct rlimit){.rlim_cur = 1000, .rlim_max = limit.rlim_max};
    open_alone(2, &opts, &alone);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    cr_assert_eq(ag_saver_begin(alone.saver, 1, NULL), AG_OK);
    train_together(&alone, 2);
    cr_expect_eq(ag_saver_wait(alone.saver), AG_ERR_IO);
    cr_expect(strstr(ag_error(), "step-1/rank-0.bin: File too large") != NULL, "%s", ag_error());
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_expect_eq(ag_saver_last_step(alone.saver), 0);
    cr_assert_eq(ag_saver_begin(alone.saver, 2, NULL), AG_OK);
    train_together(&alone, 3);
    cr_assert_eq(ag_saver_wait(alone.saver), AG_OK, "%s", ag_error());
    expect_saved(&alone, 2, 2);
    close_alone(&alone);
}

Test(checkpoint_writer, one_that_is_given_up_leaves_nothing_and_only_one_is_under_way)
{
    ag_saver_opts_t opts = {0};
    alone_t alone;
    char path[2 * WORLD_PATH_BYTES];

    open_alone(2, &opts, &alone);
    cr_assert_eq(ag_saver_begin(alone.saver, 1, ag_json_new_object()), AG_OK);
    cr_expect_eq(ag_saver_begin(alone.saver, 2, ag_json_new_object()), AG_ERR_INVALID);
    cr_expect(strstr(ag_error(), "another is under way") != NULL, "%s", ag_error());
    cr_expect_eq(ag_saver_bytes(alone.saver), alone.saver->writer.copies.bytes);
    ag_saver_destroy(alone.saver);
    alone.saver = NULL;
    ag_saver_before_write(alone.saver, alone.holding.data[0], 1); /* allowed without one */
    snprintf(path, sizeof(path), "%s/step-1/" AG_MANIFEST_NAME, alone.world.dir);
    cr_expect_neq(access(path, F_OK), 0);
    close_alone(&alone);
}
