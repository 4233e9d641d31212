#!/bin/bash
# A guest with the driver reboots in mid-work: first in order (the driver says so, executors end before the new boot), then
# by a reset (nobody says anything; the new epoch does). Programs work afterwards. usage: kmod_reboot.bash BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
source "$here/mediator.bash"
source "$here/kmod.bash"
build=$(realpath "$1")
vm_require
vm_work
kmod_require "$build"
vm_start_mediator "$build"

{ vm_job_awaits; kmod_job; cat << 'JOB'; } > "$work/job"
load() {
        $as_user $bin/launch_rate 1000000000 > /tmp/out 2>&1 &
        $as_user $kmod work > /tmp/work 2>&1 &
}
if [ ! -e $shared/ordered ]; then
        # Sleep and hibernation are refused, and by the driver: others might refuse too.
        for state in mem disk; do
                if echo $state > /sys/power/state 2> /dev/null; then echo "FAILED: it slept ($state)"; exit 1; fi
        done
        [ $(dmesg | grep -c "ivg_suspend.*returns -16") -ge 1 ] || { echo "FAILED: the driver has not refused"; exit 1; }
        load; echo MARK-first; await ordered
        busybox reboot -f
elif [ ! -e $shared/reset ]; then
        timeout 200 $as_user $bin/streams > /tmp/streams 2>&1 || { cat /tmp/streams; exit 1; }
        load; echo MARK-second; sleep 100
else
        timeout 200 $as_user $bin/streams > /tmp/streams 2>&1 || { cat /tmp/streams; exit 1; }
        kmod_settle 10 || exit 1
        kmod_kernel_is_content || exit 1
        echo MARK-third
fi
JOB
kmod_boot guest "$work/job" --reboot yes --qmp "$work/qmp.sock"
vm_wait_line 60 guest MARK-first
vm_wait_for 10 executors_are 2
sleep 1 # they work
before=$(executors)
vm_go ordered
vm_wait_for 5 executors_are 0 # well before the next boot's driver is there
vm_wait_line 60 guest MARK-second
vm_wait_for 10 executors_are 2
sleep 1
for executor in $before; do
        kill -0 "$executor" 2> /dev/null && fail "executor $executor of the first boot still runs"
done
vm_go reset
kmod_qmp system_reset
vm_wait_line 60 guest MARK-third
vm_join guest
expect_equal "$guest_status" 0 "exit code of the guest's script"
vm_wait_for 3 executors_are 0
echo "kmod_reboot: OK"
