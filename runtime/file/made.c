#include "runtime/file/made_priv.h"

#include <math.h>
#include <string.h>

#include "runtime/base/philox.h"

/* A normal variate (Box and Muller 1958), the same wherever it is drawn. */
static float normal_at(uint64_t seed, uint32_t stream, uint64_t index)
{
    const double pi = 3.14159265358979323846, scale = 1.0 / 4294967296.0;
    const uint32_t key[2] = {0x696e6974, (uint32_t)seed}; /* "init" */
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), stream,
                                 (uint32_t)(seed >> 32)};
    uint32_t words[4];

    ag_philox(key, counter, words);
    return (float)(sqrt(-2 * log(((double)words[0] + 0.5) * scale)) *
                   cos(2 * pi * (double)words[1] * scale));
}

ag_status_t ag_made_draw(const ag_made_t *made, uint64_t seed, const ag_model_tensor_t *tensor,
                         uint64_t begin, uint64_t n, void *dst)
{
    unsigned char *at = dst;

    if (begin % sizeof(float) != 0 || n % sizeof(float) != 0 || begin > tensor->bytes ||
        n > tensor->bytes - begin) {
        return ag_fail(AG_ERR_INVALID, "tensor '%s' has no %llu bytes from %llu on", tensor->name,
                       (unsigned long long)n, (unsigned long long)begin);
    }
    for (uint64_t i = 0; i < n / sizeof(float); i++, at += sizeof(float)) {
        float value = made->mean;

        if (made->deviation > 0) {
            value += made->deviation * normal_at(seed, made->stream, begin / sizeof(float) + i);
        }
        memcpy(at, &value, sizeof(value));
    }
    return AG_OK;
}
