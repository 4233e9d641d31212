#!/bin/bash
# The device is taken out of a running guest in mid-work, and put back: programs end with errors, not by signals, the host
# reaps, and programs work on the new device. Then the mediator dies and is started anew: the same remedy.
# usage: kmod_unplug.bash BUILD_FOLDER
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

{ kmod_job; cat << 'JOB'; } > "$work/job"
load() {
        timeout 200 $as_user $bin/loop 50 > /tmp/loop1 2>&1 & loop1=$!
        timeout 200 $as_user $bin/loop 50 > /tmp/loop2 2>&1 & loop2=$!
        timeout 200 $as_user $bin/loop 50 sleep > /tmp/loop3 2>&1 & loop3=$!
        $as_user $kmod work > /tmp/work 2>&1 & work=$!
        for file in loop1 loop2 loop3; do
                for _ in $(seq 400); do grep -q running /tmp/$file && break; sleep 0.05; done
        done
        sleep 0.5
}
# 3: the program was told, and told so again by every call after. Anything else, a signal before all, is wrong.
told() {
        local one status wrong=0
        for one in loop1 loop2 loop3; do
                wait ${!one}; status=$?
                [ $status -eq 3 ] || { echo "FAILED: $one ended with $status"; cat /tmp/$one; wrong=1; }
        done
        return $wrong
}
returned() {
        for _ in $(seq 400); do [ -e /dev/ivgpu0 ] && break; sleep 0.05; done
        kmod_admit || { echo "FAILED: no device"; return 1; }
        timeout 200 $as_user $bin/streams > /tmp/streams 2>&1 || { cat /tmp/streams; echo "FAILED: streams"; return 1; }
}
load
echo MARK-load; told || exit 1
wait $work; echo "the driver's bare user ended with $?"
[ -e /dev/ivgpu0 ] && { echo "FAILED: /dev/ivgpu0 is still there"; exit 1; }
echo MARK-told
returned || exit 1
echo MARK-returned; sleep 1
load
echo MARK-load-again; told || exit 1
kill -KILL $work; wait $work 2> /dev/null
echo MARK-told-again
for _ in $(seq 400); do [ -e /dev/ivgpu0 ] || break; sleep 0.05; done
echo MARK-gone-again
returned || exit 1
kmod_settle 10 || exit 1
# Unbound under a running program, as rmmod would not.
$as_user $bin/loop 50 > /tmp/loop1 2>&1 & loop1=$!
for _ in $(seq 400); do grep -q running /tmp/loop1 && break; sleep 0.05; done
device=$(basename $(readlink -f $attributes/device))
rmmod ivgpu 2> /dev/null && { echo "FAILED: rmmod under a program"; exit 1; }
# Beside it one whose pages a pipe holds: the device goes all the same, its pages stay, and so does the module.
echo 300 > /sys/module/ivgpu/parameters/unplug_wait_ms
mkfifo /tmp/hold
$as_user $kmod pin < /tmp/hold > /tmp/pin 2>&1 & pin=$!
exec 9> /tmp/hold
for _ in $(seq 400); do grep -q pinned /tmp/pin && break; sleep 0.05; done
echo $device > /sys/bus/pci/drivers/ivgpu/unbind
wait $loop1; [ $? -eq 3 ] || { echo "FAILED: unbind"; cat /tmp/loop1; exit 1; }
dmesg | grep -q "direct I/O holds 1 pages after 300 ms" || { echo "FAILED: the held page was not named"; cat /tmp/pin; dmesg | tail; exit 1; }
echo $device > /sys/bus/pci/drivers/ivgpu/bind 2> /dev/null && { echo "FAILED: bound while its pages are held"; exit 1; }
rmmod ivgpu 2> /dev/null && { echo "FAILED: rmmod while pages are held"; exit 1; }
exec 9>&-
wait $pin || { echo "FAILED: pin"; cat /tmp/pin; exit 1; }
for _ in $(seq 400); do dmesg | grep -q "have been let go" && break; sleep 0.05; done
echo $device > /sys/bus/pci/drivers/ivgpu/bind || { echo "FAILED: not bound again"; exit 1; }
returned || exit 1
rmmod ivgpu || exit 1
dmesg | grep "ivgpu 0000" | tail -12
kmod_kernel_is_content || exit 1
JOB
kmod_boot guest "$work/job" --qmp "$work/qmp.sock"

vm_wait_line 60 guest 'MARK-load$'
vm_wait_for 3 executors_are 4
kmod_unplug
vm_wait_line 30 guest 'MARK-told$'
vm_wait_for 3 executors_are 0
kmod_plug
vm_wait_line 60 guest 'MARK-returned$'

vm_wait_line 60 guest MARK-load-again
kill -KILL "$mediator_pid"
wait "$mediator_pid" 2> /dev/null || true
vm_wait_line 30 guest MARK-told-again
kmod_unplug
vm_start_mediator "$build"
vm_wait_line 30 guest MARK-gone-again
kmod_plug
vm_join guest
expect_equal "$guest_status" 0 "exit code of the guest's script"
vm_wait_for 3 executors_are 0
echo "kmod_unplug: OK"
