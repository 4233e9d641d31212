#!/bin/bash
# In the root that packages.bash has made, with systemd as process 1: the unit with its sandbox, started by its socket; a QEMU
# that outlives ivgpud, by systemd's descriptor store. The last line says "right".
# usage: under_systemd.bash FOLDER_OF_PROGRAMS
set -euo pipefail
trap 'echo "FAILED in line $LINENO"; journalctl --no-pager -u ivgpud -o cat | tail -40' ERR
programs=$1
WAIT_TRIES=300 # of 0.1 s

property() { systemctl show ivgpud.service -p "$1" --value; }
until_true() { # WORDS COMMAND...
        local what=$1
        shift
        for _ in $(seq $WAIT_TRIES); do "$@" > /dev/null 2>&1 && return 0; sleep 0.1; done
        echo "not within $((WAIT_TRIES / 10)) s: $what"
        return 1
}
connected() { ivgpu-doctor --vm=web --only=qemu; }
is_new() { [[ $(property MainPID) != 0 && $(property MainPID) != "$1" ]] && ivgpuctl list; }

systemctl start ivgpud.socket
[[ $(property ActiveState) == inactive ]]
ivgpuctl list # starts it
[[ $(property ActiveState) == active ]]
ivgpu-doctor

qemu-system-x86_64 -M q35 -display none -S -monitor none -serial none -chardev socket,path=/run/ivgpu/vm/web.sock,id=c \
        -device ivshmem-doorbell,chardev=c,vectors=7 &
qemu=$!
until_true "QEMU is connected" connected
[[ $(property NFileDescriptorStore) == 16 ]] # its connection, the region, two doorbells of 7 vectors

"$programs/loop" 600 > /tmp/loop 2>&1 &
loop=$!
until_true "the program runs" grep -q running /tmp/loop
main=$(property MainPID)
systemctl restart ivgpud
is_new "$main"
connected
if wait $loop; then false; fi
grep -q "error 3" /tmp/loop
"$programs/launches"

main=$(property MainPID)
kill -KILL "$main"
until_true "another ivgpud" is_new "$main"
connected
"$programs/launches"
[[ $(property NFileDescriptorStore) == 16 ]]
kill -0 $qemu

systemctl stop ivgpud.service ivgpud.socket
[[ $(property NFileDescriptorStore) == 0 ]]
kill $qemu
wait $qemu
echo "under systemd: right"
