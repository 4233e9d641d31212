#!/bin/bash
# A guest without the kernel driver whose device vfio-pci has: unprivileged programs get channels from ivgpu-broker, which
# itself has no rights but its group's node; a killed one's is freed, a sleeping one costs nothing; broker and device go
# under running programs. Then the last way, sysfs. usage: broker.bash BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
source "$here/mediator.bash"
source "$here/kmod.bash"
build=$(realpath "$1")
IVGPU_TEST_DRIVER=none
vm_require
vm_work
[[ -x $build/bin/ivgpu-broker ]] || fail "$build/bin/ivgpu-broker is not built"
vm_start_mediator "$build"

cat > "$work/job" << JOB
$(vm_job_awaits)
export LD_LIBRARY_PATH=$build/lib/ivgpu
bin=$build/tests/cuda
kmod=$build/tests/kmod_guest
as_user='$as_user'
bind=$here/../../guest/broker/ivgpu-broker-bind
broker() { setpriv --reuid=65533 --regid=4242 --clear-groups --no-new-privs $build/bin/ivgpu-broker --group 4242 > /tmp/broker 2>&1 & broker=\$!; for _ in \$(seq 200); do [ -S /run/ivgpu/broker.sock ] && return; sleep 0.05; done; echo "FAILED: no broker"; cat /tmp/broker; exit 1; }
JOB
cat >> "$work/job" << 'JOB'
cd /
mkdir -p /run/ivgpu && chown 65533:4242 /run/ivgpu
run() { local name=$1; shift; timeout 200 "$@" > /tmp/$name.out 2>&1; local status=$?; echo "PROGRAM $name ended with $status"; [ $status -eq 0 ] || cat /tmp/$name.out; }
running() { for _ in $(seq 400); do grep -q running /tmp/$1 && return; sleep 0.05; done; echo "FAILED: $1 does not run"; cat /tmp/$1; exit 1; }
told() { wait $2; local status=$?; [ $status -eq 3 ] || { echo "FAILED: $1 ended with $status"; cat /tmp/$1; exit 1; }; }
# One line on standard error says which way it is, and what that costs.
one_line() { [ "$(grep -c "^ivgpu: $2" /tmp/$1.out)" = 1 ] && grep -q "^ivgpu: $2.*without the kernel driver\|^ivgpu: $2.*without kernel driver" /tmp/$1.out || { echo "FAILED: $1 does not say its way once"; cat /tmp/$1.out; exit 1; }; }
$bind 4242 || exit 1
broker
export IVGPU_WAIT=sleep # interrupts are to be seen
run memory $as_user $bin/memory & first=$!
run streams $as_user $bin/streams & second=$!
wait $first $second
one_line memory broker:
one_line streams broker:
run outsider setpriv --reuid=65532 --regid=65532 --clear-groups $bin/streams
[ "$(awk '/vfio-msix/ { sum += $2 + $3 } END { print sum + 0 }' /proc/interrupts)" -gt 100 ] || { echo "FAILED: no interrupts"; grep vfio /proc/interrupts; exit 1; }
run idle $as_user $kmod idle 2 broker:
$as_user $bin/loop 50 > /tmp/victim 2>&1 & victim=$!; running victim
echo MARK-victim; await met; kill -KILL $victim; wait $victim 2> /dev/null; echo MARK-killed
await seen
run successor $as_user $bin/streams

$as_user $bin/loop 50 > /tmp/loop1 2>&1 & loop=$!; running loop1
kill -TERM $broker; wait $broker || { echo "FAILED: the broker's end"; cat /tmp/broker; exit 1; }
told loop1 $loop
broker
$as_user $bin/loop 50 > /tmp/loop2 2>&1 & loop=$!; running loop2
echo MARK-unplug
told loop2 $loop
wait $broker; echo "broker: $(tail -1 /tmp/broker)"
await plugged
for _ in $(seq 200); do for device in /sys/bus/pci/devices/*; do [ "$(cat $device/vendor) $(cat $device/device)" = "0x1af4 0x1110" ] && break 2; done; sleep 0.05; done
run last $bin/streams
one_line last sysfs:
dmesg | grep -E "BUG|WARNING|Oops|Call Trace" && exit 1
exit 0
JOB
vm_boot guest "$work/job" --iommu yes --qmp "$work/qmp.sock"
vm_wait_line 80 guest MARK-victim
vm_wait_for 3 executors_are 1
vm_go met
vm_wait_line 20 guest MARK-killed
vm_wait_for 3 executors_are 0 # the broker has seen it, no other program came
vm_go seen
vm_wait_line 60 guest MARK-unplug
kmod_unplug
kmod_plug
vm_go plugged
vm_join guest
expect_equal "$guest_status" 0 "exit code of the guest's script"
for program in memory streams idle successor last; do
        vm_console_says guest "PROGRAM $program ended with 0" || fail "$program"
done
vm_console_says guest "PROGRAM outsider ended with 0" && fail "a user outside the group got in"
vm_console_says guest "broker:/run/ivgpu/broker.sock: permission denied" || fail "the outsider was not told that it may not"
vm_console_says guest "broker: .*the device is going" || fail "the broker did not say that the device goes"
vm_wait_for 3 executors_are 0
echo "broker: OK"
