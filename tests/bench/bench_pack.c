/*
 * How near packed weights come to what they were, and how fast, beside ggml's own quantizer:
 *
 *     bench_pack PATH/libggml-base.so
 *
 * of normal values, of values with heavy tails, and of such where rows differ in size. Each line:
 * the root of the mean square error over that of the values, ours and theirs, how many blocks have
 * other bits (none, of types of blocks of 32), and MB/s of float32.
 */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/philox.h"
#include "runtime/tensor/dtype.h"

enum { ROWS = 256, COLS = 4096 };

typedef size_t (*quantize_fn_t)(int type, const float *src, void *dst, int64_t start, int64_t rows,
                                int64_t cols, const float *importance);

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fill(float *values, int kind)
{
    for (uint64_t i = 0; i < (uint64_t)ROWS * COLS; i++) {
        double u = ag_philox_uniform(1, 0, i), v = ag_philox_uniform(1, 1, i);
        double x = sqrt(-2 * log(u + 1e-12)) * cos(6.283185307 * v);

        x = kind == 1 ? x * x * x : kind == 2 ? x * pow(10, (double)(i / COLS % 7) - 5) : 0.02 * x;
        values[i] = (float)x;
    }
}

static double error_of(ag_dtype_t dtype, const float *values, const void *packed)
{
    const ag_dtype_info_t *info = ag_dtype_info(dtype);
    float *back = malloc(sizeof(float) * ROWS * COLS);
    double error = 0, square = 0;

    info->unpack(packed, back, (size_t)ROWS * COLS / info->block_elements);
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) {
        error += ((double)back[i] - values[i]) * ((double)back[i] - values[i]);
        square += (double)values[i] * values[i];
    }
    free(back);
    return sqrt(error / square);
}

static size_t n_other_blocks(const ag_dtype_info_t *info, const unsigned char *ours,
                             const unsigned char *theirs)
{
    size_t n = 0;

    for (size_t i = 0; i < (size_t)ROWS * COLS / info->block_elements; i++) {
        n += memcmp(ours + i * info->block_bytes, theirs + i * info->block_bytes,
                    info->block_bytes) != 0;
    }
    return n;
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {"normal", "tails", "sizes"};
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    quantize_fn_t quantize =
        library != NULL ? (quantize_fn_t)dlsym(library, "ggml_quantize_chunk") : NULL;
    float *values = malloc(sizeof(float) * ROWS * COLS);
    unsigned char *packed = malloc(sizeof(float) * ROWS * COLS);
    unsigned char *by_ggml = malloc(sizeof(float) * ROWS * COLS);

    if (quantize == NULL) {
        fprintf(stderr, "bench_pack PATH/libggml-base.so: %s\n",
                argc == 2 ? dlerror() : "one path");
        return 2;
    }
    for (int kind = 0; kind < 3; kind++) {
        fill(values, kind);
        for (int t = 0; t < AG_N_DTYPES; t++) {
            const ag_dtype_info_t *info = ag_dtype_info((ag_dtype_t)t);
            double begin, ours, theirs, our_s, their_s, mb = 4e-6 * ROWS * COLS;

            if (info->block_elements == 1 || info->pack == NULL) {
                continue;
            }
            begin = now();
            info->pack(values, packed, (size_t)ROWS * COLS / info->block_elements);
            our_s = now() - begin;
            ours = error_of((ag_dtype_t)t, values, packed);
            begin = now();
            quantize(info->ggml_type, values, by_ggml, 0, ROWS, COLS, NULL);
            their_s = now() - begin;
            theirs = error_of((ag_dtype_t)t, values, by_ggml);
            printf("%-8s %-6s error %.6f, ggml %.6f (%.4f of it); %zu blocks differ; %6.0f MB/s, "
                   "ggml %6.0f\n",
                   kinds[kind], info->name, ours, theirs, ours / theirs,
                   n_other_blocks(info, packed, by_ggml), mb / our_s, mb / their_s);
        }
    }
    free(by_ggml);
    free(packed);
    free(values);
    dlclose(library);
    return 0;
}
