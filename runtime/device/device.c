#include "runtime/device/device.h"

void ag_device_close(ag_device_t *device)
{
    if (device != NULL) {
        device->ops->close(device);
    }
}

ag_mark_t ag_device_record(ag_device_t *device, uint32_t stream)
{
    return device->ops->record != NULL ? device->ops->record(device, stream)
                                       : (ag_mark_t){.stream = stream};
}

ag_status_t ag_device_wait(ag_device_t *device, uint32_t stream, ag_mark_t mark)
{
    return device->ops->wait != NULL ? device->ops->wait(device, stream, mark) : AG_OK;
}

ag_status_t ag_device_query(ag_device_t *device, ag_mark_t mark)
{
    return device->ops->query != NULL ? device->ops->query(device, mark) : AG_OK;
}

ag_status_t ag_device_finish(ag_device_t *device, uint32_t stream)
{
    ag_mark_t mark = ag_device_record(device, stream);
    ag_status_t status;

    do {
        status = ag_device_query(device, mark);
    } while (status == AG_PENDING);
    return status;
}
