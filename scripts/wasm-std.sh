# How Rust is compiled to wasm on this machine. Sourced by build-filters and cargo-wasm, after lib.sh.
#
# The wasm standard library comes with rustup; where rustup cannot have it, Debian's compiler and a standard library
# built from its sources do (TAILMILL_WASM_STD=rustup|debian decides by force).

TARGET=wasm32-unknown-unknown

has_rustup_std() { compgen -G "$(rustc --print target-libdir --target $TARGET 2>/dev/null)/libcore-*.rlib" >/dev/null; }

add_rustup_std() {
    has_rustup_std && return 0
    have rustup || return 1
    say "build-filters: adding the $TARGET standard library"
    rustup target add $TARGET >&2 && has_rustup_std
}

# Debian's compiler: newer than Debian's rustc, and with the sources of its standard library.
DEBIAN_PACKAGES=(rustc-web rust-web-src)

debian_std_src() { [ -x /usr/bin/rustc ] && [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std" ]; }

add_debian_std() {
    debian_std_src && return 0
    have apt-get && [ "$(id -u)" = 0 ] || return 1
    say "build-filters: installing ${DEBIAN_PACKAGES[*]}"
    local try
    for try in 1 2; do
        DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "${DEBIAN_PACKAGES[@]}" \
            </dev/null >&2 && break
        [ $try = 1 ] && apt-get -qq update </dev/null >&2 || return 1
    done
    debian_std_src
}

linker() {
    local lld
    lld=$(find "$(rustc --print sysroot)/lib/rustlib" -name rust-lld -type f 2>/dev/null | head -n 1)
    [ -n "$lld" ] && echo "$lld" || command -v wasm-ld
}

choose_std() {
    case ${TAILMILL_WASM_STD:-} in
        '' | rustup | debian) ;;
        *) die "TAILMILL_WASM_STD is '$TAILMILL_WASM_STD': say rustup or debian" ;;
    esac
    if [ "${TAILMILL_WASM_STD:-rustup}" = rustup ] && add_rustup_std; then
        echo rustup
    elif [ "${TAILMILL_WASM_STD:-debian}" = debian ] && add_debian_std; then
        echo debian
    else
        die "no standard library for $TARGET: run 'rustup target add $TARGET', or install ${DEBIAN_PACKAGES[*]}"
    fi
}

# cargo_wasm BUILD-DIR CARGO-ARGUMENTS…: builds with $std (what choose_std said). Debian's compiler gets a directory of its
# own under BUILD-DIR: the other compiler's output is of no use to it.
cargo_wasm() {
    local dir=$1 lld
    shift
    if [ "$std" = rustup ]; then
        CARGO_TARGET_DIR=$dir cargo build --quiet --target $TARGET "$@"
    else
        lld=$(linker) || die "no linker for wasm: install the package lld"
        RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$lld \
            CARGO_TARGET_DIR=$dir/debian \
            cargo build --quiet -Zbuild-std=std,panic_abort --target $TARGET "$@"
    fi
}

# wasm_output BUILD-DIR PROFILE: where the modules are then.
wasm_output() {
    [ "$std" = rustup ] && echo "$1/$TARGET/$2" || echo "$1/debian/$TARGET/$2"
}
