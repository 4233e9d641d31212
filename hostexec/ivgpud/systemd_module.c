/* lib/ivgpu-host/systemd.so: libsystemd for ivgpud, where a service manager is (manager.h). */
#include "manager.h"
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

extern const struct ivg_systemd ivg_systemd;
__attribute__((visibility("default"))) const struct ivg_systemd ivg_systemd = {
        .listen_fds_with_names = sd_listen_fds_with_names,
        .notify = sd_notify,
        .pid_notify_with_fds = sd_pid_notify_with_fds,
        .watchdog_enabled = sd_watchdog_enabled,
        .journal_sendv = sd_journal_sendv,
};
