/*
 * How long a checkpoint holds training up, beside how long it takes to be written. Three copies of
 * so many MiB are overwritten at the end of each step, by two threads; the step itself is slept.
 * Held up is what updates take longer than without a checkpoint, whether for copies or because the
 * writer takes memory and cores, and what the calls between steps take. Other processes lengthen
 * updates too: how much of the cores they took stands behind each figure.
 *
 *     bench_checkpoint FOLDER [MIB [STEP_MS [DISK_MB_PER_S [COPIES_MIB]]]]
 */
#include "comm/net_loop.h"
#include "parallel/run/checkpoint.h"
#include "runtime/base/clock.h"
#include "runtime/base/team.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { N_THREADS = 2, N_COPIES = 3, N_LAYERS = 30, N_SAVES = 4, COLS = 1024, GRAIN = 16384 };
enum { N_PLAIN = 9 };

static const uint64_t PIECE_BYTES = 4 << 20;

typedef struct run {
    ag_saver_t *saver;
    ag_clock_t clock;
    float *data; /* (N_COPIES, n) */
    uint64_t n;
    uint64_t copy_ns[N_THREADS]; /* in copies; another thread's update may hide them */
    uint64_t plain_ns;           /* an update without a checkpoint */
    uint64_t disk_ns;            /* that a piece takes longer than on the disk that there is */
} run_t;

static void sleep_ns(uint64_t ns)
{
    nanosleep(
        &(struct timespec){.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)},
        NULL);
}

static int be_slow(void *arg, const char *path)
{
    const run_t *run = arg;

    if (run->disk_ns > 0 && strstr(path, ".bin") != NULL) {
        sleep_ns(run->disk_ns);
    }
    return 0;
}

static void update(void *arg, const ag_worker_t *worker)
{
    run_t *run = arg;
    uint64_t begin, end;

    ag_worker_share(worker, run->n, GRAIN, &begin, &end);
    for (uint64_t i = begin; i < end; i += GRAIN) {
        uint64_t count = end - i < GRAIN ? end - i : GRAIN, start = ag_clock_now_ns(&run->clock);

        for (int c = 0; c < N_COPIES; c++) {
            ag_saver_before_write(run->saver, run->data + (uint64_t)c * run->n + i, count);
        }
        run->copy_ns[worker->thread] += ag_clock_now_ns(&run->clock) - start;
        for (uint64_t k = i; k < i + count; k++) {
            run->data[k] += run->data[run->n + k] * run->data[2 * run->n + k];
        }
    }
}

static void refuse(ag_status_t status)
{
    if (status != AG_OK && status != AG_PENDING) {
        fprintf(stderr, "bench_checkpoint: %s\n", ag_error());
        exit(1);
    }
}

static uint64_t time_update(run_t *run, ag_team_t *team)
{
    uint64_t start = ag_clock_now_ns(&run->clock);

    ag_team_run(team, update, run);
    return ag_clock_now_ns(&run->clock) - start;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* The median. */
static uint64_t time_plain(run_t *run, ag_team_t *team, uint64_t step_ns)
{
    uint64_t times[N_PLAIN];

    for (int i = 0; i < N_PLAIN; i++) {
        sleep_ns(step_ns);
        times[i] = time_update(run, team);
    }
    qsort(times, N_PLAIN, sizeof(times[0]), by_value);
    return times[N_PLAIN / 2];
}

/* Time of cores since the machine was started, which others had: all of it but this process's. */
static double seconds_of_others(void)
{
    unsigned long long user = 0, nice = 0, system = 0;
    FILE *file = fopen("/proc/stat", "r");
    struct rusage own;

    if (file == NULL || fscanf(file, "cpu %llu %llu %llu", &user, &nice, &system) != 3) {
        user = nice = system = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    getrusage(RUSAGE_SELF, &own);
    return (double)(user + nice + system) / (double)sysconf(_SC_CLK_TCK) -
           (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) -
           (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) * 1e-6;
}

static void save(run_t *run, ag_team_t *team, uint64_t step, uint64_t step_ns)
{
    uint64_t start = ag_clock_now_ns(&run->clock), held, wall;
    double others = seconds_of_others();
    uint32_t n_steps = 0;
    ag_status_t status;

    memset(run->copy_ns, 0, sizeof(run->copy_ns));
    refuse(ag_saver_begin(run->saver, step, NULL));
    held = ag_clock_now_ns(&run->clock) - start;
    do {
        uint64_t before, update_ns;

        sleep_ns(step_ns);
        update_ns = time_update(run, team);
        held += update_ns > run->plain_ns ? update_ns - run->plain_ns : 0;
        before = ag_clock_now_ns(&run->clock);
        status = ag_saver_test(run->saver);
        held += ag_clock_now_ns(&run->clock) - before;
        refuse(status);
        n_steps++;
    } while (status == AG_PENDING);
    wall = ag_clock_now_ns(&run->clock) - start;
    others = (seconds_of_others() - others) * 1e9 / (double)wall;
    for (int i = 1; i < N_THREADS; i++) {
        run->copy_ns[0] = run->copy_ns[i] > run->copy_ns[0] ? run->copy_ns[i] : run->copy_ns[0];
    }
    printf("written in %7.1f ms (%6.0f MB/s) over %3u steps, held up for %6.1f ms: %.1f%% (%.1f ms "
           "in copies; others took %.2f cores)\n",
           (double)wall / 1e6, (double)(N_COPIES * run->n * sizeof(float)) * 1e3 / (double)wall,
           n_steps, (double)held / 1e6, 100 * (double)held / (double)wall,
           (double)run->copy_ns[0] / 1e6, others > 0 ? others : 0);
}

int main(int argc, char **argv)
{
    uint64_t numbers[4] = {256, 100, 0, 0}; /* MiB, ms, MB/s, MiB */
    ag_saved_slice_t slices[N_COPIES][N_LAYERS];
    ag_saved_tensor_t tensors[N_COPIES][N_LAYERS];
    char names[N_COPIES][N_LAYERS][32];
    run_t run = {.clock = ag_clock_monotonic()};
    ag_team_t *team;
    ag_net_t *net;
    uint64_t rows;

    for (int i = 2; i < argc && i < 6; i++) {
        numbers[i - 2] = strtoull(argv[i], NULL, 10);
    }
    rows = (numbers[0] << 20) / sizeof(float) / COLS / N_LAYERS;
    run.n = rows * COLS * N_LAYERS;
    run.data = calloc(N_COPIES * run.n, sizeof(float));
    if (argc < 2 || run.data == NULL || rows == 0) {
        fprintf(stderr, "bench_checkpoint FOLDER [MIB [STEP_MS [DISK_MB_PER_S [COPIES_MIB]]]]\n");
        return 2;
    }
    for (uint64_t i = 0; i < N_COPIES * run.n; i++) {
        run.data[i] = (float)(i % 1000);
    }
    run.disk_ns = numbers[2] == 0 ? 0 : PIECE_BYTES * 1000 / numbers[2];
    for (uint64_t c = 0; c < N_COPIES; c++) {
        for (uint64_t l = 0; l < N_LAYERS; l++) {
            snprintf(names[c][l], sizeof(names[c][l]), "layer.%llu.%llu", (unsigned long long)l,
                     (unsigned long long)c);
            slices[c][l] = (ag_saved_slice_t){
                {0, rows}, {0, COLS}, run.data + c * run.n + l * rows * COLS, COLS};
            tensors[c][l] = (ag_saved_tensor_t){names[c][l], rows, COLS, 1, &slices[c][l]};
        }
    }
    refuse(ag_net_loop_create(1, &net));
    refuse(ag_team_create(&(ag_team_opts_t){.n_threads = N_THREADS}, &team));
    refuse(ag_saver_create(net, NULL,
                           &(ag_saver_opts_t){.dir = argv[1],
                                              .spec_hash = "bench",
                                              .keep = 1,
                                              .snapshot_bytes = numbers[3] << 20,
                                              .fault = be_slow,
                                              .fault_arg = &run},
                           tensors[0], N_COPIES * N_LAYERS, &run.saver));
    for (uint64_t i = 1; i <= N_SAVES; i++) {
        run.plain_ns = time_plain(&run, team, numbers[1] * 1000000);
        printf("an update %.1f ms; ", (double)run.plain_ns / 1e6);
        save(&run, team, i, numbers[1] * 1000000);
    }
    ag_saver_destroy(run.saver);
    ag_team_destroy(team);
    ag_net_close(net);
    free(run.data);
    return 0;
}
