# elevate SCRIPT ARGUMENT...: runs the script as root, at once or by sudo without a question.
LC_ALL=C
export LC_ALL
script=$1
shift
if [ "$(id -u)" = 0 ]; then
    exec sh -c "$script" akm "$@"
fi
if ! command -v sudo >/dev/null 2>&1; then
    printf 'akm-error:no-sudo:%s\n' "$(id -un)" >&2
    exit 121
fi
if ! sudo -n sh -c : </dev/null >/dev/null; then
    printf 'akm-error:sudo-refused:%s\n' "$(id -un)" >&2
    exit 121
fi
exec sudo -n sh -c "$script" akm "$@"
