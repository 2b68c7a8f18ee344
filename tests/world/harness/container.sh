# A Debian with systemd in a container, for tests/boot and tests/package, which source it in the root of the repository.
# Needs root, systemd-nspawn and debootstrap; where it cannot run it says so and ends the test without failing it. The system
# is made once, below target/test-tools; what a run writes to it is gone with the container.
set -uo pipefail

target=${CARGO_TARGET_DIR:-target}
# The release of this machine, whose C library the binary is linked to.
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
packages=systemd,systemd-sysv,dbus,openssl,procps,man-db,ca-certificates
system=$target/test-tools/boot-$suite
log=$target/tmp/$(basename "$0").log
# How long a system may take to boot, on a machine that does much else.
boot_ms=60000

first=
nspawn=

skip() {
  echo "skipped: $*"
  mkdir -p "$target/tmp"
  echo "a booted systemd: $*" >> "$target/tmp/skipped"
  exit 0
}

fail() {
  echo "FAILED: $*"
  inside journalctl --no-pager --output short-precise --unit fanfare --lines 40
  exit 1
}

need() { command -v "$1" > /dev/null; }

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# within MS COMMAND…: waits until it succeeds.
within() {
  local limit=$1 start=$(now_ms)
  shift
  until "$@"; do
    [ $(($(now_ms) - start)) -lt "$limit" ] || fail "not after $limit ms: $*"
    sleep 0.02
  done
  local took=$(($(now_ms) - start))
  [ $took -lt "$limit" ] || fail "only after $took ms: $*"
  echo "   after $took ms: $*"
}

# Ends the test where there can be no container; else makes the system, if there is none yet.
prepare() {
  local program
  [ "$(id -u)" -eq 0 ] || skip "needs root"
  for program in systemd-nspawn debootstrap nsenter; do
    need $program || skip "$program is missing (apt-get install systemd-container debootstrap)"
  done
  mkdir -p "$target/tmp"
  [ "$(cat "$system.packages" 2> /dev/null)" != "$packages" ] || return 0
  rm -rf --one-file-system "$system" "$system.packages"
  mkdir -p "$(dirname "$system")"
  echo "-- a $suite is made in $system; this takes minutes"
  if ! debootstrap --variant=minbase --include=$packages "$suite" "$system" > "$target/tmp/debootstrap.log" 2>&1; then
    rm -rf --one-file-system "$system"
    skip "debootstrap: $(tail -n 1 "$target/tmp/debootstrap.log")"
  fi
  echo $packages > "$system.packages"
}

# boot OPTION…: with more options for systemd-nspawn. The repository is /src in it.
boot() {
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 setsid systemd-nspawn --quiet --directory="$system" --volatile=overlay --register=no \
    --keep-unit --private-network --console=read-only --bind-ro="$PWD:/src" "$@" --boot > "$log" 2>&1 < /dev/null &
  nspawn=$!
  trap end EXIT
  local start=$(now_ms)
  until has_booted; do
    kill -0 $nspawn 2> /dev/null || skip "systemd-nspawn: $(tail -n 1 "$log")"
    [ $(($(now_ms) - start)) -lt $boot_ms ] || skip "it has not booted after $boot_ms ms: $(tail -n 1 "$log")"
    sleep 0.1
  done
}

has_booted() {
  first=$(cat /proc/$nspawn/task/$nspawn/children 2> /dev/null)
  # The child of systemd-nspawn is process 1 of the container.
  first=${first%% *}
  [ -n "$first" ] && [[ "$(inside systemctl is-system-running 2> /dev/null)" =~ ^(running|degraded)$ ]]
}

end() {
  # Nothing in it is worth an orderly end.
  kill -KILL "${first:-$nspawn}" 2> /dev/null
  wait "$nspawn" 2> /dev/null
}

# inside COMMAND…: runs it in the container, as root.
inside() { nsenter --target "$first" --all -- "$@"; }

# A property of the service.
property() { inside systemctl show fanfare --property "$1" --value; }
