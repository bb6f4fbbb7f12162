#include "runtime/tensor/dtype.h"

#include <stdio.h>
#include <string.h>

#include "runtime/tensor/dtype_priv.h"

enum { NOT_IN_GGUF = -1 };

static const ag_dtype_info_t dtypes[AG_N_DTYPES] = {
    [AG_F32] = {"f32", "F32", 0, 1, 4, ag_unpack_f32, ag_pack_f32},
    [AG_F16] = {"f16", "F16", 1, 1, 2, ag_unpack_f16, ag_pack_f16},
    [AG_BF16] = {"bf16", "BF16", 30, 1, 2, ag_unpack_bf16, ag_pack_bf16},
    [AG_Q8_0] = {"q8_0", NULL, 8, 32, 34, ag_unpack_q8_0, ag_pack_q8_0},
    [AG_Q4_0] = {"q4_0", NULL, 2, 32, 18, ag_unpack_q4_0, ag_pack_q4_0},
    [AG_Q4_1] = {"q4_1", NULL, 3, 32, 20, ag_unpack_q4_1, ag_pack_q4_1},
    [AG_Q6_K] = {"q6_k", NULL, 14, 256, 210, ag_unpack_q6_k, ag_pack_q6_k},
    [AG_Q4_K] = {"q4_k", NULL, 12, 256, 144, ag_unpack_q4_k, ag_pack_q4_k},
    [AG_Q5_0] = {"q5_0", NULL, 6, 32, 22, ag_unpack_q5_0, ag_pack_q5_0},
    [AG_Q5_1] = {"q5_1", NULL, 7, 32, 24, ag_unpack_q5_1, ag_pack_q5_1},
    [AG_MXFP4] = {"mxfp4", NULL, 39, 32, 17, ag_unpack_mxfp4, ag_pack_mxfp4},
    [AG_Q5_K] = {"q5_k", NULL, 13, 256, 176, ag_unpack_q5_k, NULL},
    [AG_Q2_K] = {"q2_k", NULL, 10, 256, 84, ag_unpack_q2_k, NULL},
    [AG_Q3_K] = {"q3_k", NULL, 11, 256, 110, ag_unpack_q3_k, NULL},
    [AG_IQ4_NL] = {"iq4_nl", NULL, 20, 32, 18, ag_unpack_iq4_nl, NULL},
    [AG_IQ4_XS] = {"iq4_xs", NULL, 23, 256, 136, ag_unpack_iq4_xs, NULL},
    [AG_F8_E4M3] = {"f8_e4m3", "F8_E4M3", NOT_IN_GGUF, 1, 1, ag_unpack_f8_e4m3, NULL},
    [AG_F8_E4M3_128] = {"f8_e4m3_128", NULL, NOT_IN_GGUF, 128, 132, ag_unpack_f8_e4m3_128, NULL},
};

const ag_dtype_info_t *ag_dtype_info(ag_dtype_t dtype)
{
    return &dtypes[dtype];
}

/* Ways to name a type; each knows some. */
typedef const char *(*name_fn_t)(const ag_dtype_info_t *info);

static const char *name_of(const ag_dtype_info_t *info)
{
    return info->name;
}

static const char *name_in_gguf(const ag_dtype_info_t *info)
{
    return info->ggml_type != NOT_IN_GGUF ? info->name : NULL;
}

static const char *name_in_safetensors(const ag_dtype_info_t *info)
{
    return info->safetensors;
}

static const char *name_if_written(const ag_dtype_info_t *info)
{
    return info->pack != NULL ? info->name : NULL;
}

static const char *list_names(name_fn_t name_fn, char *text, size_t n_bytes)
{
    text[0] = '\0';
    for (int i = 0; i < AG_N_DTYPES; i++) {
        const char *name = name_fn(&dtypes[i]);
        size_t n_chars = strlen(text);

        if (name != NULL) {
            snprintf(text + n_chars, n_bytes - n_chars, "%s%s", n_chars > 0 ? ", " : "", name);
        }
    }
    return text;
}

static bool find(name_fn_t name_fn, const char *name, ag_dtype_t *dtype_p)
{
    for (int i = 0; i < AG_N_DTYPES; i++) {
        const char *known = name_fn(&dtypes[i]);

        if (known != NULL && strcmp(known, name) == 0) {
            *dtype_p = (ag_dtype_t)i;
            return true;
        }
    }
    return false;
}

ag_status_t ag_dtype_from_ggml(int32_t ggml_type, const char *what, ag_dtype_t *dtype_p)
{
    char known[256];

    for (int i = 0; i < AG_N_DTYPES; i++) {
        if (dtypes[i].ggml_type == ggml_type && ggml_type != NOT_IN_GGUF) {
            *dtype_p = (ag_dtype_t)i;
            return AG_OK;
        }
    }
    return ag_fail(AG_ERR_UNSUPPORTED, "%s: ggml type %d is not known (known: %s)", what, ggml_type,
                   list_names(name_in_gguf, known, sizeof(known)));
}

ag_status_t ag_dtype_from_safetensors(const char *name, const char *what, ag_dtype_t *dtype_p)
{
    char known[256];

    return find(name_in_safetensors, name, dtype_p)
               ? AG_OK
               : ag_fail(AG_ERR_UNSUPPORTED, "%s: type \"%s\" is not known (known: %s)", what, name,
                         list_names(name_in_safetensors, known, sizeof(known)));
}

ag_status_t ag_dtype_from_name(const char *name, ag_dtype_t *dtype_p)
{
    char known[256];

    return find(name_of, name, dtype_p)
               ? AG_OK
               : ag_fail(AG_ERR_UNSUPPORTED, "type \"%s\" is not known (known: %s)", name,
                         list_names(name_of, known, sizeof(known)));
}

ag_status_t ag_dtype_to_write(const char *name, ag_dtype_t *dtype_p)
{
    char known[256];

    return find(name_if_written, name, dtype_p)
               ? AG_OK
               : ag_fail(AG_ERR_UNSUPPORTED, "type \"%s\" is none that is written (%s)", name,
                         list_names(name_if_written, known, sizeof(known)));
}
