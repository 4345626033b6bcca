# Shared by the scripts: say, die, the cache. Sourced, never run.

say() { printf '%s\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Outside the checkout: a fresh clone does not fetch again what this user already has.
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tailmill

# with_lock NAME COMMAND…: one at a time, so that two builds of one user do not fetch the same thing twice.
with_lock() {
    local name=$1
    shift
    mkdir -p "$cache"
    if have flock; then
        (
            flock 9
            "$@"
        ) 9>"$cache/$name.lock"
    else
        "$@"
    fi
}
