#!/bin/bash
# One boot with the kernel driver: what one unprivileged process can do to another (nothing), two CUDA programs at once with
# their data intact, a full house, and no traces left. usage: kmod_isolation.bash BUILD_FOLDER
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
run() { local name=$1; shift; timeout 200 "$@" > /tmp/$name.out 2>&1; local status=$?; echo "PROGRAM $name ended with $status"; [ $status -eq 0 ] || cat /tmp/$name.out; }
run outsider setpriv --reuid=65533 --regid=65533 --clear-groups $bin/demo
run isolation $as_user $kmod isolation
run crowd $as_user $kmod crowd
run memory $as_user $bin/memory & first=$!
run streams $as_user $bin/streams & second=$!
run threads $as_user $bin/threads 8 & third=$!
wait $first $second $third
kmod_settle 10 || exit 1
cat $attributes/mapping
grep -q . $attributes/channels && { echo "FAILED: channels are still shown"; exit 1; }
kmod_kernel_is_content || exit 1
JOB
kmod_boot guest "$work/job"
vm_join guest
expect_equal "$guest_status" 0 "exit code of the guest's script"
for program in isolation crowd memory streams threads; do
        vm_console_says guest "PROGRAM $program ended with 0" || fail "$program"
done
vm_console_says guest "PROGRAM outsider ended with 0" && fail "a user outside the group got in"
vm_console_says guest "^write-back" || fail "the mapping is not write-back"
vm_wait_for 3 executors_are 0
echo "kmod_isolation: OK"
