#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the image of a bare Debian 12 with nothing but SSH, sudo and python3, unless it exists; prints its name.
# systemd-resolved is there and off.
#
#   host_image.sh CACHE_DIRECTORY
#
# Not that of the local provider: these hosts stand for servers that somebody else has set up.
set -euo pipefail
umask 022

suite=bookworm
packages=systemd,systemd-sysv,systemd-resolved,dbus,openssh-server,sudo,python3
# The kernel's, which a container shares with the machine that runs it.
masked=(
  console-getty.service getty@tty1.service getty-static.service systemd-firstboot.service
  dev-hugepages.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount
  sys-fs-fuse-connections.mount systemd-remount-fs.service systemd-modules-load.service
  systemd-random-seed.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount
)

cache=${1:?usage: host_image.sh CACHE_DIRECTORY}
hash=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-16)
image=localhost/kwhosts:$hash
archive=$cache/$hash.tar
mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if ! podman image exists "$image"; then
  rm -rf "$cache"/build.* "$cache"/*.new
  if [ ! -s "$archive" ]; then
    tree=$(mktemp -d "$cache/build.XXXXXX")
    chmod 755 "$tree"
    # shellcheck disable=SC2016 # apt's own placeholders
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Identifier: Packages' 'Component: main' |
      awk -v suite="$suite" '$1 == suite { print $2; exit }')
    proxy=
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    [ -z "$proxy" ] || export http_proxy="$proxy"
    unshare --mount --propagation private --pid --fork --kill-child \
      debootstrap --variant=minbase --include="$packages" "$suite" "$tree" ${mirror:+"$mirror"} >&2
    rm -rf "$tree"/etc/ssh/ssh_host_* "$tree"/etc/hostname "$tree"/etc/resolv.conf \
      "$tree"/var/lib/dbus/machine-id "$tree"/var/cache/apt/* \
      "$tree"/var/lib/apt/lists/* "$tree"/etc/sysctl.d/* "$tree"/usr/lib/sysctl.d/*
    : >"$tree/etc/machine-id"
    systemctl --root="$tree" mask "${masked[@]}" >&2
    systemctl --root="$tree" disable systemd-resolved.service >&2
    systemctl --root="$tree" disable ssh.service >&2 # until it has keys
    tar --create --numeric-owner --xattrs --directory "$tree" --file "$archive.new" .
    mv "$archive.new" "$archive"
    rm -rf "$tree"
  fi
  podman import --change 'CMD ["/sbin/init"]' "$archive" "$image" >&2
fi
printf '%s\n' "$image"
