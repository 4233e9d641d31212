#!/bin/bash
# A sleeping program costs no processor time, neither the guest's nor the host's; an interrupt wakes a sleeper that nothing
# else would wake; and it wakes nobody else. All channels share the one vector that this device has beside control, which
# is less than the host serves. usage: kmod_idle.bash BUILD_FOLDER
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
timeout 200 $as_user $kmod idle 9; echo "PROGRAM idle ended with $?"
# Three that sleep, in whose midst one works: nobody but it is woken, and it is woken by interrupts, not by time.
mkfifo /tmp/still
for one in 1 2 3; do timeout 200 $as_user $kmod undisturbed < /tmp/still > /tmp/still.$one 2>&1 & still="$still $!"; done
exec 9> /tmp/still
for one in 1 2 3; do for _ in $(seq 400); do grep -q MARK-still /tmp/still.$one && break; sleep 0.05; done; done
before=$(kmod_now interrupts)
timeout 200 $as_user strace -f -e trace=ppoll -E LD_LIBRARY_PATH=$LD_LIBRARY_PATH -E IVGPU_WAIT=sleep -o /tmp/slept $bin/streams > /tmp/streams 2>&1 || { cat /tmp/streams; echo "FAILED: streams"; exit 1; }
after=$(kmod_now interrupts)
exec 9>&-
for one in $still; do wait $one || { cat /tmp/still.*; echo "FAILED: a sleeper was disturbed"; exit 1; }; done
woken=$(grep -c "events=POLLIN.*POLLRDHUP.*= [12] " /tmp/slept) late=$(grep -c "events=POLLIN.*POLLRDHUP.*= 0 " /tmp/slept)
echo "MARK-shared: vectors $(kmod_now vectors), interrupts $((after - before)), woken $woken, by time $late"
[ $(kmod_now vectors) -eq 1 ] && [ $((after - before)) -ge 5 ] && [ $woken -gt $((2 * late)) ] || { echo "FAILED: interrupts"; exit 1; }
before=$(kmod_now interrupts)
timeout 200 $as_user $kmod await; echo "PROGRAM await ended with $?"
[ $(kmod_now interrupts) -gt $before ] || { echo "FAILED: no interrupts"; exit 1; }
kmod_settle 10 || exit 1
kmod_kernel_is_content || exit 1
JOB
kmod_boot guest "$work/job" --vectors 2

vm_wait_line 60 guest MARK-idle
sleep 1 # the opening's last work
executor=$(executors)
before=$(($(cpu_ticks "$executor"))) mediator_before=$(cpu_ticks "$mediator_pid")
sleep 4
executor_ticks=$(($(cpu_ticks "$executor") - before)) mediator_ticks=$(($(cpu_ticks "$mediator_pid") - mediator_before))
vm_wait_line 20 guest MARK-idle-ended
# 4 s are 400 ticks: at most 1 % each.
[[ $executor_ticks -le 4 ]] || fail "the executor of a sleeping program used $executor_ticks ticks in 4 s"
[[ $mediator_ticks -le 4 ]] || fail "the mediator used $mediator_ticks ticks in 4 s"

vm_wait_line 30 guest MARK-waiting
sleep 0.5
begin=$(milliseconds)
kill -KILL "$(executors)"
vm_wait_line 10 guest MARK-woken
took=$(($(milliseconds) - begin))
vm_join guest
expect_equal "$guest_status" 0 "exit code of the guest's script"
vm_console_says guest "PROGRAM idle ended with 0" || fail "idle"
vm_console_says guest "PROGRAM await ended with 0" || fail "await"
[[ $took -le 2000 ]] || fail "the sleeper woke only after $took ms"
echo "kmod_idle: OK ($(sed -n 's/MARK-idle-ended: //p' "$work/guest.console") in the guest; executor $executor_ticks, mediator $mediator_ticks ticks in 4 s; woken after $took ms)"
