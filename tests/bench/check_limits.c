/*
 * What this machine can do at most, measured without any of our code: plain loops over memory, as
 * STREAM has them, and oneDNN's own products with oneDNN's own threads. check_limits.py holds what
 * argosy says of the machine against it. Prints one JSON object; a rate is the best of many passes.
 *
 *     check_limits [--threads N]
 *
 * Compiled for the machine it is built on.
 */
#define _GNU_SOURCE
#include <dnnl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MOST_THREADS = 256, LEAST_PASSES = 5, MOST_STREAMS = 8, UNROLL = 4 };

static const size_t read_bytes = (size_t)1 << 30; /* far more than caches hold */
static const double pass_seconds = 0.4;           /* passes over the same work go on this long */

/* One register of the widest machines: what a load takes at most. */
typedef uint64_t wide_t __attribute__((vector_size(64), may_alias));

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    fprintf(stderr, "check_limits: %s\n", what);
    exit(1);
}

/* Reading: every thread sums its own part. */

typedef struct reading {
    unsigned n_threads;
    unsigned n_streams; /* that a thread's part is cut into, read in turns; 0: the threads end */
    pthread_barrier_t begin, end;
    char *bytes; /* (n_threads, part_bytes) */
    size_t part_bytes;
} reading_t;

typedef struct reader {
    reading_t *reading;
    unsigned number;
    pthread_t thread;
    double start_s, end_s; /* of its last pass */
    uint64_t sum;          /* so that the loop is not optimised away */
} reader_t;

static uint64_t sum_part(const char *part, size_t n_bytes, unsigned n_streams)
{
    size_t stream_bytes = n_bytes / n_streams;
    wide_t sums[UNROLL] = {{0}}, all;
    uint64_t sum = 0;

    for (size_t at = 0; at < stream_bytes; at += sizeof(sums)) {
        for (unsigned s = 0; s < n_streams; s++) {
            const wide_t *from = (const void *)(part + s * stream_bytes + at);

            for (int i = 0; i < UNROLL; i++) {
                sums[i] += from[i];
            }
        }
    }
    all = sums[0] + sums[1] + sums[2] + sums[3];
    for (int i = 0; i < 8; i++) {
        sum += all[i];
    }
    return sum;
}

static void *run_reader(void *arg)
{
    reader_t *reader = arg;
    reading_t *reading = reader->reading;
    char *part = reading->bytes + reader->number * reading->part_bytes;

    memset(part, 1, reading->part_bytes); /* first touch: on the thread's own memory node */
    for (;;) {
        pthread_barrier_wait(&reading->begin);
        if (reading->n_streams == 0) {
            return NULL;
        }
        reader->start_s = now_s();
        reader->sum += sum_part(part, reading->part_bytes, reading->n_streams);
        reader->end_s = now_s();
        pthread_barrier_wait(&reading->end);
    }
}

/* From the first thread's start to the last one's end, by their own clocks: this thread may wake
 * late. */
static double pass_rate(const reading_t *reading, const reader_t *readers)
{
    double start = readers[0].start_s, end = readers[0].end_s;

    for (unsigned t = 1; t < reading->n_threads; t++) {
        start = readers[t].start_s < start ? readers[t].start_s : start;
        end = readers[t].end_s > end ? readers[t].end_s : end;
    }
    return (double)(reading->part_bytes * reading->n_threads) / (end - start);
}

static double best_read(reading_t *reading, const reader_t *readers, unsigned n_streams)
{
    double best = 0, begin = now_s();

    reading->n_streams = n_streams;
    for (int pass = 0; pass < LEAST_PASSES || now_s() - begin < pass_seconds; pass++) {
        double rate;

        pthread_barrier_wait(&reading->begin);
        pthread_barrier_wait(&reading->end);
        rate = pass_rate(reading, readers);
        best = rate > best ? rate : best;
    }
    return best;
}

static double measure_read(unsigned n_threads)
{
    static reader_t readers[MOST_THREADS];
    reading_t reading = {.n_threads = n_threads};
    size_t unit = UNROLL * MOST_STREAMS * sizeof(wide_t);
    double best = 0;

    reading.part_bytes = read_bytes / n_threads / unit * unit;
    reading.bytes =
        mmap(NULL, read_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (reading.bytes == MAP_FAILED) {
        fail("no memory to read: 1 GiB is needed");
    }
    madvise(reading.bytes, read_bytes, MADV_HUGEPAGE);
    pthread_barrier_init(&reading.begin, NULL, n_threads + 1);
    pthread_barrier_init(&reading.end, NULL, n_threads + 1);
    for (unsigned t = 0; t < n_threads; t++) {
        readers[t] = (reader_t){.reading = &reading, .number = t};
        if (pthread_create(&readers[t].thread, NULL, run_reader, &readers[t]) != 0) {
            fail("a thread does not start");
        }
    }
    for (unsigned n_streams = 1; n_streams <= MOST_STREAMS; n_streams *= 2) {
        double rate = best_read(&reading, readers, n_streams);

        best = rate > best ? rate : best;
    }
    reading.n_streams = 0;
    pthread_barrier_wait(&reading.begin);
    for (unsigned t = 0; t < n_threads; t++) {
        pthread_join(readers[t].thread, NULL);
    }
    pthread_barrier_destroy(&reading.begin);
    pthread_barrier_destroy(&reading.end);
    munmap(reading.bytes, read_bytes);
    return best;
}

/* Products: oneDNN threads them, and may lay the weights out as it likes. */

typedef struct product {
    dnnl_data_type_t a, b, c;
} product_t;

typedef struct gemm {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
} gemm_t;

static void check(dnnl_status_t status, const char *what)
{
    if (status != dnnl_success) {
        fail(what);
    }
}

/* Filled with small numbers of any of the types: no zeros, no denormals, no infinities. */
static dnnl_memory_t make_memory(const dnnl_memory_desc_t *desc, dnnl_engine_t engine)
{
    dnnl_memory_t memory;
    void *bytes;

    check(dnnl_memory_create(&memory, desc, engine, DNNL_MEMORY_ALLOCATE),
          "no memory for products");
    check(dnnl_memory_get_data_handle(memory, &bytes), "no memory for products");
    memset(bytes, 0x3c, dnnl_memory_desc_get_size(desc));
    return memory;
}

/* False where oneDNN has no such product, or none but its slow reference. */
static bool make_gemm(gemm_t *gemm, const product_t *types, dnnl_dim_t m, dnnl_dim_t n,
                      dnnl_dim_t k)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t matmul;
    dnnl_primitive_desc_t desc;
    const char *implementation = "";

    check(dnnl_memory_desc_init_by_tag(&a, 2, (dnnl_dims_t){m, k}, types->a, dnnl_ab), "a matrix");
    check(dnnl_memory_desc_init_by_tag(&b, 2, (dnnl_dims_t){k, n}, types->b, dnnl_format_tag_any),
          "a matrix");
    check(dnnl_memory_desc_init_by_tag(&c, 2, (dnnl_dims_t){m, n}, types->c, dnnl_ab), "a matrix");
    if (dnnl_matmul_desc_init(&matmul, &a, &b, NULL, &c) != dnnl_success ||
        dnnl_primitive_desc_create(&desc, &matmul, NULL, gemm->engine, NULL) != dnnl_success) {
        return false;
    }
    dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &implementation);
    if (strncmp(implementation, "ref", 3) == 0) {
        dnnl_primitive_desc_destroy(desc);
        return false;
    }
    gemm->a = make_memory(&a, gemm->engine);
    gemm->b =
        make_memory(dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0), gemm->engine);
    gemm->c = make_memory(&c, gemm->engine);
    check(dnnl_primitive_create(&gemm->primitive, desc), "a product");
    dnnl_primitive_desc_destroy(desc);
    return true;
}

static void drop_gemm(gemm_t *gemm)
{
    dnnl_primitive_destroy(gemm->primitive);
    dnnl_memory_destroy(gemm->a);
    dnnl_memory_destroy(gemm->b);
    dnnl_memory_destroy(gemm->c);
}

static double best_gemm(gemm_t *gemm, double n_ops)
{
    dnnl_exec_arg_t args[] = {
        {DNNL_ARG_SRC, gemm->a}, {DNNL_ARG_WEIGHTS, gemm->b}, {DNNL_ARG_DST, gemm->c}};
    double best = 0, begin = now_s();

    for (int pass = 0; pass < LEAST_PASSES || now_s() - begin < pass_seconds; pass++) {
        double start = now_s(), rate;

        check(dnnl_primitive_execute(gemm->primitive, gemm->stream, 3, args), "a product fails");
        check(dnnl_stream_wait(gemm->stream), "a product fails");
        rate = n_ops / (now_s() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

static double measure_gemm(const product_t *types)
{
    static const dnnl_dim_t shapes[][3] = {
        {512, 2048, 2048}, {1024, 1024, 1024}, {512, 5632, 2048}, {2048, 2048, 2048}};
    gemm_t gemm;
    double best = 0;

    check(dnnl_engine_create(&gemm.engine, dnnl_cpu, 0), "oneDNN does not start");
    check(dnnl_stream_create(&gemm.stream, gemm.engine, dnnl_stream_default_flags),
          "oneDNN does not start");
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        dnnl_dim_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];

        if (make_gemm(&gemm, types, m, n, k)) {
            double rate = best_gemm(&gemm, 2.0 * (double)m * (double)n * (double)k);

            best = rate > best ? rate : best;
            drop_gemm(&gemm);
        }
    }
    dnnl_stream_destroy(gemm.stream);
    dnnl_engine_destroy(gemm.engine);
    return best;
}

int main(int argc, char **argv)
{
    static const product_t f32 = {dnnl_f32, dnnl_f32, dnnl_f32};
    static const product_t bf16 = {dnnl_bf16, dnnl_bf16, dnnl_f32};
    static const product_t int8 = {dnnl_u8, dnnl_s8, dnnl_s32};
    long n_threads = sysconf(_SC_NPROCESSORS_ONLN);
    const char *told = getenv("OMP_NUM_THREADS");
    char text[16];

    if (argc == 3 && strcmp(argv[1], "--threads") == 0) {
        n_threads = atol(argv[2]);
    } else if (argc != 1) {
        fail("the only option is --threads N");
    }
    if (n_threads < 1 || n_threads > MOST_THREADS) {
        fail("--threads is 1 to 256");
    }
    snprintf(text, sizeof(text), "%ld", n_threads);
    if (told == NULL || strcmp(told, text) != 0) { /* OpenMP has read it before main began */
        setenv("OMP_NUM_THREADS", text, 1);
        execv("/proc/self/exe", argv);
        fail("this program does not start itself");
    }
    printf("{\"threads\": %ld, \"read_bytes_per_s\": %.0f, ", n_threads,
           measure_read((unsigned)n_threads));
    printf("\"f32_flops_per_s\": %.0f, ", measure_gemm(&f32));
    printf("\"bf16_flops_per_s\": %.0f, ", measure_gemm(&bf16));
    printf("\"int8_ops_per_s\": %.0f}\n", measure_gemm(&int8));
    return 0;
}
