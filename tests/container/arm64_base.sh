#!/usr/bin/env bash
# An emulator for arm64, and the official base of that platform in this machine's Docker Engine: what
# tests/container/test_arm64.py needs. Where no image can be pulled, a stand-in takes the base's place,
# of Debian's packages, which are unpacked and not set up: that would take minutes in the emulator.
# Needs root, and Debian's qemu-user-static and mmdebstrap.
set -euo pipefail
cd "$(dirname "$0")/../.."

docker=/usr/bin/docker
[ -x "$docker" ] || docker=docker
base=arm64v8/$(awk '/^FROM/ { print $2; exit }' Dockerfile)

missing=()
[ -e /usr/lib/binfmt.d/qemu-aarch64.conf ] || missing+=(qemu-user-static)
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
if [ "${#missing[@]}" -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi

formats=/proc/sys/fs/binfmt_misc
[ -e "$formats/register" ] || mount -t binfmt_misc binfmt_misc "$formats"
[ -e "$formats/qemu-aarch64" ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$formats/register"

"$docker" image inspect "$base" >/dev/null 2>&1 && exit
"$docker" pull --quiet --platform linux/arm64 "$base" 2>/dev/null && exit

echo "$base cannot be pulled: a stand-in is made of Debian's packages"
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mirror=$(cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null |
    awk '/^URIs:/ { print $2; exit } $1 == "deb" { print $2; exit }')
mmdebstrap --quiet --architectures=arm64 --variant=extract \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --include='?essential' --include=apt,python3,python3-venv,python3-pip \
    "${base##*-}" "$context/base.tar" "$mirror" >/dev/null
# This machine's, so that pip works in a build.
cp /etc/ssl/certs/ca-certificates.crt "$context/"
cat >"$context/Dockerfile" <<'END'
FROM scratch
ADD base.tar /
COPY ca-certificates.crt /etc/ssl/certs/
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt
RUN mkdir -p /usr/local/bin && chmod 1777 /tmp \
 && ln -s /usr/bin/python3 /usr/local/bin/python && ln -s /usr/bin/python3 /usr/local/bin/python3
CMD ["python3"]
END
DOCKER_BUILDKIT=1 "$docker" build --quiet --network host --platform linux/arm64 --tag "$base" "$context"
