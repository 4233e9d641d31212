#!/bin/bash
# The Debian packages in a root of their own: made, installed, used as an operator would, removed, purged. The root is this
# machine's, by an overlay in a mount namespace: nothing is downloaded, and every change is a file of the upper layer.
# usage: packages.bash BUILD_FOLDER
set -euo pipefail
build=$(realpath "$1")
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[[ $(id -u) -eq 0 ]] || { echo "skipped: a mount namespace needs root"; exit 77; }
for need in unshare dpkg-deb dpkg-shlibdeps systemd-analyze dkms; do
        command -v $need > /dev/null || { echo "skipped: no $need on this machine"; exit 77; }
done
work=$(mktemp -d "$build/packages-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
cpack --config "$build/CPackConfig.cmake" -B "$work/made" -D CPACK_DEBIAN_COMPRESSION_TYPE=gzip > "$work/cpack.log" 2>&1 || { cat "$work/cpack.log"; exit 1; }
rm -rf "$work/made/_CPack_Packages"
mkdir "$work/root"
exec unshare --mount --pid --fork --kill-child bash -euo pipefail -s "$build" "$here" "$work" << 'INSIDE'
build=$1 here=$2 work=$3
fail() { echo "FAILED: $*" >&2; exit 1; }
step() { echo "-- $*"; }
mount -t tmpfs tmpfs "$work/root"
mkdir "$work/root"/{upper,layers,root,image,image_upper,image_layers}
overlay() { # FOLDER UPPER LAYERS
        mount -t overlay overlay -o "lowerdir=/,upperdir=$2,workdir=$3" "$1" || { echo "skipped: no overlay file system"; exit 77; }
        mount -t proc proc "$1/proc"
        mount --rbind /dev "$1/dev"
        mount -t tmpfs tmpfs "$1/run"
        mount -t tmpfs tmpfs "$1/tmp"
        # No kernel to build the driver for: that is kmod_dkms's.
        mount -t tmpfs tmpfs "$1/lib/modules"
        # Saves a test's time: what dpkg need not sync, and man-db's index of every page of the machine.
        echo force-unsafe-io > "$1/etc/dpkg/dpkg.cfg.d/test"
        rm -f "$1/var/lib/man-db/auto-update"
}
root=$work/root/root
overlay "$root" "$work/root/upper" "$work/root/layers"
mkdir "$root/tmp/packages"
cp "$work"/made/*.deb "$root/tmp/packages"
cp "$build/tests/cuda/launches" "$root/tmp/program"
chmod 755 "$root/tmp/program"
in_root() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
paths() { dpkg-deb -c "$work"/made/"$1"_*.deb | awk '{sub(/^\./, "", $6); print $6}' | grep -v '/$'; }

step "what packages say"
for name in ivgpu-host ivgpu-guest ivgpu-guest-dkms ivgpu-tools; do
        file=$(echo "$work"/made/"$name"_*.deb)
        [[ -e $file ]] || fail "no package $name"
        depends=$(dpkg-deb -f "$file" Depends)
        case $name in
        ivgpu-host) [[ $depends == *libc6* && $depends == *libsystemd0* && $depends == *libmicrohttpd12* ]] ;;
        ivgpu-guest) [[ $depends == *"ivgpu-tools (= "* && $depends == *libc6* ]] ;;
        ivgpu-guest-dkms) [[ $depends == dkms ]] ;;
        ivgpu-tools) [[ $depends == *libc6* ]] ;;
        esac || fail "$name depends on: $depends"
        for document in copyright changelog.Debian.gz; do
                paths "$name" | grep -qx "/usr/share/doc/$name/$document" || fail "$name has no $document"
        done
        # Every file below /etc is a conffile, so that an operator's change survives.
        diff <(paths "$name" | grep '^/etc/' | sort) <(dpkg-deb --ctrl-tarfile "$file" | tar -xO ./conffiles 2> /dev/null | sort) > "$work/diff" || fail "$name: conffiles: $(cat "$work/diff")"
done
# A stranger's process loads these: libc, and the loader, only.
for library in libcuda.so.1 libnvidia-ml.so.1; do
        dpkg-deb --fsys-tarfile "$work"/made/ivgpu-tools_*.deb | tar -xO "./usr/lib/ivgpu/$library" > "$work/library"
        needed=$(readelf -d "$work/library" | sed -n 's/.*NEEDED.*\[\(.*\)\].*/\1/p' | grep -v '^libc\.so\|^ld-linux' || true)
        [[ -z $needed ]] || fail "$library needs $needed"
done

step "installing"
in_root sh -c 'dpkg -i /tmp/packages/*.deb' > "$work/install.log" 2>&1 || { cat "$work/install.log"; fail "dpkg -i"; }
! grep -q WARNING "$work/install.log" || fail "$(cat "$work/install.log")"
for name in ivgpu-host ivgpu-guest ivgpu-guest-dkms ivgpu-tools; do
        [[ $(in_root dpkg-query -W -f '${Status}' $name) == "install ok installed" ]] || fail "$name is not installed"
done
in_root getent passwd ivgpu > /dev/null || fail "no user ivgpu"
[[ $(in_root stat -c '%U:%G %a' /run/ivgpu/vm) == "ivgpu:kvm 2750" ]] || fail "/run/ivgpu/vm is $(in_root stat -c '%U:%G %a' /run/ivgpu/vm)"
for unit in ivgpud.service ivgpud.socket; do
        in_root systemctl --root=/ is-enabled $unit > /dev/null || fail "$unit is not enabled"
done
! in_root systemctl --root=/ is-enabled ivgpu-broker.service > /dev/null 2>&1 || fail "the broker takes devices unasked"
in_root dkms status -m ivgpu | grep -q added || fail "DKMS does not know the driver: $(in_root dkms status)"

step "units"
in_root systemd-analyze verify ivgpud.service ivgpud.socket ivgpu-devices.service ivgpu-broker.service > "$work/verify" 2>&1 || { cat "$work/verify"; fail "systemd-analyze verify"; }
! grep -i ivgpu "$work/verify" || fail "systemd-analyze verify says something"
for unit in ivgpud.service:25 ivgpu-devices.service:45 ivgpu-broker.service:40; do # in tenths
        in_root systemd-analyze security --offline=true --threshold="${unit#*:}" "${unit%:*}" > "$work/security" 2>&1 || { tail -3 "$work/security"; fail "${unit%:*} is more exposed than ${unit#*:} tenths"; }
        tail -1 "$work/security"
done

step "programs find the library; NVIDIA's comes first where it is, and is told of"
found() { in_root ldconfig -p | sed -n 's/^\tlibcuda\.so\.1 .* => //p' | head -n 1; }
[[ $(found) == /usr/lib/ivgpu/libcuda.so.1 ]] || fail "programs find $(found)"
cp "$root/usr/lib/ivgpu-host/softgpu/libcuda.so.1" "$root/usr/lib/x86_64-linux-gnu/libcuda.so.1"
in_root sh -c 'dpkg -i /tmp/packages/ivgpu-guest_*.deb' > "$work/install.log" 2>&1
[[ $(found) == */x86_64-linux-gnu/libcuda.so.1 ]] || fail "another driver is displaced by $(found)"
grep -q "WARNING: programs of this machine find /.*x86_64-linux-gnu/libcuda.so.1 before" "$work/install.log" || fail "nobody is told: $(cat "$work/install.log")"
rm "$root/usr/lib/x86_64-linux-gnu/libcuda.so.1"
in_root ldconfig

step "ivgpud as its unit starts it, a program of the group, ivgpuctl and ivgpu-doctor"
sed -i 's/device = "cuda"/device = "soft"/' "$root/etc/ivgpu/ivgpud.conf"
arguments=$(sed -n 's/^ExecStart=//p' "$root/usr/lib/systemd/system/ivgpud.service")
in_root setpriv --reuid ivgpu --regid ivgpu --init-groups --no-new-privs $arguments > "$work/ivgpud.log" 2>&1 &
for try in $(seq 100); do [[ -S $root/run/ivgpu/control.sock ]] && break; sleep 0.1; done
in_root ivgpuctl list > "$work/list" || { cat "$work/ivgpud.log"; fail "ivgpuctl list"; }
grep -q '^pool A' "$work/list" || fail "ivgpuctl list: $(cat "$work/list")"
in_root setpriv --reuid nobody --regid ivgpu --clear-groups /tmp/program > "$work/program" 2>&1 || { cat "$work/program" "$work/ivgpud.log"; fail "a program of the group"; }
grep -q "launches: right" "$work/program" || fail "$(cat "$work/program")"
! in_root setpriv --reuid nobody --regid nogroup --clear-groups /tmp/program > "$work/program" 2>&1 || fail "a stranger's program ran"
grep -q "error 3" "$work/program" || fail "a stranger is told: $(cat "$work/program")"

in_root ivgpu-doctor > "$work/doctor" || { cat "$work/doctor"; fail "ivgpu-doctor complains of a fresh installation"; }
grep -qE '^ok +copies .*every word right' "$work/doctor" || fail "ivgpu-doctor: $(cat "$work/doctor")"

step "a container by the CDI file: another root, without ivgpu"
image=$work/root/image
overlay "$image" "$work/root/image_upper" "$work/root/image_layers"
cp "$build/tests/cuda/launches" "$image/tmp/program"
python3 -B "$here/cdi.py" "$root/etc/cdi/ivgpu-local.json" ivgpu/gpu=local > "$work/mounts" || fail "cdi.py"
while read -r from to; do
        mkdir -p "$(dirname "$image$to")"
        [[ -e $image$to ]] || touch "$image$to"
        mount --bind "$root$from" "$image$to"
done < "$work/mounts"
chroot "$image" env -i /tmp/program > "$work/program" 2>&1 || { cat "$work/program"; fail "a program in the container"; }
grep -q "launches: right" "$work/program" || fail "$(cat "$work/program")"
umount -R "$image"
python3 -B "$here/cdi.py" "$root/etc/cdi/ivgpu-guest.json" ivgpu/gpu=0 > /dev/null || fail "cdi.py: the guest's"

step "reload says what is wrong; ivgpud ends in order"
echo 'nonsense' >> "$root/etc/ivgpu/ivgpud.conf"
! in_root ivgpuctl reload > "$work/reload" 2>&1 || fail "a broken configuration is taken"
grep -q ivgpud.conf "$work/reload" || fail "reload says $(cat "$work/reload")"
kill "$(in_root pgrep -x ivgpud)"
wait %1 || fail "ivgpud ended with $?"

step "systemd as process 1: the unit in its sandbox, QEMUs outlive ivgpud"
sed -i '/^nonsense$/d; s/^#  { vm_id = 1; name = "web".*/  { vm_id = 1; name = "web"; pool = "A"; socket = "\/run\/ivgpu\/vm\/web.sock"; region_mib = 256; channels = 6; vectors = 7; }/' "$root/etc/ivgpu/ivgpud.conf"
bash "$here/boot_systemd.bash" "$root" "$work/root" "$build/tests/cuda" > "$work/systemd.log" 2>&1 || { cat "$work/systemd.log"; fail "under systemd"; }
tail -n 1 "$work/systemd.log"

step "ivgpu-run as installed"
in_root ivgpu-run --device soft -- /tmp/program > "$work/program" 2>&1 || { cat "$work/program"; fail "ivgpu-run"; }
grep -q "launches: right" "$work/program" || fail "$(cat "$work/program")"

step "pages and completions"
for name in ivgpu-host ivgpu-guest ivgpu-tools; do
        for program in $(paths $name | grep -E '^/usr/(s?bin|lib/ivgpu-host)/ivgpu[^/]*$'); do
                in_root man -w "${program##*/}" > /dev/null 2>&1 || fail "no page of $program"
        done
done

step "removing: configuration stays; purging: nothing stays"
in_root dpkg -r ivgpu-guest ivgpu-guest-dkms ivgpu-host ivgpu-tools > "$work/remove.log" 2>&1 || { cat "$work/remove.log"; fail "dpkg -r"; }
[[ -e $root/etc/ivgpu/ivgpud.conf ]] || fail "the configuration did not survive removal"
[[ -z $(in_root dkms status -m ivgpu) ]] || fail "DKMS keeps the driver"
[[ -z $(found) ]] || fail "programs still find $(found)"
in_root dpkg -P ivgpu-guest ivgpu-guest-dkms ivgpu-host ivgpu-tools > "$work/purge.log" 2>&1 || { cat "$work/purge.log"; fail "dpkg -P"; }
! grep -i "warning\|not empty" "$work/remove.log" "$work/purge.log" || fail "removal complains"
# Left in the upper layer: what differs from the lower one, but for dpkg's, ldconfig's and man's own files and accounts' backups.
(cd "$work/root/upper" && find . -mindepth 1 \( -type f -o -type l -o -type d \) | while read -r path; do
        path=${path#.}
        case $path in
        /var/lib/dpkg* | /var/log* | /var/cache/ldconfig* | /var/cache/man* | /etc/ld.so.cache | /etc/.pwd.lock | /etc/*- | /root* | /etc/dpkg/dpkg.cfg.d/test | /var/lib/man-db*) continue ;;
        esac
        if [[ -d $work/root/upper$path && ! -L $work/root/upper$path ]]; then
                [[ -d $path ]] || echo "$path/"
        elif ! cmp -s "$work/root/upper$path" "$path"; then
                echo "$path"
        fi
done) > "$work/left"
[[ ! -s $work/left ]] || fail "left behind: $(cat "$work/left")"
echo "packages: OK ($(cd "$work/made" && ls | tr '\n' ' '))"
INSIDE
