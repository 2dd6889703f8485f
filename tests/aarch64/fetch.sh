#!/bin/sh
# An AArch64 Python with NumPy and pytest in $1/root and $1/site, unpacked from Debian's packages and from wheels; nothing is installed.
# $2: a Python with pip. A second run does nothing.
set -eu
folder=$1
test -e "$folder/fetched" && exit 0
command -v aarch64-linux-gnu-g++ qemu-aarch64 > /dev/null || {
  echo "needs a cross compiler and user-mode emulation (Debian: apt-get install g++-aarch64-linux-gnu qemu-user)" >&2
  exit 1
}
mkdir -p "$folder/debs" "$folder/root"
dpkg --print-foreign-architectures | grep -q arm64 || {
  dpkg --add-architecture arm64
  apt-get update -q
}
packages=$(for p in python3.11 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 \
  libffi8 libbz2-1.0 liblzma5 libuuid1 libcrypt1 libsqlite3-0; do echo "$p:arm64"; done)
(cd "$folder/debs" && apt-get download -q $packages)
for deb in "$folder"/debs/*.deb; do dpkg -x "$deb" "$folder/root"; done
"$2" -m pip --disable-pip-version-check -q install --target "$folder/site" --python-version 3.11 --implementation cp --only-binary=:all: \
  --platform manylinux2014_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 numpy safetensors pytest hypothesis
touch "$folder/fetched"
