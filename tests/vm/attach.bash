#!/bin/bash
# Boots one guest and attaches to it through sysfs: QEMU, BAR0 and BAR2, doorbells, channels of several processes, a
# killed one. The host's side is vm_attach_host. usage: attach.bash BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
build=$(realpath "$1")
vm_require
vm_work

"$build/tests/vm_attach_host" "$work/vm.sock" > "$work/host.log" 2>&1 &
host_pid=$!
vm_own "$host_pid"
vm_wait_for 5 test -S "$work/vm.sock"

cat > "$work/job" <<JOB
$build/tests/vm_attach_guest
JOB
status=0
"$run_guest" ${IVGPU_TEST_KERNEL:+--kernel "$IVGPU_TEST_KERNEL"} --socket "$work/vm.sock" --vectors 3 --memory 512 --timeout 240 --show "$build" "$work/job" || status=$?
expect_equal "$status" 0 "exit code of the guest's program"
host_status=0
wait "$host_pid" || host_status=$?
cat "$work/host.log"
expect_equal "$host_status" 0 "exit code of the host's program"
# 1 parent, 1 again, the doomed child, the child, the finder, the successor; each freed by its own close or the finder's.
expect_match "$(cat "$work/host.log")" "epochs 1, opened 6, freed 6, doorbells answered 800" "host's counts"
echo "attach: OK"
