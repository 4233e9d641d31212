#!/bin/bash
# The driver as a DKMS package, with Debian's dkms: added, built, signed, installed where modprobe finds it, and removed.
# In a mount namespace: this machine's modules and keys stay as they are. usage: dkms.bash WORK_FOLDER KERNEL
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kmod=$here/../../guest/kmod
for need in dkms unshare modprobe; do
        command -v $need > /dev/null || { echo "skipped: no $need on this machine"; exit 77; }
done
[[ $(id -u) -eq 0 ]] || { echo "skipped: a mount namespace needs root"; exit 77; }
mkdir -p "$1"
work=$(mktemp -d "$(realpath "$1")/dkms.XXXXXX") kernel=$2
trap 'rm -rf "$work"' EXIT
[[ -e /lib/modules/$kernel/build ]] || { echo "skipped: no headers of kernel $kernel"; exit 77; }
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' "$kmod/dkms.conf")
mkdir -p "$work/source/ivgpu-$version"
cp "$kmod"/*.c "$kmod"/*.h "$kmod"/{Kbuild,Makefile,dkms.conf} "$work/source/ivgpu-$version/"
# Links: depmod puts new files in the place of old ones, it does not write into them.
cp -al "/lib/modules/$kernel" "$work/modules" 2> /dev/null || cp -a "/lib/modules/$kernel" "$work/modules"

unshare --mount bash -euo pipefail -s "$work" "$kernel" "$version" << 'INSIDE'
work=$1 kernel=$2 version=$3
fail() { echo "FAILED: $*" >&2; cat "$work/log" >&2; exit 1; }
mount -t tmpfs tmpfs /var/lib/dkms
mount --bind "$work/modules" "/lib/modules/$kernel"
dkms install --sourcetree "$work/source" -m ivgpu -v "$version" -k "$kernel" > "$work/log" 2>&1 || { cat /var/lib/dkms/ivgpu/*/build/make.log >> "$work/log" 2> /dev/null || true; fail "dkms install"; }
[[ $(dkms status -m ivgpu -v "$version" -k "$kernel") == *": installed"* ]] || fail "status: $(dkms status)"
file=$(modinfo -k "$kernel" -n ivgpu)
[[ $file == "/lib/modules/$kernel/updates/dkms/ivgpu.ko"* ]] || fail "modinfo finds $file"
[[ $(modinfo -F version "$file") == "$version" ]] || fail "the module's version is $(modinfo -F version "$file")"
[[ -n $(modinfo -F signer "$file") ]] || fail "not signed"
# What udev asks when the device comes.
modprobe -S "$kernel" --show-depends "pci:v00001AF4d00001110sv00001AF4sd00001100bc05sc00i00" | grep -q "ivgpu.ko" || fail "no alias of the device leads to it"
dkms remove -m ivgpu -v "$version" --all >> "$work/log" 2>&1 || fail "dkms remove"
[[ ! -e $file ]] || fail "$file is still there"
echo "dkms: OK (ivgpu $version for $kernel)"
INSIDE
