#!/usr/bin/env bash
# Makes .venv with everything that developing, testing and the demo need, and sees to the system
# libraries of a window. Does only what is missing: run it as often as you like.
set -euo pipefail
cd "$(dirname "$0")/.."

packages="xvfb libegl1 libgl1 libgl1-mesa-dri libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-xinerama0 libxcb-shape0 libdbus-1-3 libfontconfig1"
venv=.venv
stamp=$venv/.installed

# The first Python whose version lies in a range such as "(3, 11) <= v <= (3, 13)".
python_within() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        if [ -n "$candidate" ] && "$candidate" -c \
            "import sys; v = sys.version_info[:2]; sys.exit(not $1)" 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

find_python() {
    # Of the newest Python not every package may have a wheel yet: the last choice.
    python_within "(3, 11) <= v <= (3, 13)" || python_within "(3, 11) <= v" || {
        echo "Python 3.11 or newer is needed and was not found. Install it, or name it:" \
            "make PYTHON=/path/to/python3.12" >&2
        return 1
    }
}

missing_packages() {
    local package
    for package in $packages; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

system_libraries() {
    # Other systems bring a display, or name these packages otherwise.
    [ "$(uname -s)" = Linux ] && command -v dpkg-query >/dev/null || return 0
    local missing
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        echo "Installing $missing" >&2
        # A package list may be stale or absent in a fresh container.
        # shellcheck disable=SC2086
        apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends $missing >&2 </dev/null && return 0
    fi
    # Not the end: a desktop may do without some of them, and what needs them says so.
    echo "These system packages are missing: $missing" >&2
    echo "If no window opens, install them, then run make again:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y $missing" >&2
}

browsers() {
    # For the tests of the page for annotators, which are skipped without a browser. On Ubuntu these
    # packages are snaps, which do not run in a container.
    grep -q '^ID=debian' /etc/os-release 2>/dev/null && [ "$(id -u)" = 0 ] || return 0
    command -v chromium >/dev/null && command -v firefox-esr >/dev/null && return 0
    echo "Installing Chromium and Firefox for the tests of the page for annotators" >&2
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends chromium firefox-esr; } >&2 </dev/null ||
        echo "No browser could be installed: tests/browser will be skipped" >&2
}

make_venv() {
    local python
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return 0
    python=$(find_python)
    echo "Making $venv with $("$python" --version)" >&2
    "$python" -m venv "$venv" 2>/dev/null && return 0
    # Debian splits venv off Python.
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq >&2
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >&2 </dev/null
        "$python" -m venv "$venv"
    else
        echo "A virtual environment could not be made. On Debian or Ubuntu:" \
            "sudo apt-get install -y python3-venv" >&2
        exit 1
    fi
}

install_package() {
    # By content, not by time: a fresh checkout has new times.
    local wanted
    wanted="$(cat pyproject.toml constraints.txt | cksum) $PWD"
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && return 0
    echo "Installing napari-atomicity and what it needs (some minutes the first time)" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade pip >&2
    # pip would compile all packages on one core. Some files of packages do not compile: no error.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
        -c constraints.txt -e ".[dev]" >&2
    "$venv/bin/python" -m compileall -qq -j 0 "$venv"/lib/python*/site-packages >/dev/null || true
    echo "$wanted" >"$stamp"
}

system_libraries
browsers
make_venv
install_package
