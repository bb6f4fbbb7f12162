/* The linker puts these in the place of malloc() and calloc() (tests/CMakeLists.txt: --wrap). */
#include "count_bytes.h"

#include <stdbool.h>
#include <stddef.h>

static _Thread_local bool is_counting;
static _Thread_local uint64_t n_bytes;

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    n_bytes += is_counting ? bytes : 0;
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t n, size_t bytes)
{
    n_bytes += is_counting ? n * bytes : 0;
    return __real_calloc(n, bytes);
}

void count_bytes_begin(void)
{
    n_bytes = 0;
    is_counting = true;
}

uint64_t count_bytes_end(void)
{
    is_counting = false;
    return n_bytes;
}
