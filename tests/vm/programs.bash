#!/bin/bash
# One boot, with the device as "ivgpuctl attach" gives it: ivgpu-doctor finds the guest healthy; every CUDA test program in it, alone
# and two at once; then one is killed and its channel is recovered by the next program; faults of a real guest are named.
# usage: programs.bash BUILD_FOLDER
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/common.bash"
source "$here/mediator.bash"
build=$(realpath "$1")
vm_require
vm_work
vm_start_mediator "$build"

programs=(demo handles memory streams modules fault process launch_rate)
for program in runtime_static runtime_shared; do
        [[ -x $build/tests/cuda/$program ]] && programs+=("$program")
done
cat > "$work/job" <<JOB
$(vm_job_awaits)
export LD_LIBRARY_PATH=$build/lib/ivgpu
bin=$build/tests/cuda
cd /
say() { echo "PROGRAM \$1 ended with \$2"; [ \$2 -eq 0 ] || cat /tmp/\$1.out; }
doctor() { timeout 200 $build/bin/ivgpu-doctor "\$@"; echo "DOCTOR ended with \$?"; }
doctor
for program in ${programs[*]}; do
        timeout 200 \$bin/\$program > /tmp/\$program.out 2>&1; say \$program \$?
done
timeout 200 \$bin/threads 8 > /tmp/threads.out 2>&1; say threads \$?

timeout 200 \$bin/memory > /tmp/first_of_two.out 2>&1 & first=\$!
timeout 200 \$bin/streams > /tmp/second_of_two.out 2>&1 & second=\$!
wait \$first; say first_of_two \$?
wait \$second; say second_of_two \$?
echo MARK-all-ended; await ended

\$bin/launch_rate 1000000000 > /tmp/victim.out 2>&1 & victim=\$!
echo MARK-victim-runs; await seen
kill -KILL \$victim; wait \$victim; echo "PROGRAM victim ended with \$?"
timeout 200 \$bin/demo > /tmp/successor.out 2>&1; say successor \$?
echo MARK-recovered; await counted
[ -e /dev/ivgpu0 ] || exit 0
device=\$(basename /sys/bus/pci/drivers/ivgpu/0*)
doctor --only=node --user=nobody
echo \$device > /sys/bus/pci/drivers/ivgpu/unbind
doctor --only=module,executor
rmmod ivgpu
doctor --only=module
JOB
"$build/bin/ivgpuctl" --socket="$work/control.sock" attach vm1 > "$work/attach"
vm_boot guest "$work/job" --attach "$work/attach"

vm_wait_line 80 guest MARK-all-ended
vm_wait_for 2 executors_are 0
vm_go ended
vm_wait_line 20 guest MARK-victim-runs
vm_wait_for 10 executors_are 1
"$build/bin/ivgpu-doctor" --host --config "$work/ivgpud.conf" --vm=vm1 --only=configuration,mediator,state,socket,qemu,region \
        > "$work/doctor.log" || fail "the host's doctor: $(cat "$work/doctor.log")"
for words in "ok +qemu .*is connected, 7 vectors" "ok +region .*256 MiB, 6 channels, .*a guest uses it"; do
        grep -qE "$words" "$work/doctor.log" || fail "the host's doctor does not say '$words'"
done
vm_go seen
vm_wait_line 20 guest MARK-recovered
vm_wait_for 2 executors_are 0 # the dead program's was ended when its successor came
vm_go counted
vm_join guest
expect_equal "$guest_status" 0 "exit code of the guest's script"
for program in "${programs[@]}" threads first_of_two second_of_two successor; do
        vm_console_says guest "PROGRAM $program ended with 0" || fail "$program"
done
vm_console_says guest "PROGRAM victim ended with 137" || fail "the victim was not killed"

# What the guest's doctor said: of a healthy guest (without the kernel driver it has that to complain of), then of each fault.
if [[ -e $build/guest/kmod/ivgpu.ko && ${IVGPU_TEST_DRIVER-} != none ]]; then
        for words in "DOCTOR ended with 0" "ok +device .*1af4:1110, BAR 2 of 256 MiB" "ok +channels .*6 of 6 channels free" \
                "ok +loader .*gets ivgpu's $build/lib/ivgpu/libcuda.so.1, by LD_LIBRARY_PATH" "ok +kernel .*every one right" \
                "ok +copies .*every word right" "NOT OK +node .*does not let nobody in" \
                "NOT OK +module .*has not taken the device" "NOT OK +module .*(no kernel driver|not loaded)"; do
                grep -qE "$words" "$work/guest.console" || fail "the guest's doctor does not say '$words'"
        done
        expect_equal "$(grep -c 'DOCTOR ended with 0' "$work/guest.console")" 1 "runs of the doctor that found nothing"
fi

# What the host counted: everything ran on the first channels, two at once on two of them.
kill -USR1 "$mediator_pid"
stats_are_told() { grep -q 'Total processed:' "$work/ivgpud.log"; }
vm_wait_for 2 stats_are_told
expect_match "$(grep 'VM 1 (vm1): programs' "$work/ivgpud.log")" 'programs ([0-9]+) \(0 running\), records ([0-9]+) in' \
        "the host's count"
programs_counted=${BASH_REMATCH[1]} records_counted=${BASH_REMATCH[2]}
[[ $programs_counted -ge $((${#programs[@]} + 5)) ]] || fail "the host counted $programs_counted programs"
for channel in 0 1; do
        grep -qE "channel=$channel pid=[0-9]+\]: end: [1-9][0-9]* records" "$work/ivgpud.log" ||
                fail "no executor of channel $channel consumed records"
done
[[ $records_counted -gt 10000 ]] || fail "the host counted only $records_counted records"
echo "programs: OK (${#programs[@]} programs, threads, two at once, recovery)"
