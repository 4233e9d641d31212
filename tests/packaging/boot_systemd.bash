#!/bin/bash
# Boots systemd as process 1 of a copy of a root, as a container manager would, and runs under_systemd.bash in it. Needs a mount
# namespace of the caller's own, which the copy goes with.
# usage: boot_systemd.bash ROOT WORK_FOLDER FOLDER_OF_PROGRAMS   (the work folder lies in a tmpfs)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lower=$1 work=$2 programs=$3
mkdir "$work"/{booted,booted_upper,booted_layers,groups}
mount -t cgroup2 cgroup2 "$work/groups" || { echo "NOT TRIED: no control groups (version 2) on this machine to run systemd in"; exit 0; }
# A control group of its own, below this process's: systemd takes what it sees of them for its own.
group=$work/groups$(sed -n 's/^0:://p' /proc/self/cgroup)/ivgpu-test.$$
mkdir "$group"
timeout 200 unshare --mount --pid --uts --ipc --fork --kill-child bash -euo pipefail -s "$lower" "$work" "$programs" "$here" "$group" << 'CONTAINER' || true
root=$2/booted
echo $$ > "$5/cgroup.procs"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/booted_upper,workdir=$2/booted_layers" "$root" # what systemd writes goes with it
mkdir "$root/opt/programs"
cp "$3"/{launches,loop} "$4/under_systemd.bash" "$root/opt/programs"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
cat > "$root/etc/systemd/system/test.service" << 'UNIT'
[Unit]
After=basic.target
Requires=basic.target
[Service]
Type=oneshot
ExecStart=/bin/bash /opt/programs/under_systemd.bash /opt/programs
ExecStopPost=/bin/systemctl exit --force
StandardOutput=file:/opt/programs/log
StandardError=file:/opt/programs/log
UNIT
mount -t tmpfs tmpfs "$root/dev"
for node in null zero full random urandom tty; do cp -a "/dev/$node" "$root/dev"; done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
: > "$root/etc/fstab"
: > "$root/etc/machine-id"
exec unshare --cgroup bash -euo pipefail -c 'mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
exec chroot "$1" env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=test.service --log-target=console --show-status=0' - "$root"
CONTAINER
for _ in $(seq 20); do # the last of its processes may still be leaving
        find "$group" -depth -type d -exec rmdir {} + 2> /dev/null && break
        sleep 0.1
done
log=$work/booted_upper/opt/programs/log
cat "$log"
[[ $(tail -n 1 "$log") == "under systemd: right" ]]
