#include "runtime/base/utf8.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/base/array.h"

/* Table 3-7 of the Unicode Standard: the second byte's range depends on the first. */
static bool second_range(unsigned char lead, unsigned char *low_p, unsigned char *high_p,
                         size_t *length_p)
{
    *low_p = 0x80;
    *high_p = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) {
        *length_p = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        *length_p = 3;
        *low_p = lead == 0xE0 ? 0xA0 : 0x80;
        *high_p = lead == 0xED ? 0x9F : 0xBF;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        *length_p = 4;
        *low_p = lead == 0xF0 ? 0x90 : 0x80;
        *high_p = lead == 0xF4 ? 0x8F : 0xBF;
    } else {
        return false;
    }
    return true;
}

size_t ag_utf8_sequence(const char *bytes, size_t n_bytes, size_t *bad_bytes_p, bool *short_p)
{
    const unsigned char *b = (const unsigned char *)bytes;
    unsigned char low, high;
    size_t length, good = 1;

    *bad_bytes_p = 1;
    *short_p = false;
    if (n_bytes == 0) {
        *bad_bytes_p = 0;
        *short_p = true;
        return 0;
    }
    if (b[0] < 0x80) {
        return 1;
    }
    if (!second_range(b[0], &low, &high, &length)) {
        return 0;
    }
    while (good < length && good < n_bytes && b[good] >= low && b[good] <= high) {
        good++;
        low = 0x80;
        high = 0xBF;
    }
    if (good == length) {
        return length;
    }
    *bad_bytes_p = good;
    *short_p = good == n_bytes;
    return 0;
}

bool ag_utf8_valid(const char *bytes, size_t n_bytes)
{
    for (size_t i = 0; i < n_bytes;) {
        size_t bad_bytes;
        bool is_short;
        size_t length = ag_utf8_sequence(bytes + i, n_bytes - i, &bad_bytes, &is_short);

        if (length == 0) {
            return false;
        }
        i += length;
    }
    return true;
}

ag_status_t ag_utf8_repair(const char *bytes, size_t n_bytes, char **text_p, size_t *n_text_p,
                           size_t *n_replaced_p)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    ag_array_t text = AG_ARRAY(char);
    size_t n_replaced = 0;
    ag_status_t status = AG_OK;

    for (size_t i = 0; i < n_bytes && status == AG_OK;) {
        size_t bad_bytes;
        bool is_short;
        size_t length = ag_utf8_sequence(bytes + i, n_bytes - i, &bad_bytes, &is_short);

        if (length > 0) {
            status = ag_array_append(&text, bytes + i, length);
            i += length;
        } else {
            status = ag_array_append(&text, replacement, 3);
            n_replaced++;
            i += bad_bytes;
        }
    }
    if (status == AG_OK) {
        status = ag_array_append(&text, "", 1);
    }
    if (status != AG_OK) {
        ag_array_fini(&text);
        return status;
    }
    *text_p = text.items;
    *n_text_p = text.n_items - 1;
    if (n_replaced_p != NULL) {
        *n_replaced_p = n_replaced;
    }
    return AG_OK;
}
