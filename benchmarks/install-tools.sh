#!/bin/sh
# Installs the servers and tools for `make bench` on Debian, without starting any service.
set -eu
[ "$(id -u)" = 0 ] || { echo "install-tools.sh: only root can install packages" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' > "$policy" # "action forbidden": packages start no service
  chmod 755 "$policy"
fi
apt-get update -qq
apt-get -o DPkg::Lock::Timeout=60 install -qq -y --no-install-recommends openssl nginx-extras libnginx-mod-http-dav-ext \
  xrootd-server xrootd-plugins xrootd-server-plugins xrootd-client davix rclone aria2 curl
