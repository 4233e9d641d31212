#!/bin/bash
# 200 processes die by SIGKILL at random points of their lives, CUDA programs and bare users of the driver, more at a time
# than there are channels. Then: no channel, no extent, no executor, and programs work. usage: kmod_storm.bash BUILD_FOLDER
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
# One victim, a CUDA program every fifth. Odd ones are killed up to 0.7 s after their start, wherever they are; even ones
# up to 0.3 s after they said that they are at work. Bash reaps them, and waits and looks by itself: eight that start other
# programs for it take an emulated guest's time.
mkfifo /tmp/never
exec 9<> /tmp/never
pause() { read -r -t "$1" -u 9 _; }
victim() {
        local pid status look out=/tmp/out.$1
        if [ $(($1 % 5)) -eq 0 ]; then $as_user $bin/loop 100 > $out 2>&1 & else $as_user $kmod work > $out 2>&1 & fi
        pid=$!
        if [ $(($1 % 2)) -eq 0 ]; then
                for ((look = 0; look < 300; look++)); do
                        [[ $(< $out) == *running* ]] && { echo reached >> /tmp/storm; break; }
                        kill -0 $pid 2> /dev/null || break
                        pause 0.05
                done
                pause 0.$((RANDOM % 3))$((RANDOM % 10))
        else
                pause 0.$((RANDOM % 7))$((RANDOM % 10))
        fi
        kill -KILL $pid 2> /dev/null; wait $pid 2> /dev/null; status=$?
        # 137: killed. Of the others a full house is the one good reason.
        if [ $status -eq 137 ]; then echo killed >> /tmp/storm
        elif grep -q -E "errno 16|all channels are in use" $out; then echo refused >> /tmp/storm
        else echo "odd $status" >> /tmp/storm; cat $out; fi
}
RANDOM=4711
: > /tmp/storm
for round in $(seq 25); do
        for one in 1 2 3 4 5 6 7 8; do victim $((round * 8 + one)) & done
        wait
done
sort /tmp/storm | uniq -c | sed 's/^/STORM /'
kmod_settle 20 || exit 1
timeout 200 $as_user $bin/demo > /tmp/demo.out 2>&1 || { cat /tmp/demo.out; exit 1; }
kmod_settle 10 || exit 1
kmod_kernel_is_content || exit 1
JOB
kmod_boot guest "$work/job"
vm_join guest
expect_equal "$guest_status" 0 "exit code of the guest's script"
killed=$(sed -n 's/.*STORM *\([0-9]*\) killed.*/\1/p' "$work/guest.console")
refused=$(sed -n 's/.*STORM *\([0-9]*\) refused.*/\1/p' "$work/guest.console")
[[ $((${killed:-0} + ${refused:-0})) -eq 200 ]] || fail "of 200 victims $killed were killed and $refused refused"
[[ ${killed:-0} -ge 100 ]] || fail "only $killed were killed in mid-life"
vm_wait_for 5 executors_are 0
# Not all died before they had a channel.
reached=$(sed -n 's/.*STORM *\([0-9]*\) reached.*/\1/p' "$work/guest.console")
started=$(grep -c CUDA_CALL_INIT "$work/ivgpud.log")
[[ ${reached:-0} -ge 60 ]] || fail "only ${reached:-0} victims were killed at work"
[[ $started -ge $reached ]] || fail "$reached victims said that they work, $started executors were ready"
echo "kmod_storm: OK ($killed killed, $started executors, ${refused:-0} refused for want of a channel)"
