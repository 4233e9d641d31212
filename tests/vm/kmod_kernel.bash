#!/bin/bash
# One boot of another kernel than the newest installed, with a driver built for it: isolation, and a CUDA program beside it.
# guest/kmod/check-kernels runs it. usage: kmod_kernel.bash BUILD_FOLDER ROOT_OF_KERNEL KERNEL DRIVER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
source "$here/mediator.bash"
source "$here/kmod.bash"
build=$(realpath "$1")
vm_require
vm_work
kmod_require "$build"
driver=$4
vm_start_mediator "$build"

{ kmod_job; cat << 'JOB'; } > "$work/job"
echo "kernel $(uname -r)"
timeout 200 $as_user $bin/streams > /tmp/streams 2>&1 & streams=$!
$as_user $kmod work > /tmp/work 2>&1 & work=$!
wait $streams || { cat /tmp/streams; exit 1; }
kill -KILL $work; wait $work 2> /dev/null
kmod_settle 10 || exit 1
timeout 200 $as_user $kmod isolation || exit 1
# Unbound under a program, and bound again.
$as_user $bin/loop 50 > /tmp/loop 2>&1 & loop=$!
for _ in $(seq 400); do grep -q running /tmp/loop && break; sleep 0.05; done
device=$(basename $(readlink -f $attributes/device))
echo $device > /sys/bus/pci/drivers/ivgpu/unbind
wait $loop; [ $? -eq 3 ] || { cat /tmp/loop; echo "FAILED: unbind"; exit 1; }
echo $device > /sys/bus/pci/drivers/ivgpu/bind && kmod_admit || exit 1
timeout 200 $as_user $bin/streams > /tmp/streams 2>&1 || { cat /tmp/streams; exit 1; }
kmod_settle 10 && rmmod ivgpu && kmod_kernel_is_content || exit 1
JOB
kmod_boot guest "$work/job" --root "$2" --kernel "$3" --driver "$driver"
vm_join guest
expect_equal "$guest_status" 0 "exit code of the guest's script"
vm_console_says guest "kernel $3" || fail "another kernel has booted"
vm_wait_for 3 executors_are 0
echo "kmod_kernel: OK ($3)"
