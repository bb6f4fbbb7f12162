#define _GNU_SOURCE /* nftw */

#include "make_checkpoints.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/hash.h"
#include "runtime/base/philox.h"

uint32_t n_laid_out[N_LAYOUT_KINDS], n_empty_shares;

static uint64_t draw(uint64_t seed, uint64_t *at, uint64_t n)
{
    return (uint64_t)(ag_philox_uniform(seed, 77, (*at)++) * (double)n);
}

void open_world(uint64_t seed, world_t *world)
{
    uint64_t at = 0;

    *world = (world_t){.dir = "/tmp/argosy-checkpoints-XXXXXX"};
    cr_assert_not_null(mkdtemp(world->dir));
    strcat(world->dir, "/out/checkpoints");
    world->n_tensors = 1 + (uint32_t)draw(seed, &at, MOST_WORLD_TENSORS);
    for (uint32_t i = 0; i < world->n_tensors; i++) {
        bool is_vector = draw(seed, &at, 4) == 0;

        /* not in order of their names */
        snprintf(world->names[i], sizeof(world->names[i]), "layer.%u.weight", (i * 7 + 3) % 12);
        world->rows[i] = is_vector ? 1 : 1 + draw(seed, &at, 40);
        world->cols[i] = 1 + draw(seed, &at, 50);
    }
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

void close_world(const world_t *world)
{
    char top[WORLD_PATH_BYTES];

    snprintf(top, sizeof(top), "%s", world->dir);
    *strstr(top, "/out") = '\0';
    nftw(top, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* One share of extent, for the index-th of n; drawn shares may be zero. */
static ag_range_t share_of(uint64_t seed, uint64_t *at, uint64_t extent, uint32_t n, uint32_t index)
{
    uint32_t shares[2 * MOST_WORLD_RANKS];
    ag_range_t ranges[2 * MOST_WORLD_RANKS];

    for (uint32_t i = 0; i < n; i++) {
        shares[i] = (uint32_t)draw(seed, at, 4);
    }
    shares[draw(seed, at, n)] += 1;
    cr_assert_eq(ag_shares_split(extent, 1, shares, n, ranges), AG_OK);
    return ranges[index];
}

/* What the index-th of n holders holds. @return the number of slices; their data is an offset. */
static uint32_t lay_out(layout_kind_t kind, uint64_t seed, uint64_t *at, ag_range_t rows,
                        ag_range_t cols, uint32_t n, uint32_t index, ag_saved_slice_t *slices)
{
    ag_range_t share;

    switch (kind) {
    case LAY_ROWS:
        rows = share_of(seed, at, rows.end, n, index);
        break;
    case LAY_OVERLAP:
        rows = share_of(seed, at, rows.end, n, index);
        rows.begin -= rows.begin > 0 && rows.end > rows.begin;
        break;
    case LAY_COLS:
        cols = share_of(seed, at, cols.end, n, index);
        break;
    case LAY_FLAT:
        share = share_of(seed, at, rows.end * cols.end, n, index);
        return ag_flat_slices(rows, cols, share, NULL, slices);
    case LAY_FLAT_OF_COLS:
        cols = share_of(seed, at, cols.end, (n + 1) / 2, index / 2);
        if (n % 2 == 1 && index == n - 1) {
            break; /* alone with its columns */
        }
        share = share_of(seed, at, rows.end * (cols.end - cols.begin), 2, index % 2);
        return ag_flat_slices(rows, cols, share, NULL, slices);
    default:
        break;
    }
    slices[0] = (ag_saved_slice_t){.rows = rows, .cols = cols};
    return rows.begin < rows.end && cols.begin < cols.end;
}

/* Give the slices data of exactly their size, and rows that are further apart than they need. */
static void allot(holding_t *holding, uint32_t i, uint64_t pad)
{
    ag_saved_slice_t *slices = holding->slices[i];
    uint64_t n = 0, at = 0;

    for (uint32_t s = 0; s < holding->tensors[i].n_slices; s++) {
        slices[s].stride = slices[s].cols.end - slices[s].cols.begin + pad;
        n += slices[s].stride * (slices[s].rows.end - slices[s].rows.begin);
    }
    n -= holding->tensors[i].n_slices > 0 ? pad : 0; /* none behind the last row */
    holding->data[i] = malloc(n * sizeof(float));
    cr_assert(holding->data[i] != NULL || n == 0);
    for (uint32_t s = 0; s < holding->tensors[i].n_slices; s++) {
        slices[s].data = holding->data[i] + at;
        at += slices[s].stride * (slices[s].rows.end - slices[s].rows.begin);
    }
}

void open_holding(const world_t *world, uint64_t seed, uint32_t n_ranks, uint32_t rank,
                  holding_t *holding)
{
    uint64_t at = 1000;

    *holding = (holding_t){.world = world};
    for (uint32_t i = 0; i < world->n_tensors; i++) {
        /* as the stages of a pipeline: some ranks hold it */
        uint32_t begin = (uint32_t)draw(seed, &at, n_ranks);
        uint32_t n = 1 + (uint32_t)draw(seed, &at, n_ranks - begin);
        layout_kind_t kind = (layout_kind_t)draw(seed, &at, N_LAYOUT_KINDS);
        uint64_t pad = draw(seed, &at, 3);
        ag_saved_tensor_t *tensor = &holding->tensors[i];

        *tensor = (ag_saved_tensor_t){.name = world->names[i],
                                      .rows = world->rows[i],
                                      .cols = world->cols[i],
                                      .slices = holding->slices[i]};
        at = (at / 1000 + 1) * 1000; /* ranks draw differently often */
        if (rank >= begin && rank < begin + n) {
            uint64_t own = at;

            tensor->n_slices =
                lay_out(kind, seed, &own, (ag_range_t){0, world->rows[i]},
                        (ag_range_t){0, world->cols[i]}, n, rank - begin, holding->slices[i]);
            n_empty_shares += tensor->n_slices == 0;
        }
        n_laid_out[kind] += n > 1 && rank == begin;
        allot(holding, i, pad);
    }
}

void close_holding(holding_t *holding)
{
    for (uint32_t i = 0; i < MOST_WORLD_TENSORS; i++) {
        free(holding->data[i]);
    }
}

float number_at(uint32_t tensor, uint64_t row, uint64_t col, uint64_t time)
{
    uint64_t key = ag_hash_mix(ag_hash_mix(ag_hash_mix(tensor * 64 + time) + row) + col);

    return (float)(key >> 40);
}

typedef void (*visit_t)(void *arg, float *number, float right);

static void visit(const holding_t *holding, uint64_t time, ag_saver_t *saver, visit_t fn, void *arg)
{
    for (uint32_t i = 0; i < holding->world->n_tensors; i++) {
        for (uint32_t s = 0; s < holding->tensors[i].n_slices; s++) {
            const ag_saved_slice_t *slice = &holding->slices[i][s];
            uint64_t width = slice->cols.end - slice->cols.begin;

            for (uint64_t r = slice->rows.begin; r < slice->rows.end; r++) {
                float *row = slice->data + (r - slice->rows.begin) * slice->stride;

                ag_saver_before_write(saver, row, width);
                for (uint64_t c = 0; c < width; c++) {
                    fn(arg, &row[c], number_at(i, r, slice->cols.begin + c, time));
                }
            }
        }
    }
}

static void set(void *arg, float *number, float right)
{
    (void)arg;
    *number = right;
}

static void compare(void *arg, float *number, float right)
{
    *(uint64_t *)arg += *number != right;
}

void fill(const holding_t *holding, uint64_t time)
{
    visit(holding, time, NULL, set, NULL);
}

void overwrite(const holding_t *holding, uint64_t time, ag_saver_t *saver)
{
    visit(holding, time, saver, set, NULL);
}

uint64_t count_wrong(const holding_t *holding, uint64_t time)
{
    uint64_t n = 0;

    visit(holding, time, NULL, compare, &n);
    return n;
}

/* ---- runs ---- */

static ag_json_t *state_of(uint64_t step)
{
    ag_json_t *state = ag_json_new_object();

    ag_json_set(state, "position", ag_json_new_integer((int64_t)step * 1000));
    ag_json_set(state, "lr", ag_json_new_real(0.1 / (double)step));
    return state;
}

static uint64_t first_step(const saving_t *saving)
{
    return saving->first_step == 0 ? 1 : saving->first_step;
}

static ag_status_t save_step(ag_turn_t *turn, saving_t *saving, const holding_t *holding,
                             ag_saver_t *saver, uint32_t index)
{
    uint64_t step = first_step(saving) + index;
    ag_status_t status;

    if (!saving->trains) {
        fill(holding, step);
    }
    status = ag_saver_begin(saver, step, turn->net->rank == 0 ? state_of(step) : NULL);
    if (status != AG_OK) {
        return status;
    }
    if (saving->trains) {
        for (int i = 0; i < turn->net->rank; i++) { /* some are further than others */
            (void)ag_saver_test(saver);
        }
        overwrite(holding, step + 1, saver);
    }
    status = ag_saver_wait(saver);
    if (turn->net->rank == 0) {
        saving->statuses[index] = status;
        snprintf(saving->errors[index], AG_SAVE_ERROR_BYTES, "%s",
                 status == AG_OK ? "" : ag_error());
    }
    cr_assert(status == AG_ERR_PEER || ag_saver_test(saver) == AG_OK, "told once");
    cr_assert(saving->trains || count_wrong(holding, step) == 0);
    return status == AG_ERR_PEER ? status : AG_OK;
}

ag_status_t save_rank(ag_turn_t *turn)
{
    saving_t *saving = turn->arg;
    ag_saver_opts_t opts = saving->opts;
    ag_saver_t *saver = NULL;
    holding_t *holding = malloc(sizeof(*holding));
    ag_status_t status;

    cr_assert_not_null(holding);
    opts.dir = saving->world->dir;
    opts.spec_hash = "0123456789abcdef";
    opts.is_stepped = true;
    open_holding(saving->world, saving->layout_seed, (uint32_t)turn->net->n_ranks,
                 (uint32_t)turn->net->rank, holding);
    fill(holding, first_step(saving));
    status = ag_saver_create(turn->net, &turn->idle, &opts, holding->tensors,
                             saving->world->n_tensors, &saver);
    for (uint32_t i = 0; i < saving->n_steps && status == AG_OK; i++) {
        status = save_step(turn, saving, holding, saver, i);
    }
    ag_saver_destroy(saver);
    close_holding(holding);
    free(holding);
    return status;
}

ag_status_t save_all(saving_t *saving, uint32_t n_ranks, uint64_t seed)
{
    ag_status_t statuses[MOST_WORLD_RANKS];

    ag_turns_run(n_ranks, seed, save_rank, saving, statuses);
    for (uint32_t r = 1; r < n_ranks; r++) {
        cr_assert_eq(statuses[r], statuses[0], "all ranks end alike");
    }
    return statuses[0];
}

typedef struct loading {
    const world_t *world;
    uint64_t layout_seed, step, found_step, n_wrong;
    char error[AG_SAVE_ERROR_BYTES];
} loading_t;

static ag_status_t load_rank(ag_turn_t *turn)
{
    loading_t *loading = turn->arg;
    ag_checkpoint_t *checkpoint;
    holding_t *holding = malloc(sizeof(*holding));
    ag_status_t status;

    cr_assert_not_null(holding);
    open_holding(loading->world, loading->layout_seed, (uint32_t)turn->net->n_ranks,
                 (uint32_t)turn->net->rank, holding);
    fill(holding, 63);
    status = ag_checkpoint_open_together(turn->net, &turn->idle, loading->world->dir, loading->step,
                                         &checkpoint);
    if (status == AG_OK) {
        uint64_t step = ag_checkpoint_step(checkpoint);
        const ag_json_t *state = ag_checkpoint_state(checkpoint);

        cr_expect_str_eq(ag_checkpoint_spec_hash(checkpoint), "0123456789abcdef");
        cr_expect_eq(ag_json_integer(ag_json_get(state, "position"), 0), (int64_t)step * 1000);
        cr_expect_eq(ag_json_number(ag_json_get(state, "lr"), 0), 0.1 / (double)step);
        status = ag_checkpoint_load(checkpoint, holding->tensors, loading->world->n_tensors);
        loading->n_wrong += status == AG_OK ? count_wrong(holding, step) : 0;
        loading->found_step = step;
        status = ag_agree(turn->net, &turn->idle, status, NULL);
        ag_checkpoint_close(checkpoint);
    }
    if (status != AG_OK) {
        snprintf(loading->error, sizeof(loading->error), "%s", ag_error());
    }
    close_holding(holding);
    free(holding);
    return status;
}

ag_status_t load_all(const world_t *world, uint64_t layout_seed, uint32_t n_ranks, uint64_t step,
                     uint64_t *step_p, uint64_t *wrong_p, char *error)
{
    loading_t loading = {.world = world, .layout_seed = layout_seed, .step = step};
    ag_status_t statuses[MOST_WORLD_RANKS];

    ag_turns_run(n_ranks, layout_seed, load_rank, &loading, statuses);
    for (uint32_t r = 1; r < n_ranks; r++) {
        cr_assert_eq(statuses[r], statuses[0], "all ranks end alike");
    }
    *step_p = loading.found_step;
    *wrong_p = loading.n_wrong;
    if (error != NULL) {
        strcpy(error, loading.error);
    }
    return statuses[0];
}
