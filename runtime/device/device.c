#include "runtime/device/device.h"

void ag_device_close(ag_device_t *device)
{
    if (device != NULL) {
        device->ops->close(device);
    }
}
