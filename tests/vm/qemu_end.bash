#!/bin/bash
# QEMU is killed in the middle of a program's work: within a second the host has ended its executors; the next QEMU on the
# same socket gets fresh memory and works. usage: qemu_end.bash BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
source "$here/mediator.bash"
build=$(realpath "$1")
vm_require
vm_work
vm_start_mediator "$build"

cat > "$work/job" <<JOB
export LD_LIBRARY_PATH=$build/lib/ivgpu
cd /
$build/tests/cuda/launch_rate 1000000000 > /tmp/out 2>&1 &
$build/tests/cuda/launch_rate 1000000000 > /tmp/out2 2>&1 &
echo MARK-running; sleep 100
JOB
vm_boot first "$work/job"
vm_wait_line 40 first MARK-running
vm_wait_for 10 executors_are 2
region_before=$(region_inode)
[[ -n $region_before ]] || fail "the mediator holds no region"

kill -KILL "$(cat "$work/first.pid")"
begin=$(milliseconds)
vm_wait_for 1 executors_are 0
took=$(($(milliseconds) - begin))
wait "$guest_pid" || true
vm_wait_for 2 test -S "$vm_socket"
cat > "$work/job" <<JOB
$(vm_job_awaits)
export LD_LIBRARY_PATH=$build/lib/ivgpu
cd /
timeout 200 $build/tests/cuda/demo; status=\$?
echo MARK-demo-ended; await looked
exit \$status
JOB
vm_boot second "$work/job"
vm_wait_line 60 second MARK-demo-ended
region_after=$(region_inode)
[[ -n $region_after && $region_after != "$region_before" ]] || fail "the second VM got the first one's memory"
vm_go looked
vm_join second
expect_equal "$guest_status" 0 "exit code of the demo in the second VM"
vm_wait_for 2 executors_are 0
echo "qemu_end: OK (executors gone $took ms after QEMU)"
