# shellcheck shell=bash
#
# What `quickstart` and `test` need on the machine: checks for each thing, and installs what is missing, saying what
# and why. Sourced, never run. Must not touch anything that is there already: no upgrade, no service, no default
# toolchain is changed.
#
# The caller sets `set -euo pipefail` and `root`, the project's folder.

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $1"
    [ $# -lt 2 ] || say "hint: $2"
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

has_rdkit() {
    local python
    for python in python3 /usr/bin/python3; do
        "$python" -c 'import rdkit' >/dev/null 2>&1 && return
    done
    return 1
}

# A linker without the C library's start files is no use, and Debian's gcc only recommends them.
has_linker() {
    local folder status=0
    has cc || return 1
    folder=$(mktemp -d)
    echo 'int main(void) { return 0; }' >"$folder/main.c"
    cc -o "$folder/main" "$folder/main.c" >/dev/null 2>&1 || status=1
    rm -r "$folder"
    return "$status"
}

# Debian packages to install, and for each a line that says why.
packages=()
reasons=()

want() {
    packages+=("$1")
    reasons+=("  $1: $2")
}

want_for_docking() {
    has redis-server || has valkey-server || want redis-server "the work queue; a private one is started, no system service is used"
    has redis-cli || want redis-tools "redis-cli, to look into the queue"
    has vina || want autodock-vina "the docking engine"
    has obabel || want openbabel "turns receptors and ligands into PDBQT"
    has_rdkit || want python3-rdkit "makes 3D structures from SMILES"
}

want_for_mmgbsa() {
    has gmx || want gromacs "the molecular dynamics of the engine gromacs-mmgbsa"
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || want python3-venv "holds the programs of that engine that Debian lacks"
    has_library libXrender.so.1 || want libxrender1 "acpype draws with it, or crashes"
    has_library libXext.so.6 || want libxext6 "the same"
}

want_for_enumeration() {
    has nauty-geng || want nauty "its graph generator geng stands for engines that enumerate"
}

has_library() { compgen -G "/usr/lib/$1*" >/dev/null || compgen -G "/usr/lib/*/$1*" >/dev/null; }

want_for_building() {
    has_linker || {
        want gcc "links Rust programs"
        want libc6-dev "the C library that Rust programs are linked with"
    }
}

# Installs the packages that were wanted, in one go.
install_packages() {
    local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
    [ "${#packages[@]}" -gt 0 ] || return 0
    say "Installing what is missing on this machine:"
    printf '%s\n' "${reasons[@]}" >&2
    has apt-get || die "can't install ${packages[*]}: there is no apt-get here" \
        "install these programs with your system's package manager, then run this again"
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || die "can't install packages: neither root nor sudo" \
            "as root: apt-get install --no-install-recommends ${packages[*]}"
        apt=(sudo "${apt[@]}")
    fi
    "${apt[@]}" update >&2
    "${apt[@]}" install -y --no-install-recommends -o Dpkg::Use-Pty=0 "${packages[@]}" >&2
    packages=()
    reasons=()
}

# Python packages of the tests, in a folder of their own that is made once: GNINA's networks on a CPU, for the engine `gnina`.
rustina_venv() { echo "${root:?}/target/rustina-0.9.0"; }

want_for_rustina() {
    [ -x "$(rustina_venv)/bin/python3" ] || python3 -c 'import ensurepip' 2>/dev/null ||
        want python3-venv "keeps the Python packages of the tests in a folder of their own"
}

# Appears under its name only when it is whole, so that an installation that was cut off is made again.
prepare_rustina() {
    local venv new
    venv=$(rustina_venv) new="$(rustina_venv).new"
    [ ! -x "$venv/bin/python3" ] || return 0
    say "Installing rustina 0.9.0 from PyPI into $venv, some 550 MB: the tests dock with it where gnina would be."
    rm -rf "$venv" "$new"
    python3 -m venv "$new"
    "$new/bin/pip" install -q --disable-pip-version-check 'rustina[prep]==0.9.0' >&2 ||
        die "rustina can't be installed from PyPI" "is PyPI reachable? pip says above what is wrong"
    "$new/bin/python3" -c 'import rustina, meeko'
    mv "$new" "$venv"
}

# The Rust version of rust-toolchain.toml.
wanted_rust() { sed -n 's/^channel *= *"\(.*\)"/\1/p' "${root:?}/rust-toolchain.toml"; }

# Whether the cargo and rustc that are called now are as new as version $1, with the cargo subcommands $2….
rust_is_enough() {
    local wanted=$1 program found
    shift
    for program in cargo rustc; do
        found=$("$program" --version 2>/dev/null | cut -d' ' -f2) || return 1
        [ "$(printf '%s\n' "$wanted" "${found%%-*}" | sort -V | head -n 1)" = "$wanted" ] || return 1
    done
    for program in "$@"; do
        cargo "$program" --version >/dev/null 2>&1 || return 1
    done
}

# Makes `cargo` a new enough one: one that is installed, or else one from rustup. $@: cargo subcommands it must have.
# rustup would download the pinned toolchain even if a newer one is there, so an installed one is named to it.
prepare_rust() {
    local wanted toolchain bin=${CARGO_HOME:-$HOME/.cargo}/bin
    wanted=$(wanted_rust)
    # rustup's programs come first: an old cargo of the distribution would hide them otherwise.
    [ ! -x "$bin/cargo" ] || PATH="$bin:$PATH"
    if has rustup; then
        for toolchain in $(cd / && rustup toolchain list | cut -d' ' -f1 | installed_rust_in_order "$wanted"); do
            export RUSTUP_TOOLCHAIN=$toolchain
            ! rust_is_enough "$wanted" "$@" || return 0
        done
        unset RUSTUP_TOOLCHAIN
        say "Installing Rust $wanted by rustup: this project needs it, and no installed toolchain is as new with ${*:-cargo}."
        (cd / && rustup toolchain install "$wanted" --profile minimal --component clippy,rustfmt) >&2
        export RUSTUP_TOOLCHAIN=$wanted
    elif ! rust_is_enough "$wanted" "$@"; then
        has curl || want curl "fetches rustup, the installer of Rust"
        [ -e /etc/ssl/certs/ca-certificates.crt ] || want ca-certificates "lets curl check whom it talks to"
        install_packages
        say "Installing Rust $wanted by rustup into $(dirname "$bin"): this project needs it, and no cargo as new is here."
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
            sh -s -- -y --no-modify-path --profile minimal --default-toolchain "$wanted" --component clippy rustfmt >&2
        PATH="$bin:$PATH"
    fi
    rust_is_enough "$wanted" "$@" || die "there is still no cargo of version $wanted or newer" \
        "install Rust from https://rustup.rs, then run this again"
}

# Toolchain names from stdin, the pinned one first, then stable ones; never a nightly or beta.
installed_rust_in_order() {
    local wanted=$1 names
    names=$(grep -Ev '^(nightly|beta)|^no installed' || true)
    grep "^$wanted" <<<"$names" || true
    grep -v "^$wanted" <<<"$names" || true
}
