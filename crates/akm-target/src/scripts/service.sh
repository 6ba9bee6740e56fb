# Put before start, stop and uninstall: DIR UNIT SYSTEMD UNITS. SYSTEMD is the directory that shows that systemd runs
# here, or empty where it is not to be used; UNITS is where its units are.
dir=$1
unit=$2
systemd=$3
units=$4

with_systemd() { [ -n "$systemd" ] && [ -d "$systemd" ] && has systemctl; }

# akmd_quietly COMMAND OPTION...: the program may leave itself in the background, and must not hold this script's own
# output then.
akmd_quietly() {
    said=$dir/run/.said
    command=$1
    shift
    "$dir/current/akmd" "$command" --dir "$dir" "$@" >"$said" 2>&1 </dev/null
    code=$?
    [ "$code" = 0 ] || cat "$said" >&2
    rm -f "$said"
    return "$code"
}

stop_unit() {
    if with_systemd && [ -e "$units/$unit" ]; then
        systemctl stop "$unit" || fail failed "systemctl stop $unit"
    fi
}

# A program that cannot be started any more (codes 126 and 127) cannot be running either.
stop_program() {
    [ -x "$dir/current/akmd" ] || return 0
    [ -d "$dir/run" ] || return 0
    akmd_quietly stop
    case $? in
    0 | 126 | 127) ;;
    *) fail failed "akmd stop --dir $dir" ;;
    esac
}
