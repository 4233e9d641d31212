#!/bin/sh
# Compiles every kernel of this folder to PTX. The architecture stands in the first line of each source.
set -eu
cd "$(dirname "$0")"
for source in *.cu; do
        arch=$(sed -n '1s|// arch: ||p' "$source")
        flags=$(sed -n '2s|// flags: ||p' "$source")
        # shellcheck disable=SC2086 # flags are words
        nvcc -ptx -arch="$arch" $flags -o "${source%.cu}.ptx" "$source"
        echo "$source: $arch $flags"
done
