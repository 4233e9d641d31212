#!/bin/bash
# A guest is reset while a program runs in it: QEMU, its socket and the shared memory stay, the program is gone without a
# word. The next boot announces a new epoch; the host ends what the old one left, and programs work again.
# usage: reboot.bash BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
source "$here/mediator.bash"
build=$(realpath "$1")
vm_require
vm_work
vm_start_mediator "$build"

cat > "$work/job" <<JOB
$(vm_job_awaits)
export LD_LIBRARY_PATH=$build/lib/ivgpu
cd /
if [ -e $shared/reset ]; then
        echo MARK-second-boot
        timeout 200 $build/tests/cuda/demo; status=\$?
        echo MARK-second-demo-ended; await looked
        exit \$status
fi
$build/tests/cuda/launch_rate 1000000000 > /tmp/out 2>&1 &
echo MARK-running; sleep 100
JOB
vm_boot guest "$work/job" --reboot yes --qmp "$work/qmp.sock"
vm_wait_line 40 guest MARK-running
vm_wait_for 10 executors_are 1
before=$(executors)
region_before=$(region_inode)

vm_go reset
python3 "$here/qmp.py" "$work/qmp.sock" system_reset
vm_wait_line 40 guest MARK-second-boot
vm_wait_line 60 guest MARK-second-demo-ended
vm_wait_for 2 executors_are 0
if kill -0 "$before" 2> /dev/null; then fail "executor $before of the first boot still runs"; fi
expect_equal "$(region_inode)" "$region_before" "the region, which a reset does not change"
vm_go looked
vm_join guest
expect_equal "$guest_status" 0 "exit code of the demo after the reset"
echo "reboot: OK"
