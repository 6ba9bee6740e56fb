# akmd DIR ARGUMENT...: the installed program itself, with this standard input, output and exit code.
dir=$1
shift
[ -x "$dir/current/akmd" ] || fail absent "$dir"
exec "$dir/current/akmd" "$@"
