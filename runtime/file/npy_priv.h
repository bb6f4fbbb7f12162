/* What the readers and the writer of .npy share: the fixed start of the file. */
#pragma once

enum {
    AG_NPY_MAGIC_BYTES = 6,
    AG_NPY_ALIGNMENT = 64, /* of the data, from the start of the file */
};

#define AG_NPY_MAGIC "\x93NUMPY"
