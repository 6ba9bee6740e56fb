# Put before every other script. LC_ALL=C: messages are read by a program.
LC_ALL=C
export LC_ALL
umask 022

say() { printf 'akm:%s=%s\n' "$1" "$2"; }

# The last word of a script that cannot go on: a kind that the caller knows, and a path or a reason.
fail() {
    printf 'akm-error:%s:%s\n' "$1" "$2" >&2
    exit 121
}

has() { command -v "$1" >/dev/null 2>&1; }

# Read from standard input, because sha256sum marks a path that holds a backslash.
hash_of() {
    sum=$(sha256sum <"$1") || return 1
    printf '%s' "${sum%% *}"
}

# absent, blocked (a file is where a directory should be), owned (another user can change what is in it), empty, ours or
# foreign.
kind_of() {
    if [ ! -e "$1" ] && [ ! -L "$1" ]; then
        above=$(nearest "$1")
        [ -d "$above" ] && printf absent || printf blocked
    elif [ ! -d "$1" ]; then
        printf blocked
    elif ! is_own "$1" || ! is_own "$1/releases" || ! is_own "$1/state" || ! is_own "$1/run"; then
        printf owned
    elif link=$(readlink "$1/current" 2>/dev/null) && [ "${link%/*}" = releases ] && is_release "${link#*/}"; then
        # Whatever else was put beside it.
        printf ours
    else
        # Cut off before the first switch. Others have directories of these names too: ours hold nothing but ours.
        found=empty
        for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
            [ -e "$entry" ] || [ -L "$entry" ] || continue
            case ${entry##*/} in
            releases | state | run | .current-*) found=ours ;;
            *)
                printf foreign
                return
                ;;
            esac
        done
        for entry in "$1"/releases/* "$1"/releases/.[!.]*; do
            [ -e "$entry" ] || [ -L "$entry" ] || continue
            is_release "${entry##*/}" || found=foreign
        done
        if [ "$found" = ours ] && [ ! -d "$1/releases" ]; then
            found=foreign
        fi
        printf '%s' "$found"
    fi
}

# Whether nobody else owns it, if it is there: its owner could put another program in its place.
is_own() { [ ! -e "$1" ] || [ -O "$1" ]; }

# Whether a name is one that we give: sixteen hexadecimal digits, or a staging place.
is_release() {
    case $1 in
    .staging-*) ;;
    *[!0-9a-f]*) return 1 ;;
    ????????????????) ;;
    *) return 1 ;;
    esac
}

# The path itself or the nearest of its parents that exists.
nearest() {
    place=$1
    while [ ! -e "$place" ]; do
        place=${place%/*}
        [ -n "$place" ] || place=/
    done
    printf '%s' "$place"
}

# is_good RELEASE MANIFEST_SHA256: all files there, as the manifest says, and no other. Else $damage says what is not.
is_good() {
    damage=manifest
    [ -f "$1/manifest" ] && [ "$(hash_of "$1/manifest")" = "$2" ] || return 1
    [ -n "$(find "$1/manifest" -type f -perm 0644)" ] || return 1
    while read -r want mode path; do
        damage=$path
        [ -f "$1/$path" ] && [ "$(hash_of "$1/$path")" = "$want" ] || return 1
        [ -n "$(find "$1/$path" -type f -perm "$mode")" ] || return 1
    done <"$1/manifest"
    for entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        damage=${entry##*/}
        case $damage in
        akmd | akmd.toml | akmd.service | manifest) ;;
        *) return 1 ;;
        esac
    done
    damage=
}

# What the program says of itself, in $version.
ask_version() {
    version=$("$1/akmd" --version 2>&1 </dev/null) || fail unfit "${version:-it ended without a word}"
    case $version in
    'akmd '?*) ;;
    *) fail unfit "${version:-it said nothing}" ;;
    esac
}

# make_durable FILE...: only these where `sync` can, else all.
make_durable() { sync "$@" 2>/dev/null || sync; }
